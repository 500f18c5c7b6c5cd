// SPDX-License-Identifier: Apache-2.0
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include "app/memory_estimate.h"
#include "comm/mpi_communicator.h"
#include "model/decoder_units.h"
#include "support/tiny_model.h"
#include "zero/quantised_units.h"
#include "zero/unit_store.h"

using namespace temper;
namespace data = boost::unit_test::data;

BOOST_AUTO_TEST_SUITE(memory_estimate)

// The oracle is the store itself.
BOOST_DATA_TEST_CASE(the_state_is_what_the_store_keeps,
                     (data::make({0, 1, 2, 3, 0, 1}) ^
                      data::make({false, false, false, false, true, true})) *
                         data::make({false, true}),
                     stage, is_fast, is_bfloat16) {
  MpiCommunicator world(MPI_COMM_WORLD);
  const ModelConfig model = temper::testing::tiny_config(true);
  const auto units = decoder_units(model);
  RunConfig config;
  config.parallel.stage = stage;
  config.parallel.reduction = is_fast ? Reduction::kFast : Reduction::kExact;
  const UnitStore store(units, world,
                        {.zero = config.parallel,
                         .purpose = StorePurpose::kTraining,
                         .compute_dtype = is_bfloat16 ? at::kBFloat16 : at::kFloat,
                         .device = at::kCPU});
  const MemoryEstimate estimate = estimate_memory(
      config, {.model = model,
               .units = units,
               .num_ranks = world.world_size(),
               .compute_dtype = is_bfloat16 ? ComputeDtype::kBfloat16 : ComputeDtype::kFloat32});
  BOOST_TEST(estimate.state == store.state_bytes());
}

BOOST_DATA_TEST_CASE(the_state_with_an_adapter_is_what_both_stores_keep,
                     data::xrange(0, 4) * data::make({false, true}) * data::make({false, true}),
                     stage, is_quantised, is_double) {
  MpiCommunicator world(MPI_COMM_WORLD);
  const ModelConfig model = temper::testing::tiny_config(true);
  const auto units = decoder_units(model);
  RunConfig config;
  config.parallel.stage = stage;
  config.quantise.is_double = is_double;
  config.method.kind = is_quantised ? MethodOptions::Kind::kQlora : MethodOptions::Kind::kLora;
  const std::vector<UnitLayout> adapter = make_adapter(config.method, model)->units();
  const UnitStore trained(adapter, world, {.zero = config.parallel});
  const StoreOptions frozen{config.parallel, StorePurpose::kFrozen, at::kBFloat16};
  const int64_t base = is_quantised
                           ? QuantisedUnits(units, world, frozen, config.quantise).state_bytes()
                           : UnitStore(units, world, frozen).state_bytes();
  const MemoryEstimate estimate =
      estimate_memory(config, {.model = model,
                               .units = units,
                               .adapter = adapter,
                               .num_ranks = world.world_size(),
                               .compute_dtype = ComputeDtype::kBfloat16});
  // Before they are read, matrices have no scales of scales.
  BOOST_TEST(estimate.state >= base + trained.state_bytes());
  BOOST_TEST(estimate.state <= base + trained.state_bytes() + (is_quantised ? 4 * 3 * 7 : 0));
}

BOOST_AUTO_TEST_CASE(more_ranks_recomputation_and_smaller_batches_lower_it) {
  const ModelConfig model = temper::testing::tiny_config(false);
  const auto units = decoder_units(model);
  RunConfig config;
  const auto estimate = [&](int num_ranks) {
    return estimate_memory(config, {.model = model, .units = units, .num_ranks = num_ranks});
  };
  const MemoryEstimate base = estimate(2);
  BOOST_TEST(base.total() ==
             base.state + base.exchange + base.activations + base.saving + base.program);
  config.train.recomputes = true;
  BOOST_TEST(estimate(2).activations < base.activations);
  config.train.recomputes = false;
  config.data.micro_batch_rows = 2;
  BOOST_TEST(estimate(2).activations > base.activations);
}

BOOST_AUTO_TEST_SUITE_END()
