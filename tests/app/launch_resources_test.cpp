// SPDX-License-Identifier: Apache-2.0
#include "app/launch_resources.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint/model_folder.h"
#include "checkpoint/tiny_folder.h"
#include "core/error.h"
#include "core/message_text.h"
#include "io/temporary_folder.h"
#include "model/decoder_units.h"
#include "train/run_timing.h"
#include "train/time_limit.h"

namespace temper {
namespace {

using testing::Head;

struct Run {
  TemporaryFolder folder;
  RunConfig config;

  Run() {
    testing::write_tiny_folder(folder.path() / "model", Head::kTied, DType::kF32);
    config.model.path = folder.path() / "model";
    config.model.dtype = ModelOptions::Dtype::kFloat32;
    config.run.folder = folder.path() / "run";
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(launch_resources, Run)

BOOST_AUTO_TEST_CASE(memory_that_does_not_suffice_is_refused_with_the_node) {
  const NodeShare share{2, "n7"};
  const ModelFolder model(config.model.path);
  const MemoryFacts facts{.model = model.config(), .units = in_form(model.units()), .num_ranks = 4};
  require_memory(share, config, facts, int64_t{1} << 40);
  require_memory(share, config, facts, std::nullopt);
  BOOST_CHECK_EXCEPTION(
      require_memory(share, config, facts, 12'300), LaunchError, [](const Error& error) {
        const std::string message = error.what();
        return message.find("weights and optimizer state of 2 ranks take ") == 0 &&
               message.find(", but n7 has only 12.3 kB of memory left\n  try: use more nodes") !=
                   std::string::npos;
      });
}

BOOST_AUTO_TEST_CASE(this_machine_has_some_memory) {
  BOOST_REQUIRE(available_memory().has_value());
  BOOST_TEST(*available_memory() > 10'000'000);
}

BOOST_AUTO_TEST_CASE(space_that_does_not_suffice_is_a_problem) {
  const Storage full{.existing = folder.path(), .free_bytes = 10, .free_files = 5};
  const auto problems = find_space_problems(config, full, 12'300);
  BOOST_REQUIRE(problems.size() == 2u);
  BOOST_TEST(problems[0].what.find("run.folder needs 12.3 kB more, but ") == 0u);
  BOOST_TEST(problems[1].what.find(" has room for only 5 more files") != std::string::npos);
}

// Llama 3: 8.03 and 70.6 billion parameters, of which a checkpoint has 2 + 3 x 4 bytes each.
BOOST_AUTO_TEST_CASE(what_a_first_save_of_large_models_is_taken_to_need) {
  ModelConfig model;
  model.model_type = "llama";
  model.vocab_size = 128'256;
  model.num_key_value_heads = 8;
  model.head_dim = 128;
  const auto bytes_of = [&](int64_t layers, int64_t hidden, int64_t intermediate, int64_t heads) {
    model.num_layers = layers;
    model.hidden_size = hidden;
    model.intermediate_size = intermediate;
    model.num_heads = heads;
    return run_size(config, decoder_units(model), DType::kBF16).checkpoint;
  };
  const int64_t small = bytes_of(32, 4096, 14'336, 32), large = bytes_of(80, 8192, 28'672, 64);
  BOOST_TEST(readable_bytes(small) == "112 GB");
  BOOST_TEST(readable_bytes(large) == "988 GB");
  const auto seconds = [](int64_t bytes, int64_t nodes) {
    return duration_text(expect_timing(bytes, {nodes, 8 * nodes}, {}).save_seconds);
  };
  BOOST_TEST(seconds(small, 1) == "18m46s");
  BOOST_TEST(seconds(small, 8) == "2m23s");
  BOOST_TEST(seconds(large, 1) == "2h44m");
  BOOST_TEST(seconds(large, 16) == "10m19s");
  BOOST_TEST(seconds(large, 512) == "21s");
  // A job of two hours begins all the same, on any number of nodes.
  BOOST_TEST(!TimeLimit(7200.0, expect_timing(large, {1, 8}, {}).save_seconds).is_up());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
