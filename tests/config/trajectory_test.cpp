// SPDX-License-Identifier: Apache-2.0
#include "config/trajectory.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <set>
#include <string>
#include <vector>

#include "config/config_file.h"
#include "config/document.h"

using namespace temper;
using temper::testing::ConfigFile;
using temper::testing::kValid;
namespace data = boost::unit_test::data;

namespace {

const std::string kBase =
    kValid + "schedule:\n  name: wsd\n  warmup_steps: 1\nparallel:\n  stage: 1\n";

TrajectoryFacts facts() {
  return {.model_fingerprint = "model-1", .data_fingerprints = {"data-1"}, .num_steps = 10};
}

std::string digest(const std::vector<std::string>& overrides, const TrajectoryFacts& given) {
  return trajectory_digest(
      trajectory_text(load_run_config(ConfigFile(kBase).path(), overrides), given));
}

// Every option: those that decide the result, and those that do not.
const std::vector<std::string> kDeciding = {
    "data.train=[{path: shard.h5, weight: 2}]",
    "data.train=[{path: shard.h5, epochs: 2}]",
    "data.train=[{path: shard.h5, max_tokens: 2}]",
    "data.sequence_length=77",
    "data.global_batch=16",
    "data.micro_batch=4",
    "data.seed=77",
    "train.max_grad_norm=0.5",
    "train.only=[norms]",
    "train.freeze=[norms]",
    "train.layer_decay=0.7",
    "train.l2_sp=7",
    "train.ema={decay: 0.7}",
    "train.kl={weight: 7}",
    "optimizer.groups=[{match: norms, learning_rate: 0.7}]",
    "optimizer.groups=[{match: norms, learning_rate_ratio: 0.7}]",
    "optimizer.groups=[{match: norms, weight_decay: 0}]",
    "optimizer.learning_rate=0.7",
    "optimizer.beta1=0.7",
    "optimizer.beta2=0.7",
    "optimizer.epsilon=0.7",
    "optimizer.weight_decay=0.7",
    "optimizer.state_dtype=bfloat16",
    "optimizer.state_dtype=int8",
    "schedule.name=cosine",
    "schedule.warmup_steps=2",
    "schedule.floor_ratio=0.2",
    "schedule.decay_ratio=0.2",
    "parallel.reduction=fast",
    "model.device=cuda",
    "method=lora",
};
// The same for adapters, beside the method that they belong to.
const std::vector<std::string> kDecidingAdapter = {
    "lora.rank=7",
    "lora.alpha=7",
    "lora.dropout=0.1",
    "lora.targets=[q_proj]",
    "lora.target_pattern=x",
    "lora.layers=[1]",
    "lora.rank_pattern=[{module: q_proj, rank: 7}]",
    "lora.alpha_pattern=[{module: q_proj, alpha: 7}]",
    "lora.use_rslora=true",
    "lora.plus_ratio=7",
    "lora.use_dora=true",
    "lora.init=gaussian",
    "lora.modules_to_save=[lm_head]",
    "lora.trainable_tokens=[7]",
    "lora.train_head_rows=false",
    "adapter.seed=7",
    "quantise.type=fp4",
    "quantise.double=false",
    "prefix.tokens=7",
    "prefix.deviation=0.7",
    "prefix.projection=7",
    "bottleneck.placement=pfeiffer",
    "bottleneck.reduction_factor=8",
    "bottleneck.activation=gelu",
    "bottleneck.name=other",
    "prompt.tokens=7",
    "prompt.init=normal",
    "prompt.token_ids=[7]",
};
const std::vector<std::string> kIndifferent = {
    "run.folder=elsewhere",         "model.path=elsewhere",
    "model.end_of_turn=add",        "data.holdout=[{name: h, path: h.h5}]",
    "data.chat_template=any",       "data.chat_template=shard",
    "data.loader_threads=7",        "data.prefetch=7",
    "train.max_skipped_in_a_row=7", "train.log_every_steps=7",
    "train.log_unit_norms=7",       "train.profile={steps: 2-3}",
    "train.sample_prompts=p.jsonl", "train.sample_tokens=7",
    "train.recompute=true",         "train.threads=7",
    "optimizer.offload=elsewhere",  "parallel.stage=0",
    "parallel.prefetch=false",      "checkpoint.every_steps=7",
    "train.time_limit_minutes=7",   "watchdog.silence_seconds=7",
    "watchdog.stall_seconds=7",     "checkpoint.keep=7",
    "checkpoint.resume=never",      "checkpoint.model_dtype=float32",
    "continue.from=elsewhere",      "early_stop.patience=7",
    "early_stop.min_gain=0.5",      "silence=[epochs]",
};
// These count through the facts, or belong to another option.
const std::set<std::string> kElsewhere = {"model.dtype",           "train.max_steps",
                                          "train.epochs",          "train.evaluate_every_steps",
                                          "schedule.warmup_ratio", "adapter.start",
                                          "lora.pissa_niter",      "data.mixture",
                                          "continue.change",       "early_stop.holdout",
                                          "checkpoint.keep_best",  "checkpoint.final"};

}  // namespace

BOOST_AUTO_TEST_SUITE(trajectory)

BOOST_DATA_TEST_CASE(an_option_that_decides_the_result_changes_the_digest, data::make(kDeciding),
                     assignment) {
  BOOST_TEST(digest({assignment}, facts()) != digest({}, facts()));
}

BOOST_DATA_TEST_CASE(an_option_of_an_adapter_changes_the_digest, data::make(kDecidingAdapter),
                     assignment) {
  const std::string section = assignment.substr(0, assignment.find('.'));
  const std::string method = "method=" + (section == "adapter"    ? "lora"
                                          : section == "quantise" ? "qlora"
                                                                  : section);
  BOOST_TEST(digest({method, assignment}, facts()) != digest({method}, facts()));
}

BOOST_AUTO_TEST_CASE(how_principal_parts_are_found_changes_the_digest) {
  const std::vector<std::string> exact = {"method=lora", "lora.init=pissa",
                                          "optimizer.weight_decay=0"};
  std::vector<std::string> random = exact;
  random.push_back("lora.pissa_niter=7");
  BOOST_TEST(digest(random, facts()) != digest(exact, facts()));
}

BOOST_DATA_TEST_CASE(an_option_that_does_not_leaves_the_digest, data::make(kIndifferent),
                     assignment) {
  BOOST_TEST(digest({assignment}, facts()) == digest({}, facts()));
}

BOOST_AUTO_TEST_CASE(every_option_is_in_one_of_the_two_lists) {
  std::set<std::string> covered = kElsewhere;
  for (const auto& list : {kDeciding, kDecidingAdapter, kIndifferent}) {
    for (const std::string& one : list) covered.insert(one.substr(0, one.find('=')));
  }
  std::vector<Problem> problems;
  const YamlNode root =
      parse_yaml(to_yaml(load_run_config(ConfigFile(kBase).path(), {})), problems);
  for (const YamlNode::Entry& section : root.entries) {
    for (const YamlNode::Entry& option : section.value.entries) {
      BOOST_TEST(covered.contains(section.key + "." + option.key),
                 section.key << "." << option.key << " is in neither list");
    }
  }
}

BOOST_AUTO_TEST_CASE(the_facts_decide_too) {
  const std::string base = digest({}, facts());
  TrajectoryFacts other = facts();
  other.model_fingerprint = "model-2";
  BOOST_TEST(digest({}, other) != base);
  other = facts();
  other.data_fingerprints = {"data-2"};
  BOOST_TEST(digest({}, other) != base);
  other = facts();
  other.num_steps = 11;
  BOOST_TEST(digest({}, other) != base);
  other = facts();
  other.compute_dtype = ComputeDtype::kBfloat16;
  BOOST_TEST(digest({}, other) != base);
  other = facts();
  other.start_model_sha256 = "sample-2";
  BOOST_TEST(digest({}, other) == base);  // Where no step needs those weights.
  BOOST_TEST(digest({"train.l2_sp=7"}, other) != digest({"train.l2_sp=7"}, facts()));
  BOOST_TEST(digest({"train.kl={weight: 7}"}, other) != digest({"train.kl={weight: 7}"}, facts()));
  BOOST_TEST(digest({"train.kl={weight: 7, temperature: 2}"}, facts()) !=
             digest({"train.kl={weight: 7}"}, facts()));
  other = facts();
  other.start_fingerprint = "adapter-2";
  BOOST_TEST(digest({"method=lora"}, other) != digest({"method=lora"}, facts()));
}

BOOST_AUTO_TEST_CASE(where_a_run_goes_on_decides_and_so_does_what_begins_anew_there) {
  TrajectoryFacts later = facts();
  later.origin_trajectory = "trajectory-1";
  later.origin_step = 5;
  const std::vector<std::string> goes_on = {"continue.from=c", "continue.change=[data, steps]"};
  const std::string base = digest(goes_on, later);
  BOOST_TEST(base != digest({}, facts()));
  BOOST_TEST(digest({"continue.from=moved", "continue.change=[steps, data]"}, later) == base);
  BOOST_TEST(digest({"continue.from=c", "continue.change=[data]"}, later) != base);
  later.origin_step = 6;
  BOOST_TEST(digest(goes_on, later) != base);
  later = {facts()};
  later.origin_trajectory = "trajectory-2";
  later.origin_step = 5;
  BOOST_TEST(digest(goes_on, later) != base);
}

BOOST_AUTO_TEST_CASE(a_change_has_the_aspect_that_lets_a_run_make_it) {
  const std::string before =
      "continue.step=5\ndata.seed=1\nmodel=a\noptimizer.beta1=1\nsame=1\nsteps=9\n";
  const std::string now =
      "data.seed=2\nmodel=b\noptimizer.beta1=2\nsame=1\nschedule.name=x\nsteps=8\n";
  std::string told;
  for (const TrajectoryChange& change : trajectory_changes(before, now)) {
    told += std::string(change.aspect) + ": " + change.text + '\n';
  }
  BOOST_TEST(told ==
             "data: data.seed was 1 and is 2\n"
             ": model was a and is b\n"
             "optimizer: optimizer.beta1 was 1 and is 2\n"
             "schedule: schedule.name was not set and is x\n"
             "steps: steps was 9 and is 8\n"
             "origin: continue.step was 5\n");
}

BOOST_AUTO_TEST_CASE(ranks_count_in_fast_mode_only) {
  TrajectoryFacts two_ranks = facts();
  two_ranks.world_size = 2;
  BOOST_TEST(digest({}, two_ranks) == digest({}, facts()));
  const std::string fast = "parallel.reduction=fast";
  BOOST_TEST(digest({fast}, two_ranks) != digest({fast}, facts()));
  BOOST_TEST(digest({fast, "parallel.stage=0"}, facts()) == digest({fast}, facts()));
}

BOOST_AUTO_TEST_CASE(the_digest_is_the_hash_of_the_text) {
  const RunConfig config = load_run_config(ConfigFile(kBase).path(), {});
  BOOST_TEST(trajectory_text(config, facts()).starts_with("model=model-1\nmodel.dtype=float32\n"));
  BOOST_TEST(trajectory_digest(trajectory_text(config, facts())).size() == 64U);
}

BOOST_AUTO_TEST_CASE(changes_are_named_for_people) {
  const ConfigFile file(kBase);
  const std::string stored = to_yaml(load_run_config(file.path(), {"train.threads=3"}));
  const auto explained = [&](const std::vector<std::string>& overrides) {
    return explain_other_trajectory(stored, load_run_config(file.path(), overrides));
  };
  BOOST_TEST(explained({"data.seed=5", "model.path=other", "parallel.reduction=fast"}) ==
             "data.seed was 0 and is 5, model was model and is other, "
             "parallel.reduction was exact and is fast, "
             "ranks was not set and is 1");
  BOOST_TEST(explained({"train.max_steps=0", "train.epochs=2"}) ==
             "steps was 10 and is 0, train.epochs was 0 and is 2");
  BOOST_TEST(explained({}).starts_with("no option has changed: the model's weights, "));
  BOOST_TEST(
      explain_other_trajectory(
          to_yaml(load_run_config(file.path(), {"data.train=[{path: shard.h5}, {path: b}]"})),
          load_run_config(file.path(), {})) ==
      "data.train[0].weight was by tokens and is 1, data.train[1] was b, "
      "data.train[1].weight was by tokens");
}

// A source alone has all, as one with the weight 1 that older versions wrote.
BOOST_AUTO_TEST_CASE(sources_without_weights_are_another_mixture_if_there_are_several) {
  BOOST_TEST(digest({"data.train=[{path: shard.h5, weight: 1}]"}, facts()) == digest({}, facts()));
  TrajectoryFacts two = facts();
  two.data_fingerprints.push_back("data-2");
  const std::string none = "data.train=[{path: a.h5}, {path: b.h5}]";
  const std::string equal = "data.train=[{path: a.h5, weight: 1}, {path: b.h5, weight: 1}]";
  BOOST_TEST(digest({none}, two) != digest({equal}, two));
  BOOST_TEST(digest({none, "data.mixture.temperature=2"}, two) != digest({none}, two));
}

BOOST_AUTO_TEST_CASE(a_source_without_a_fingerprint_is_our_bug) {
  TrajectoryFacts none = facts();
  none.data_fingerprints.clear();
  BOOST_CHECK_THROW(digest({}, none), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(model_options)

BOOST_AUTO_TEST_CASE(bfloat16_is_read_from_the_processor_flags) {
  BOOST_TEST(has_bfloat16_instructions("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 sse\n"));
  BOOST_TEST(has_bfloat16_instructions("flags\t\t: fpu amx_bf16\n"));
  BOOST_TEST(has_bfloat16_instructions("Features\t: fp asimd bf16\n"));
  BOOST_TEST(!has_bfloat16_instructions("flags\t\t: fpu avx512f avx512_bf16x\n"));
  BOOST_TEST(!has_bfloat16_instructions("model name: bf16\n"));
  BOOST_TEST(!has_bfloat16_instructions(""));
}

BOOST_AUTO_TEST_CASE(the_dtype_is_what_was_asked_for_and_auto_on_a_gpu_is_bfloat16) {
  ModelOptions options;
  options.dtype = ModelOptions::Dtype::kFloat32;
  BOOST_TEST(name_of(compute_dtype_of(options)) == "float32");
  options.dtype = ModelOptions::Dtype::kBfloat16;
  BOOST_TEST(name_of(compute_dtype_of(options)) == "bfloat16");
  options.dtype = ModelOptions::Dtype::kAuto;
  options.device = ModelOptions::Device::kCuda;
  BOOST_TEST(name_of(compute_dtype_of(options)) == "bfloat16");
}

BOOST_AUTO_TEST_SUITE_END()
