// SPDX-License-Identifier: Apache-2.0
#include "config/run_config.h"

#include <sys/stat.h>

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "config/config_file.h"
#include "config/processor_time.h"
#include "core/error.h"

using namespace temper;
using temper::testing::ConfigFile;
using temper::testing::kValid;
namespace data = boost::unit_test::data;

namespace {

struct Fault {
  std::string yaml, message;  // `yaml` is added to a valid configuration.
};
std::ostream& operator<<(std::ostream& out, const Fault& one) { return out << one.yaml; }

const std::vector<Fault> kFaults = {
    {"optimizer:\n  learning_rate: -1\n",
     "CONFIG: optimizer.learning_rate (line 13) is '-1'\n  try: set it to a positive number"},
    {"optimizer:\n  learning_rate: .nan\n",
     "CONFIG: optimizer.learning_rate (line 13) is '.nan'\n  try: write a finite number"},
    {"optimizer:\n  learning_rate: 1e400\n",
     "CONFIG: optimizer.learning_rate (line 13) is '1e400'\n"
     "  try: write a number that fits into double precision"},
    {"optimizer:\n  beta1: 1\n",
     "CONFIG: optimizer.beta1 (line 13) is '1'\n  try: set it to a number from 0 to below 1"},
    {"optimizer:\n  weight_decay: -0\n",
     "CONFIG: optimizer.weight_decay (line 13) is '-0'\n  try: write 0"},
    {"optimizer:\n  learning_rate: \"1e-5\"\n",
     "CONFIG: optimizer.learning_rate (line 13) is '1e-5' in quotes\n"
     "  try: write the number without quotes"},
    {"optimizer:\n  learning_rate:\n",
     "CONFIG: optimizer.learning_rate (line 13) has no value\n  try: set it to a positive number"},
    {"optimizer:\n  learning_rate: [1]\n",
     "CONFIG: optimizer.learning_rate (line 13) is a list\n  try: set it to a positive number"},
    {"optimizer:\n  learning_rate: {a: 1}\n",
     "CONFIG: optimizer.learning_rate (line 13) is a section\n  try: set it to a positive number"},
    {"optimizer: adamw\n",
     "CONFIG: optimizer (line 12) is 'adamw'\n"
     "  try: write its options below it, indented: 'key: value'"},
    {"optimizer:\n  learningrate: 1\n",
     "CONFIG: optimizer.learningrate (line 13) is not an option\n"
     "  try: write learning_rate; one of: learning_rate, beta1, beta2, epsilon, weight_decay, "},
    {"optimizer:\n  momentum: 1\n",
     "CONFIG: optimizer.momentum (line 13) is not an option\n"
     "  try: one of: learning_rate, beta1, beta2, epsilon, weight_decay, state_dtype, offload"},
    {"optimiser:\n  beta1: 0.9\n",
     "CONFIG: optimiser (line 12) is not an option\n  try: write optimizer; one of: run, model, "},
    {"schedule:\n  learning_rate: 1\n",
     "CONFIG: schedule.learning_rate (line 13) is not an option\n"
     "  try: write optimizer.learning_rate; one of: name, warmup_steps"},
    {"schedule:\n  name: cosin\n",
     "CONFIG: schedule.name (line 13) is 'cosin'\n"
     "  try: set it to one of: constant, linear, cosine, wsd"},
    {"schedule:\n  warmup_ratio: 1.5\n",
     "CONFIG: schedule.warmup_ratio (line 13) is '1.5'\n  try: set it to a number from 0 to 1"},
    {"checkpoint:\n  keep: 0\n",
     "CONFIG: checkpoint.keep (line 13) is '0'\n  try: set it to a whole number, 1 or more"},
    {"checkpoint:\n  every_steps: 010\n",
     "CONFIG: checkpoint.every_steps (line 13) is '010'\n  try: write 10"},
    {"checkpoint:\n  every_steps: 0x10\n",
     "CONFIG: checkpoint.every_steps (line 13) is '0x10'\n  try: write it in base ten: 16"},
    {"checkpoint:\n  every_steps: 1_000\n",
     "CONFIG: checkpoint.every_steps (line 13) is '1_000'\n  try: write 1000"},
    {"checkpoint:\n  every_steps: 1.5\n",
     "CONFIG: checkpoint.every_steps (line 13) is '1.5'\n  try: set it to a whole number, 0 or "
     "more"},
    {"checkpoint:\n  every_steps: yes\n",
     "CONFIG: checkpoint.every_steps (line 13) is 'yes'\n  try: set it to a whole number"},
    {"checkpoint:\n  resume: ~/x\n",
     "CONFIG: checkpoint.resume (line 13) is '~/x'\n  try: set it to auto, never, or the path"},
    {"checkpoint:\n  resume: $SCRATCH/x\n",
     "CONFIG: checkpoint.resume (line 13) is '$SCRATCH/x'\n  try: set it to auto, never, or"},
    {"checkpoint:\n  resume: \"a\\nb\"\n",
     "CONFIG: checkpoint.resume (line 13) is 'a\\nb' in quotes\n  try: set it to auto, never, or"},
    {"checkpoint:\n  model_dtype: int8\n",
     "CONFIG: checkpoint.model_dtype (line 13) is 'int8'\n  try: set it to one of: auto, float32"},
    {"parallel:\n  stage: 4\n",
     "CONFIG: parallel.stage (line 13) is '4'\n  try: set it to 0, 1, 2 or 3"},
    {"parallel:\n  stage: 4294967297\n",
     "CONFIG: parallel.stage (line 13) is '4294967297'\n  try: set it to 0, 1, 2 or 3"},
    {"parallel:\n  prefetch: yes\n",
     "CONFIG: parallel.prefetch (line 13) is 'yes'\n  try: set it to true or false"},
    {"parallel:\n  prefetch: \"true\"\n",
     "CONFIG: parallel.prefetch (line 13) is 'true' in quotes\n  try: set it to true or false"},
    {"parallel:\n  reduction: fast\n",
     "CONFIG: parallel.reduction is fast at parallel.stage 3, where each micro-batch's gradients "
     "have to be exchanged: it would move no fewer bytes than exact (line 13)\n"
     "  try: set parallel.stage to 0 or 1, or parallel.reduction to exact"},
    {"parallel:\n  reduction: True\n",
     "CONFIG: parallel.reduction (line 13) is 'True'\n  try: set it to one of: exact, fast"},
    {"parallel: &x\n  stage: 3\n", "CONFIG: line 12 has an anchor (&name)"},
    {"parallel:\n  stage: 3\n  stage: 2\n", "CONFIG: line 14 has the key 'stage' again"},
};

}  // namespace

BOOST_AUTO_TEST_SUITE(run_config)

BOOST_AUTO_TEST_CASE(a_short_file_is_enough_and_the_rest_has_defaults) {
  const ConfigFile file(kValid);
  BOOST_TEST(file.problems() == "");
  const RunConfig config = load_run_config(file.path(), {});
  BOOST_TEST(config.run.folder == "runs/test");
  BOOST_REQUIRE(config.data.sources.size() == 1);
  BOOST_TEST(config.data.sources[0].path == "shard.h5");
  BOOST_TEST(config.data.sources[0].weight == 0.0);  // None.
  BOOST_TEST(config.data.sources[0].epochs == 1.0);
  BOOST_TEST(config.train.max_steps == 10);
  BOOST_TEST(config.optimizer.beta2 == AdamWOptions{}.beta2);
}

BOOST_DATA_TEST_CASE(one_fault_gives_one_problem_with_its_place_and_cure, data::make(kFaults),
                     fault) {
  const std::string message = ConfigFile(kValid + fault.yaml).problems();
  BOOST_TEST(message.starts_with(fault.message), "the message is: " << message);
  BOOST_TEST(message.find("\nCONFIG") == std::string::npos, "not one problem: " << message);
}

// Of 1e-20 the width overflowed, and became 1.
BOOST_AUTO_TEST_CASE(a_bottleneck_is_not_wider_than_64_times_the_model) {
  const auto problems = [](const std::string& factor) {
    return ConfigFile(kValid + "method: bottleneck\nbottleneck: {reduction_factor: " + factor +
                      "}\n")
        .problems();
  };
  BOOST_TEST(problems("0.015625") == "");
  BOOST_TEST(problems("1e-20").find("bottleneck.reduction_factor (line ") != std::string::npos);
  BOOST_TEST(problems("1e-20").find("try: set it to a number from 0.015625 (1/64) on") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(all_problems_are_reported_at_once) {
  const ConfigFile file(
      "model:\n  path: model\n  dtype: fp16\ndata:\n  train:\n    - weight: 0\n"
      "  micro_batch: 0\ntrain:\n  max_step: 10\n  epochs: 1\n");
  BOOST_TEST(file.problems() ==
             "CONFIG: run.folder is missing\n"
             "  try: set it to the path of a folder, written out (no ~, no $)\n"
             "CONFIG: model.dtype (line 3) is 'fp16'\n"
             "  try: set it to one of: auto, float32, bfloat16\n"
             "CONFIG: data.train[0].path is missing\n"
             "  try: set it to the path of a token shard, written out (no ~, no $)\n"
             "CONFIG: data.train[0].weight (line 6) is '0'\n"
             "  try: set it to a positive number\n"
             "CONFIG: data.micro_batch (line 7) is '0'\n"
             "  try: set it to a whole number from 1 to 1000000\n"
             "CONFIG: train.max_step (line 9) is not an option\n"
             "  try: write max_steps; one of: max_steps, epochs, max_grad_norm, "
             "layer_decay, l2_sp, ema, kl, only, freeze, max_skipped_in_a_row, log_every_steps, "
             "log_unit_norms, profile, evaluate_every_steps, sample_prompts, sample_tokens, "
             "recompute, threads, time_limit_minutes");
  BOOST_CHECK_EXCEPTION(load_run_config(file.path(), {}), ConfigError, [](const ConfigError& e) {
    const std::string message = e.what();
    return message.find("run.folder is missing") != std::string::npos &&
           message.find("train.max_step (line 9)") != std::string::npos &&
           e.code() == ExitCode::kConfiguration;
  });
}

BOOST_AUTO_TEST_CASE(contradictions_are_found_in_the_same_pass_and_name_the_lines) {
  const ConfigFile file(kValid + "  epochs: 2\nschedule:\n  name: nothing\n");
  BOOST_TEST(file.problems() ==
             "CONFIG: schedule.name (line 14) is 'nothing'\n"
             "  try: set it to one of: constant, linear, cosine, wsd\n"
             "CONFIG: train.max_steps is 10 and train.epochs is 2: both set the end of the run "
             "(line 11), (line 12)\n"
             "  try: keep one of them (0 counts as not set)");
}

BOOST_AUTO_TEST_CASE(a_contradiction_with_an_option_that_could_not_be_read_is_not_claimed) {
  const std::string message =
      ConfigFile(kValid + "  epochs: many\n").problems({"train.max_steps=x"});
  BOOST_TEST(message.find("both") == std::string::npos);
  BOOST_TEST(message.find("no end") == std::string::npos, message);
}

BOOST_AUTO_TEST_CASE(overrides_follow_the_rules_of_the_file) {
  const ConfigFile file(kValid);
  const RunConfig config = load_run_config(
      file.path(),
      {"train.max_steps=1e3", "optimizer.beta1=0.8", "model.path=a b=c",
       "data.train=[{path: x.h5, weight: 1}, {path: y.h5, weight: 2}]", "parallel.prefetch=false"});
  BOOST_TEST(config.train.max_steps == 1000);
  BOOST_TEST(config.optimizer.beta1 == 0.8);
  BOOST_TEST(config.model.path == "a b=c");
  BOOST_REQUIRE(config.data.sources.size() == 2);
  BOOST_TEST(config.data.sources[1].weight == 2.0);
  BOOST_TEST(!config.parallel.prefetches);
}

const std::vector<Fault> kBadOverrides = {
    {"train.max_steps=010", "CONFIG: train.max_steps (command line) is '010'\n  try: write 10"},
    {"train.max_step=10",
     "CONFIG: train.max_step (command line) is not an option\n  try: write max_steps; one of"},
    {"train.max_steps",
     "CONFIG: 'train.max_steps' (command line) is no override\n"
     "  try: write section.key=value, such as train.max_steps=10"},
    {"--steps=3", "CONFIG: '--steps=3' (command line) is no override"},
    {"train..x=3", "CONFIG: 'train..x=3' (command line) is no override"},
    {"=3", "CONFIG: '=3' (command line) is no override"},
    {"train.max_steps=", "CONFIG: train.max_steps (command line) has no value"},
    {"train=5", "CONFIG: train (command line) is '5'"},
    {"data.train.0.path=x",
     "CONFIG: 'data.train.0.path=x' (command line) goes into a value that is "
     "no section\n  try: override the whole value, a list as"},
    {"model.path=[a", "CONFIG: 'model.path=[a' (command line): line 1, column 1 is not YAML"},
    {"model.path=&a x", "CONFIG: 'model.path=&a x' (command line): line 1 has an anchor"},
    {"model.path=caf\xE9",
     "CONFIG: 'model.path=caf\\xE9' (command line): line 1, column 4 has the"},
    {"model.path=~/x", "CONFIG: model.path (command line) is '~/x'\n  try: set it to the path"},
};

BOOST_DATA_TEST_CASE(a_bad_override_is_a_problem_of_the_command_line, data::make(kBadOverrides),
                     fault) {
  const std::string message = ConfigFile(kValid).problems({fault.yaml});
  BOOST_TEST(message.starts_with(fault.message), "the message is: " << message);
}

BOOST_AUTO_TEST_CASE(an_override_given_twice_is_a_problem) {
  const std::string message =
      ConfigFile(kValid).problems({"train.max_steps=1", "optimizer.beta1=0", "train.max_steps=2"});
  BOOST_TEST(message.starts_with("CONFIG: 'train.max_steps=2' (command line) is set twice"));
}

BOOST_AUTO_TEST_CASE(the_resolved_configuration_reads_as_the_same) {
  const ConfigFile file(kValid);
  const RunConfig config = load_run_config(
      file.path(),
      {"run.folder=\"a \\\"b\\\" \\\\ é # x: y\"", "model.dtype=bfloat16", "model.device=cuda",
       "data.train=[{path: x.h5, weight: 0.3}, {path: y.h5, weight: 2}]",
       "data.seed=9223372036854775807", "data.holdout=[{name: h, path: z.h5, max_rows: 3}]",
       "train.recompute=true", "optimizer.epsilon=1e-20", "train.max_steps=0", "train.epochs=0.1",
       "schedule.name=wsd", "schedule.decay_ratio=0.25", "parallel={stage: 1, reduction: fast}",
       "checkpoint.resume=some/folder", "silence=[epochs, truncation]"});
  const std::string yaml = to_yaml(config);
  const RunConfig again = parse_run_config(yaml, "the checkpoint");
  BOOST_TEST(to_yaml(again) == yaml);
  BOOST_TEST(again.run.folder == "a \"b\" \\ é # x: y");
  BOOST_TEST((again.model.dtype == ModelOptions::Dtype::kBfloat16));
  BOOST_TEST((again.model.device == ModelOptions::Device::kCuda));
  BOOST_TEST(again.data.sources.at(0).weight == 0.3);
  BOOST_TEST(again.data.seed == 9223372036854775807);
  BOOST_TEST(again.holdouts.at(0).name == "h");
  BOOST_TEST(again.holdouts.at(0).max_rows == 3);
  BOOST_TEST(again.train.recomputes);
  BOOST_TEST(again.train.epochs == 0.1);
  BOOST_TEST((again.schedule.shape == ScheduleOptions::Shape::kWsd));
  BOOST_TEST((again.parallel.reduction == Reduction::kFast));
  BOOST_TEST(again.checkpoint.resume == "some/folder");
  BOOST_TEST((again.silence == std::vector<std::string>{"epochs", "truncation"}));
}

BOOST_AUTO_TEST_CASE(what_is_trained_and_its_groups_read_as_the_same) {
  const ConfigFile file(kValid);
  const RunConfig config = load_run_config(
      file.path(), {"train.only=[norms, 'self_attn\\.[qk]_proj', layers.0-3]", "train.freeze=head",
                    "optimizer.groups=[{match: norms, weight_decay: 0}, "
                    "{match: [mlp, biases], learning_rate: 0.5}, "
                    "{match: [layers.1], learning_rate_ratio: 0.25, weight_decay: 2}]"});
  const std::string yaml = to_yaml(config);
  const RunConfig again = parse_run_config(yaml, "the checkpoint");
  BOOST_TEST(to_yaml(again) == yaml);
  BOOST_TEST(again.trained.only.at(1) == "self_attn\\.[qk]_proj");
  BOOST_TEST(again.trained.freeze.at(0) == "head");
  BOOST_TEST(again.groups.at(0).weight_decay.value() == 0.0);
  BOOST_TEST(again.groups.at(0).learning_rate == 0.0);
  BOOST_TEST(again.groups.at(1).match.at(1) == "biases");
  BOOST_TEST(again.groups.at(1).learning_rate == 0.5);
  BOOST_TEST(!again.groups.at(1).weight_decay.has_value());
  BOOST_TEST(again.groups.at(2).learning_rate_ratio == 0.25);
}

BOOST_AUTO_TEST_CASE(a_mixture_without_weights_reads_as_the_same) {
  const ConfigFile file(kValid);
  const RunConfig config = load_run_config(
      file.path(),
      {"data.train=[{path: x.h5, epochs: 2.5}, {path: y.h5, max_tokens: 1000000000000}]",
       "data.mixture.temperature=3"});
  const std::string yaml = to_yaml(config);
  const RunConfig again = parse_run_config(yaml, "the checkpoint");
  BOOST_TEST(to_yaml(again) == yaml);
  BOOST_TEST(again.data.sources.at(0).weight == 0.0);
  BOOST_TEST(again.data.sources.at(0).epochs == 2.5);
  BOOST_TEST(again.data.sources.at(1).max_tokens == 1'000'000'000'000);
  BOOST_TEST(again.data.mixture.temperature == 3.0);
  const auto starts = [&](const std::string& sources, const std::string& message) {
    return file.problems({"data.train=" + sources}).starts_with("CONFIG: " + message);
  };
  BOOST_TEST(starts("[{path: x, epochs: 0}]",
                    "data.train[0].epochs (command line) is '0'\n"
                    "  try: set it to a positive number, at most 1000000"));
  BOOST_TEST(starts("[{path: x, max_tokens: -1}]",
                    "data.train[0].max_tokens (command line) is '-1'\n"
                    "  try: set it to a whole number of tokens, or 0 for all"));
}

BOOST_AUTO_TEST_CASE(a_stored_configuration_that_was_altered_names_its_place) {
  BOOST_CHECK_EXCEPTION(
      parse_run_config(kValid + "x: 1\n", "state.json"), ConfigError, [](const ConfigError& error) {
        return std::string(error.what())
            .starts_with("state.json: x (line 12) is not an option\n  try: one of: run, ");
      });
}

BOOST_AUTO_TEST_CASE(an_empty_file_says_so) {
  BOOST_TEST(ConfigFile("").problems() ==
             "CONFIG: the document is empty\n  try: write the options of the run");
  BOOST_TEST(ConfigFile("# nothing\n").problems().starts_with("CONFIG: the document is empty"));
  BOOST_TEST(ConfigFile("text").problems().starts_with("CONFIG: the document is 'text'\n  try: "));
}

BOOST_AUTO_TEST_CASE(a_byte_order_mark_and_windows_line_ends_are_accepted) {
  std::string text = "\xEF\xBB\xBF";
  for (const char c : kValid) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  BOOST_TEST(ConfigFile(text).problems() == "");
}

void require_refusal(const std::string& path, const std::string& message) {
  const temper::testing::ProcessorTime watch;
  BOOST_CHECK_EXCEPTION(load_run_config(path, {}), ConfigError, [&](const ConfigError& error) {
    BOOST_TEST_MESSAGE(error.what());
    return std::string(error.what()).find(path + message) == 0;
  });
  BOOST_TEST(watch.seconds() < temper::testing::kMostSeconds);
}

BOOST_AUTO_TEST_CASE(what_is_no_small_regular_file_is_refused_at_once) {
  const ConfigFile sparse("");
  std::filesystem::resize_file(sparse.path(), 2'000'000'000);
  require_refusal(sparse.path(), " is larger than 524288 bytes: not a configuration\n  try: ");
  require_refusal("/nonexistent/x.yaml", " cannot be opened: No such file or directory\n  try: ");
  require_refusal("/tmp", " is not a regular file\n  try: give a file, which every rank can read");
  require_refusal("/dev/zero", " is not a regular file");
  // A file whose first byte no process has.
  require_refusal("/proc/self/mem", " cannot be read: Input/output error\n  try: look at the file");

  const ConfigFile pipe("");
  std::filesystem::remove(pipe.path());
  BOOST_REQUIRE(::mkfifo(pipe.path().c_str(), 0600) == 0);
  require_refusal(pipe.path(), " is not a regular file");

  const ConfigFile loop("");
  std::filesystem::remove(loop.path());
  std::filesystem::create_symlink(loop.path(), loop.path());
  require_refusal(loop.path(), " cannot be opened: Too many levels of symbolic links");
}

BOOST_AUTO_TEST_CASE(what_is_no_list_or_has_other_items_is_named) {
  const ConfigFile file(kValid);
  BOOST_TEST(file.problems({"data.train=shard.h5"}) ==
             "CONFIG: data.train (command line) is 'shard.h5'\n"
             "  try: write a list: each item begins with '- '");
  BOOST_TEST(file.problems({"data.train=[shard.h5]"}) ==
             "CONFIG: data.train[0] (command line) is 'shard.h5'\n"
             "  try: write its options below it, indented: 'key: value'");
}

BOOST_AUTO_TEST_CASE(paths_may_hold_spaces_and_dots) {
  const ConfigFile file(kValid);
  const RunConfig config = load_run_config(file.path(), {"model.path=../my models/größe"});
  BOOST_TEST(config.model.path == "../my models/größe");
}

BOOST_AUTO_TEST_CASE(every_file_in_configs_is_without_problems) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TEMPER_CONFIGS)) {
    if (entry.path().extension() != ".yaml") continue;
    BOOST_TEST(to_text(read_run_config(entry.path(), {}).problems) == "");
    ++num_files;
  }
  BOOST_TEST(num_files >= 2);
}

BOOST_AUTO_TEST_SUITE_END()
