// SPDX-License-Identifier: Apache-2.0
// Units in four bits: what is gathered is the quantised matrix of one process, whoever read it.
#include <ATen/ATen.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "comm/mpi_communicator.h"
#include "core/error.h"
#include "model/decoder_units.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/quantise.h"
#include "support/tiny_model.h"
#include "zero/unit_store.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// A number that depends on the tensor's name and the place alone.
float number(const std::string& name, int64_t i) {
  const auto seed = static_cast<double>(name.size() * 31 + static_cast<size_t>(name.back()));
  return static_cast<float>(std::sin(seed + 0.37 * static_cast<double>(i)) *
                            static_cast<double>(1 + i % 7));
}

void read(const TensorSlot& slot, Range range, std::span<float> values) {
  for (int64_t i = range.begin; i < range.end; ++i) {
    values[static_cast<size_t>(i - range.begin)] = number(slot.name, i);
  }
}

at::Tensor dense(const TensorSlot& slot) {
  const int64_t size = slot.num_elements();
  at::Tensor values = at::empty({size}, at::kFloat);
  read(slot, {0, size}, {values.mutable_data_ptr<float>(), static_cast<size_t>(size)});
  return values;
}

// The whole matrix in four bits, by one process.
struct Whole {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
  QuantisedAbsmax quantised_absmax;  // Of double quantisation.
};

Whole quantise_whole(const TensorSlot& slot, QuantisationOptions options) {
  const int64_t size = slot.num_elements();
  const at::Tensor values = dense(slot);
  const FourBitFormat format{options.kind};
  Whole whole{std::vector<uint8_t>(static_cast<size_t>(size / 2)),
              std::vector<float>(static_cast<size_t>(format.num_blocks(size))),
              {}};
  quantise(values, format, whole.codes, whole.absmax);
  if (options.is_double) whole.quantised_absmax = quantise_absmax(whole.absmax);
  return whole;
}

// There and back.
at::Tensor expected(const TensorSlot& slot, QuantisationOptions options, at::ScalarType dtype) {
  Whole whole = quantise_whole(slot, options);
  if (options.is_double) dequantise_absmax(whole.quantised_absmax, whole.absmax);
  at::Tensor out = at::empty({slot.num_elements()}, dtype);
  dequantise({whole.codes, whole.absmax}, {options.kind}, out);
  return out;
}

// As a folder would have it.
QuantisedSource source_of(const TensorSlot& slot, QuantisationOptions options) {
  const Whole whole = quantise_whole(slot, options);
  QuantisedSource source{{}, whole.quantised_absmax};
  source.scales.codes.clear();
  source.read = [=](Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales) {
    std::copy_n(whole.codes.begin() + elements.begin / 2, codes.size(), codes.begin());
    const int64_t block = elements.begin / FourBitFormat{}.block_size;
    if (options.is_double) {
      const auto& all = whole.quantised_absmax.codes;
      std::copy_n(all.begin() + block, scales.size(), scales.begin());
    } else {
      std::memcpy(scales.data(), whole.absmax.data() + block, scales.size());
    }
  };
  return source;
}

struct Fixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  std::vector<UnitLayout> units = decoder_units(testing::tiny_config(true));

  UnitStore make(int stage, at::ScalarType dtype, QuantisationOptions options,
                 bool by_torch = false) {
    StoreOptions store{{stage, Reduction::kExact, true}};
    if (by_torch) store.unpacking = FourBitUnit::Unpacking::kByLibTorch;
    UnitForm form{.dtype = dtype, .is_trained = false, .four_bit = options};
    return {stored_units(units, {}, form), world, store};
  }
};

BOOST_FIXTURE_TEST_SUITE(four_bit_unit, Fixture)

BOOST_DATA_TEST_CASE_F(Fixture, each_matrix_is_that_of_one_process,
                       data::make({0, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({false, true}) * data::make({false, true}) *
                           data::make({false, true}) * data::make({false, true}),
                       stage, dtype, is_fp4, is_double, is_stored, by_torch) {
  const QuantisationOptions options{is_fp4 ? FourBitKind::kFp4 : FourBitKind::kNf4, is_double};
  UnitStore quantised = make(stage, dtype, options, by_torch);
  for (int unit = 1; unit + 1 < quantised.num_units(); ++unit) {
    UnitState& state = quantised.state(unit);
    const at::Tensor slice = state.kept_weights();
    if (is_stored) {
      state.four_bit->read_quantised(
          [&](const TensorSlot& slot) { return source_of(slot, options); }, slice);
    } else {
      state.four_bit->read(read, slice);
    }
    state.four_bit->finish(slice);
    for (const TensorSlot& slot : state.unit.slots()) {
      const Range range = intersection(slot.range(), state.kept);
      for (int64_t i = range.begin; i < range.end; ++i) {
        state.loaded_weights()[i - state.kept.begin].fill_(number(slot.name, i - slot.offset));
      }
    }
    quantised.publish(unit);
  }
  for (int unit = 1; unit + 1 < quantised.num_units(); ++unit) {
    // A rank that has nothing to compute does not prefetch.
    const bool prefetches = world.rank() % 2 == 0 && unit + 2 < quantised.num_units();
    if (prefetches) quantised.prefetch(unit + 1);
    const at::Tensor whole = quantised.gather(unit);
    for (const TensorSlot& slot : units[static_cast<size_t>(unit)].slots()) {
      const at::Tensor found = whole.narrow(0, slot.offset, slot.num_elements());
      const at::Tensor wanted =
          slot.is_matrix() ? expected(slot, options, dtype) : dense(slot).to(dtype);
      BOOST_TEST(at::equal(found, wanted), slot.name);
    }
    quantised.release(unit);
  }
}

BOOST_AUTO_TEST_CASE(a_sharded_store_keeps_its_share_of_four_bits) {
  const UnitStore quantised = make(3, at::kBFloat16, {});
  const UnitStore whole = make(0, at::kBFloat16, {});
  int64_t matrices = 0;
  for (size_t unit = 1; unit + 1 < units.size(); ++unit) {
    for (const TensorSlot& slot : units[unit].slots()) {
      if (slot.shape.size() == 2) matrices += slot.num_elements();
    }
  }
  // Shards are padded to 4096 elements: much, for a tiny model.
  const int64_t padding = 3 * 4096 * world.world_size();
  BOOST_TEST(whole.state_bytes() < 2 * 211 * 48 + (matrices + padding) * 33 / 64 + 100'000);
  if (world.world_size() > 1) BOOST_TEST(quantised.state_bytes() < whole.state_bytes());
}

BOOST_AUTO_TEST_CASE(a_number_that_is_not_finite_is_refused) {
  UnitStore quantised = make(3, at::kFloat, {});
  UnitState& state = quantised.state(1);
  const auto read_bad = [](const TensorSlot& slot, Range range, std::span<float> values) {
    read(slot, range, values);
    if (slot.name.ends_with("up_proj.weight")) values.back() = std::nanf("");
  };
  if (world.world_size() > 1) return;  // Only the ranks that read a part of it refuse.
  const auto read_unit = [&] { state.four_bit->read(read_bad, state.kept_weights()); };
  BOOST_CHECK_EXCEPTION(read_unit(), ModelError, [](const ModelError& error) {
    BOOST_TEST(
        std::string(error.what())
            .starts_with(
                "the tensor model.layers.0.mlp.up_proj.weight has numbers that are not finite"),
        error.what());
    return true;
  });
}

BOOST_AUTO_TEST_CASE(a_matrix_that_blocks_do_not_divide_is_refused) {
  ModelConfig config = testing::tiny_config(true);
  config.intermediate_size = 111;
  units = decoder_units(config);
  BOOST_CHECK_EXCEPTION(make(3, at::kFloat, {}), ModelError, [](const ModelError& error) {
    BOOST_TEST(
        std::string(error.what())
            .starts_with(
                "model.layers.0.mlp.gate_proj.weight has 5328 elements, which blocks of 64 do "
                "not divide"),
        error.what());
    return true;
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
