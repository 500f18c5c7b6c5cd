// SPDX-License-Identifier: Apache-2.0
// What the ranks hold after a step, against the same arithmetic on one rank with whole tensors.
#include <ATen/ATen.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <limits>

#include "comm/collective_ring.h"
#include "comm/mpi_communicator.h"
#include "optim/gradient_norm.h"
#include "support/resident_memory.h"
#include "zero/unit_store.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

constexpr int kRounds = 3;

std::vector<UnitLayout> units() {
  return {UnitLayout("first", {{"a", {97, 101}, true}, {"b", {13}, false}}),
          UnitLayout("second", {{"c", {5}, true}}), UnitLayout("third", {{"d", {1}, false}})};
}

// The gradient of micro-batch `index`, the same on whichever rank computes it.
at::Tensor gradient_of(const UnitLayout& unit, int64_t index) {
  const at::Tensor place = at::arange(unit.num_elements(), at::kDouble);
  return at::sin(place * (0.37 + 0.11 * static_cast<double>(index))).to(at::kFloat);
}

at::Tensor initial_weights(const UnitLayout& unit) {
  return at::cos(at::arange(unit.num_elements(), at::kDouble)).to(at::kFloat);
}

struct WorldFixture {
  MpiCommunicator world{MPI_COMM_WORLD};

  void load(UnitStore& store) const {
    for (int unit = 0; unit < store.num_units(); ++unit) {
      UnitState& state = store.state(unit);
      state.master.fill_(std::numeric_limits<float>::quiet_NaN());  // Padding must never be read.
      const Range real = intersection(state.kept, {0, state.unit.num_elements()});
      if (!real.is_empty()) {
        state.master.narrow(0, 0, real.size())
            .copy_(initial_weights(state.unit).narrow(0, real.begin, real.size()));
      }
      store.publish(unit);
    }
  }

  void accumulate(UnitStore& store) const {
    for (int round = 0; round < kRounds; ++round) {
      const int64_t index = round * world.world_size() + world.rank();
      for (int unit = store.num_units() - 1; unit >= 0; --unit) {
        at::Tensor buffer = store.gradient_buffer(unit);
        buffer.fill_(std::numeric_limits<float>::quiet_NaN());
        const UnitLayout& layout = store.state(unit).unit;
        buffer.narrow(0, 0, layout.num_elements()).copy_(gradient_of(layout, index));
        store.reduce(unit);
      }
    }
    store.finish_gradients();
  }

  at::Tensor folded(const UnitLayout& unit, at::ScalarType dtype) const {
    at::Tensor sum = gradient_of(unit, 0).to(dtype).to(at::kFloat);
    for (int index = 1; index < kRounds * world.world_size(); ++index) {
      sum = sum + gradient_of(unit, index).to(dtype).to(at::kFloat);
    }
    return sum;
  }
};

at::Tensor whole_weights(UnitStore& store, int unit) {
  const at::Tensor all = store.gather(unit);
  at::Tensor copy = all.narrow(0, 0, store.state(unit).unit.num_elements()).to(at::kFloat).clone();
  store.release(unit);
  return copy;
}

BOOST_FIXTURE_TEST_SUITE(unit_store, WorldFixture)

BOOST_DATA_TEST_CASE_F(WorldFixture, a_step_equals_that_of_whole_tensors_bit_for_bit,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}), stage,
                       dtype) {
  UnitStore store(in_form(units(), {.dtype = dtype}), world, {{stage, Reduction::kExact, true}});
  load(store);
  accumulate(store);

  ExactSum squares;
  for (const UnitLayout& unit : units()) add_squares(folded(unit, dtype), squares);
  BOOST_TEST(store.gradient_norm(0.5) == std::sqrt(squares.value()) * 0.5);

  const AdamWOptions options{.learning_rate = 0.1, .weight_decay = 0.2};
  const AdamWStep step{1, 0.1, 0.25, 0.2};
  store.update(options, step);
  for (int unit = 0; unit < store.num_units(); ++unit) {
    const UnitLayout layout = units()[static_cast<size_t>(unit)];
    at::Tensor master = initial_weights(layout);
    const at::Tensor gradient = folded(layout, dtype);
    for (const TensorSlot& slot : layout.slots()) {
      AdamWStep slot_step = step;
      slot_step.weight_decay = slot.decays ? 0.2 : 0.0;
      const Range range = slot.range();
      adamw_update({master.narrow(0, range.begin, range.size()),
                    gradient.narrow(0, range.begin, range.size()), at::zeros({range.size()}),
                    at::zeros({range.size()})},
                   options, slot_step);
    }
    BOOST_TEST(at::equal(whole_weights(store, unit), master.to(dtype).to(at::kFloat)),
               "unit " << unit << " on rank " << world.rank());
  }
}

BOOST_DATA_TEST_CASE_F(WorldFixture, the_fast_reduction_agrees_to_rounding, data::make({0, 1}),
                       stage) {
  UnitStore exact(in_form(units()), world, {{stage, Reduction::kExact, true}});
  UnitStore fast(in_form(units()), world, {{stage, Reduction::kFast, true}});
  for (UnitStore* store : {&exact, &fast}) {
    load(*store);
    accumulate(*store);
    store->update({.learning_rate = 0.1}, {1, 0.1, 1.0, 0.0});
  }
  for (int unit = 0; unit < exact.num_units(); ++unit) {
    BOOST_TEST(at::allclose(whole_weights(exact, unit), whole_weights(fast, unit), 1e-4, 1e-4));
  }
}

// Of what is sent the two differ in the exchange of gradients alone.
BOOST_DATA_TEST_CASE_F(WorldFixture, the_fast_reduction_sends_fewer_bytes,
                       data::make({0, 1}) * data::make({at::kFloat, at::kBFloat16}), stage, dtype) {
  const auto bytes_of = [&](Reduction reduction) {
    UnitStore store(in_form(units(), {.dtype = dtype}), world, {{stage, reduction, true}});
    load(store);
    const int64_t before = CollectiveRing::own().num_bytes_sent();
    accumulate(store);
    return CollectiveRing::own().num_bytes_sent() - before;
  };
  const int64_t exact = bytes_of(Reduction::kExact), fast = bytes_of(Reduction::kFast);
  int64_t one_exchange = 0;
  for (const UnitLayout& unit : units()) {
    const ShardLayout shards(unit.num_elements(), world.world_size());
    one_exchange += shards.shard_size() * (world.world_size() - 1) *
                    static_cast<int64_t>(at::elementSize(dtype));
  }
  BOOST_TEST(exact - fast == (kRounds - 1) * one_exchange);
  BOOST_TEST((fast < exact || world.world_size() == 1));
}

BOOST_AUTO_TEST_CASE(the_fast_reduction_has_the_same_bits_at_both_of_its_stages) {
  UnitStore replicated(in_form(units()), world, {{0, Reduction::kFast, true}});
  UnitStore sharded(in_form(units()), world, {{1, Reduction::kFast, true}});
  for (UnitStore* store : {&replicated, &sharded}) {
    load(*store);
    accumulate(*store);
  }
  for (int unit = 0; unit < replicated.num_units(); ++unit) {
    const Range own = sharded.state(unit).owned;  // Without the padding, which is NaN here.
    BOOST_TEST(at::equal(replicated.kept_gradient(unit).narrow(0, own.begin, own.size()),
                         sharded.kept_gradient(unit).narrow(0, 0, own.size())));
  }
}

BOOST_DATA_TEST_CASE_F(WorldFixture, one_ranks_nan_is_every_ranks_nan, data::make({0, 1, 2, 3}),
                       stage) {
  UnitStore store(in_form(units()), world, {{stage, Reduction::kExact, true}});
  load(store);
  for (int unit = 0; unit < store.num_units(); ++unit) {
    store.gradient_buffer(unit).fill_(1.0);
    if (unit == 0 && world.rank() == world.world_size() - 1) {
      store.gradient_buffer(unit)[17].fill_(std::numeric_limits<float>::quiet_NaN());
    }
    store.reduce(unit);
  }
  store.finish_gradients();
  BOOST_TEST(std::isnan(store.gradient_norm(1.0)));

  // The next step starts afresh.
  store.discard_gradients();
  accumulate(store);
  BOOST_TEST(std::isfinite(store.gradient_norm(1.0)));
}

BOOST_AUTO_TEST_CASE(higher_stages_keep_less) {
  std::vector<int64_t> bytes;
  for (const int stage : {0, 1, 3}) {
    UnitStore store(in_form(units()), world, {{stage, Reduction::kExact, true}});
    bytes.push_back(store.state_bytes());
  }
  if (world.world_size() == 1) return;
  BOOST_TEST(bytes[0] > bytes[1]);
  BOOST_TEST(bytes[1] > bytes[2]);
}

BOOST_AUTO_TEST_CASE(an_unknown_stage_is_refused) {
  BOOST_CHECK_THROW(UnitStore(in_form(units()), world, {{4, Reduction::kExact, true}}),
                    std::invalid_argument);
  BOOST_CHECK_THROW(UnitStore(in_form(units()), world, {{2, Reduction::kFast, true}}),
                    std::invalid_argument);
}

// Master weights and moments are 96 MiB, of which each piece leaves memory after its use.
BOOST_AUTO_TEST_CASE(what_is_offloaded_stays_on_disk) {
  const UnitLayout unit("unit", {{"a", {4096, 2048}}, {"b", {13}}});
  StoreOptions options;
  options.offload = std::filesystem::temp_directory_path();
  UnitStore store(in_form({unit}, {.dtype = at::kBFloat16}), world, options);
  const int64_t before = testing::resident_file_bytes();
  store.publish(0);
  store.gradient_buffer(0).fill_(0.25);
  store.reduce(0);
  store.finish_gradients();
  store.update({}, {.learning_rate = 0.1});
  BOOST_TEST(testing::resident_file_bytes() - before < int64_t{8} << 20);
  BOOST_TEST(at::allclose(store.gather(0).narrow(0, 0, 8), at::full({8}, -0.1, at::kBFloat16)));
}

// AdamW's first step is the rate against the gradient's sign.
BOOST_AUTO_TEST_CASE(a_tensor_learns_at_its_own_rate) {
  const UnitLayout unit("unit", {{.name = "slow", .shape = {5000}},
                                 {.name = "fast", .shape = {5000}, .rate_ratio = 3.0}});
  UnitStore store(in_form({unit}), world, {});
  store.gradient_buffer(0).fill_(0.25);
  store.reduce(0);
  store.finish_gradients();
  store.update({}, {.learning_rate = 0.1});
  const at::Tensor whole = store.gather(0);
  const auto is_all = [&](int64_t begin, double value) {
    return at::allclose(whole.narrow(0, begin, 5000), at::full({5000}, value), 1e-5, 1e-6);
  };
  BOOST_TEST(is_all(0, -0.1));
  BOOST_TEST(is_all(5000, -0.3));
}

// Beside the same with LibTorch's operators on whole tensors, three steps long.
BOOST_DATA_TEST_CASE_F(WorldFixture, weights_are_pulled_to_their_start_and_followed_by_a_mean,
                       data::make({0, 1, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({false, true}),
                       stage, dtype, is_offloaded) {
  const UnitLayout unit("unit", {{.name = "a", .shape = {97, 101}},
                                 {.name = "b", .shape = {13}, .decays = false, .rate_ratio = 2.0}});
  StoreOptions options{.zero = {.stage = stage}, .l2_sp = 3.0, .ema_decay = 0.8};
  if (is_offloaded) options.offload = std::filesystem::temp_directory_path();
  UnitStore store(in_form({unit}, {.dtype = dtype}), world, options);
  load(store);
  store.remember_start();
  const at::Tensor start = initial_weights(unit);
  at::Tensor weights = start.clone(), mean = start.clone();
  at::Tensor first = at::zeros_like(start), second = at::zeros_like(start);
  for (int64_t step = 1; step <= 3; ++step) {
    accumulate(store);
    store.update({}, {step, 0.1, 0.25, 0.2});
    const at::Tensor gradient = folded(unit, dtype);
    for (const TensorSlot& slot : unit.slots()) {
      const double rate = 0.1 * slot.rate_ratio;
      const auto part = [&](const at::Tensor& all) {
        return all.narrow(0, slot.offset, slot.num_elements());
      };
      part(weights).add_((part(start) - part(weights)).mul(static_cast<float>(rate * 3.0)));
      adamw_update({part(weights), part(gradient), part(first), part(second)}, {},
                   {step, rate, 0.25, slot.decays ? 0.2 : 0.0});
    }
    mean.add_((weights - mean).mul(static_cast<float>(1.0 - 0.8)));
  }
  const auto is_computed_with = [&](const at::Tensor& expected) {
    return at::equal(whole_weights(store, 0), expected.to(dtype).to(at::kFloat));
  };
  BOOST_TEST(is_computed_with(weights));
  store.swap_means();
  BOOST_TEST(is_computed_with(mean));
  store.swap_means();
  BOOST_TEST(is_computed_with(weights));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
