// SPDX-License-Identifier: Apache-2.0
// The promise for every family of models: two ranks, at stage 3 up to a checkpoint and at stage 0
// from it on, end with the bits of one rank that was never stopped, whatever is trained.
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/hugging_face_config.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/shared_folder.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "model/family.h"
#include "train/invariant_run.h"

namespace temper {
namespace {

using Kind = MethodOptions::Kind;
using testing::Curve;

constexpr int kStepsInAll = 3;       // The second one has the first update in its loss.
constexpr int kStepsBeforeStop = 2;  // The checkpoint.
constexpr int kBatchesAStep = 3;     // Two ranks do not divide it.

// Small, with what the family leaves open as its class has it.
ModelConfig model_of_family(std::string_view model_type, std::string_view further_keys = "") {
  const std::string text = concat(
      R"({"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 61,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "n_inner": 40,
          "ffn_hidden_size": 40, "max_position_embeddings": 64, "sliding_window": 5,
          "moe_intermediate_size": 24,
          "eos_token_id": null, "model_type": ")",
      model_type, '"', further_keys, '}');
  return parse_hugging_face_config(text, concat("the configuration of ", model_type));
}

std::vector<MethodOptions> methods_of_families() {
  MethodOptions full, lora, bottleneck, prefix;
  lora.kind = Kind::kLora;
  lora.lora = {.rank = 2, .dropout = 0.2, .targets = {"all-linear"}};
  lora.lora.init = LoraOptions::Init::kGaussian;
  bottleneck.kind = Kind::kBottleneck;
  bottleneck.bottleneck = {.reduction_factor = 9.0};
  prefix.kind = Kind::kPrefix;
  prefix.prefix = {.num_tokens = 3};
  return {full, lora, bottleneck, prefix};
}

// One training process, from its start or from a checkpoint.
class StoppableJob {
 public:
  StoppableJob(Communicator& ranks, const ModelConfig& model, const MethodOptions& method,
               int stage)
      : ranks_(ranks),
        decoder_(model),
        adapter_(make_adapter(method, decoder_.config())),
        store_(stored_units(decoder_.units(), layouts_of(adapter_), {}), ranks,
               {.zero = {stage, Reduction::kExact, true}}),
        engine_(decoder_, store_, Activations::kKept, adapter_ ? &*adapter_ : nullptr),
        trainer_(engine_, store_, ranks, Schedule({.warmup_steps = 2}, kStepsInAll),
                 {{.learning_rate = 0.01, .weight_decay = 0.1}, 0.5}) {
    testing::fill_weights(store_, decoder_.num_units());
    if (adapter_) initialise(*adapter_, /*seed=*/3, ranks, store_);
  }

  void run_up_to(int last_step) {
    for (auto step = static_cast<int>(state_.step); step < last_step; ++step) {
      std::vector<PackedBatch> batch;
      for (int j = ranks_.rank(); j < kBatchesAStep; j += ranks_.world_size()) {
        batch.push_back(testing::tiny_batch(decoder_.config(), step * kBatchesAStep + j));
      }
      const StepResult result = trainer_.train_step(batch, kBatchesAStep, state_);
      curve_.losses.push_back(result.loss);
      curve_.norms.push_back(result.grad_norm);
    }
  }

  void save(const std::filesystem::path& folder) {
    const std::vector<UnitLayout> saved = adapter_ ? std::vector{adapter_->file} : decoder_.units();
    const PublishedFolder published{adapter_ ? kAdapterFiles : kModelFiles, DType::kF32,
                                    [](DType) { return std::vector<TextFile>(); }};
    CheckpointSaver saver({store_, ranks_, folder, 0, {}, saved}, published, {});
    testing::save(saver, ranks_, state_);
  }

  void load(const std::filesystem::path& folder) {
    const auto checkpoint = verify_checkpoint(folder / "checkpoints" / "step-00000002", ranks_);
    state_ = load_checkpoint(checkpoint, store_, ranks_);
  }

  Curve curve() {
    testing::add_weights(store_, curve_.weights);
    return curve_;
  }

 private:
  Communicator& ranks_;
  Decoder decoder_;
  std::optional<Adapter> adapter_;
  UnitStore store_;
  Engine engine_;
  Trainer trainer_;
  RunState state_;
  Curve curve_;
};

struct FamiliesFixture : testing::RanksFixture {
  testing::SharedFolder folder{world};

  Curve alone(const ModelConfig& model, const MethodOptions& method) {
    StoppableJob job(self, model, method, 0);
    job.run_up_to(kStepsInAll);
    return job.curve();
  }

  Curve stopped_and_resumed(const ModelConfig& model, const MethodOptions& method,
                            const std::filesystem::path& run) {
    std::optional<StoppableJob> first(std::in_place, world, model, method, 3);
    first->run_up_to(kStepsBeforeStop);
    first->save(run);
    Curve curve = first->curve();
    first.reset();
    StoppableJob second(world, model, method, 0);
    second.load(run);
    second.run_up_to(kStepsInAll);
    const Curve rest = second.curve();
    curve.losses.insert(curve.losses.end(), rest.losses.begin(), rest.losses.end());
    curve.norms.insert(curve.norms.end(), rest.norms.begin(), rest.norms.end());
    curve.weights = rest.weights;
    return curve;
  }
};

// Where `launch/families` finds it.
void record_bits(std::string_view model_type) {
  const char* build = std::getenv("TEMPER_BUILD_DIR");
  if (build == nullptr) return;
  const std::filesystem::path results = std::filesystem::path(build) / "families";
  std::filesystem::create_directories(results);
  std::ofstream(results / concat(model_type, ".bits on ranks and after a stop"))
      << "full, lora, bottleneck, prefix\n";
}

BOOST_FIXTURE_TEST_SUITE(family_invariance, FamiliesFixture)

BOOST_AUTO_TEST_CASE(two_ranks_stopped_between_two_stages_end_with_the_bits_of_one) {
  at::set_num_threads(1);
  for (const Family& family : families()) {
    const ModelConfig model = model_of_family(family.model_type);
    for (const MethodOptions& method : methods_of_families()) {
      BOOST_TEST_CONTEXT(family.model_type << ", " << name_of(method.kind)) {
        const auto run = folder.path() / concat(family.model_type, '-', name_of(method.kind));
        const Curve expected = alone(model, method);
        testing::check_equal(stopped_and_resumed(model, method, run), expected);
        BOOST_TEST(expected.losses.front() != expected.losses.back());
      }
    }
    if (world.rank() == 0) record_bits(family.model_type);
  }
}

// Its norms have no weights, so that its unit of the head has no tensor at all.
BOOST_AUTO_TEST_CASE(a_unit_without_tensors_does_no_harm) {
  const ModelConfig model = model_of_family("olmo", R"(, "tie_word_embeddings": true)");
  testing::check_equal(stopped_and_resumed(model, {}, folder.path() / "tied"), alone(model, {}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
