// SPDX-License-Identifier: Apache-2.0
// Moments in fewer bits, and state on disk, in checkpoints of any number of ranks.
#include <ATen/ATen.h>
#include <mpi.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/shared_folder.h"
#include "checkpoint/tiny_folder.h"
#include "checkpoint/verification.h"
#include "comm/mpi_communicator.h"
#include "io/safetensors_folder.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
namespace fs = std::filesystem;
using testing::Head;

struct Kind {
  MomentDtype moments;
  bool is_offloaded = false;
};
std::ostream& operator<<(std::ostream& out, const Kind& kind) {
  return out << "moments " << static_cast<int>(kind.moments)
             << (kind.is_offloaded ? " on disk" : "");
}

const std::vector<Kind> kKinds = {{MomentDtype::kFloat32, true},
                                  {MomentDtype::kBfloat16},
                                  {MomentDtype::kInt8},
                                  {MomentDtype::kInt8, true}};

std::span<float> floats(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

// Of an element of a unit, whoever keeps it.
float value_of(int unit, int which, int64_t element) {
  const double x = std::sin(0.37 * static_cast<double>(element) + unit) *
                   std::exp(-0.001 * static_cast<double>(element % 5000));
  return static_cast<float>(which == 2 ? x * x : x);
}

at::Tensor values_of(int unit, int which, Range elements) {
  at::Tensor values = at::empty({elements.size()});
  for (int64_t i = 0; i < elements.size(); ++i) {
    floats(values)[static_cast<size_t>(i)] = value_of(unit, which, elements.begin + i);
  }
  return values;
}

Range real_part(const UnitState& state) {
  return intersection(state.kept, {0, state.unit.num_elements()});
}

std::vector<KeptNumbers> all_numbers(const UnitState& state) {
  return {state.masters(), state.first(), state.second()};
}

void fill(UnitStore& store) {
  for (const int unit : store.trained()) {
    const Range real = real_part(store.state(unit));
    const auto all = all_numbers(store.state(unit));
    for (int which = 0; which < 3; ++which) {
      if (!real.is_empty()) all[size_t(which)].write(real, floats(values_of(unit, which, real)));
    }
    store.publish(unit);
  }
}

at::Tensor read(const KeptNumbers& numbers, Range elements) {
  at::Tensor out = at::empty({elements.size()});
  numbers.read(elements, floats(out));
  return out;
}

bool has_same(const UnitStore& store, const UnitStore& whole) {
  bool is_equal = true;
  for (const int unit : store.trained()) {
    const Range real = real_part(store.state(unit));
    const auto own = all_numbers(store.state(unit)), wanted = all_numbers(whole.state(unit));
    for (size_t which = 0; which < 3 && !real.is_empty(); ++which) {
      is_equal &= at::equal(read(own[which], real), read(wanted[which], real));
    }
  }
  return is_equal;
}

struct RunFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  MpiCommunicator self{MPI_COMM_SELF};
  testing::SharedFolder folder{world};
  fs::path source = folder.path() / "source";

  RunFixture() {
    if (world.rank() == 0) testing::write_tiny_folder(source, Head::kUntied, DType::kF32);
    world.barrier();
  }

  StoreOptions options(int stage, const Kind& kind) const {
    return {.zero = {.stage = stage},
            .moment_dtype = kind.moments,
            .offload = kind.is_offloaded ? folder.path() : fs::path()};
  }

  std::vector<StoredUnit> units() const {
    return in_form(testing::tiny_units(Head::kUntied), {.dtype = at::kBFloat16});
  }
};

BOOST_FIXTURE_TEST_SUITE(compact_state, RunFixture)

BOOST_DATA_TEST_CASE_F(RunFixture, what_ranks_save_others_load,
                       data::make(kKinds) * data::make({0, 1, 3}), kind, stage) {
  const ModelFolder model(source);
  UnitStore store(units(), world, options(stage, kind));
  fill(store);
  UnitStore whole(units(), self, options(0, kind));
  fill(whole);
  CheckpointSaver saver({store, world, folder.path()}, published_model(model), {});
  BOOST_TEST(saver.needs_rest() == kind.is_offloaded);
  const StoreUse use = kind.is_offloaded ? StoreUse::kRests : StoreUse::kGoesOn;
  testing::save(saver, world, testing::run_state(10), use);

  const auto found = find_newest_whole(folder.path(), world);
  BOOST_TEST_REQUIRE(found.has_value());
  for (const int other : {0, 2, 3}) {
    UnitStore loaded(units(), world, options(other, kind));
    load_checkpoint(*found, loaded, world);
    BOOST_TEST(has_same(loaded, whole), "at stage " << other);
  }
  const SafetensorsFolder stored(found->folder() / "optimizer", "first_moment");
  const DType dtype = stored.tensors().begin()->second.tensor->dtype;
  BOOST_TEST((dtype == (kind.moments == MomentDtype::kBfloat16 ? DType::kBF16 : DType::kF32)));
}

// The same buffers are copied into, and what is written is as it was when the save began.
BOOST_DATA_TEST_CASE_F(RunFixture, a_save_goes_on_beside_the_next_step, data::make({1, 2}),
                       moments) {
  const ModelFolder model(source);
  UnitStore store(units(), world, options(3, {MomentDtype(moments)}));
  UnitStore whole(units(), self, options(0, {MomentDtype(moments)}));
  fill(whole);
  CheckpointSaver saver({store, world, folder.path()}, published_model(model), {});
  for (const int64_t step : {10, 20}) {
    fill(store);
    saver.begin(testing::run_state(step));
    for (const int unit : store.trained()) {
      store.state(unit).first_moment.zero_();
      store.state(unit).second_moment.zero_();
      if (store.state(unit).first_scales.defined()) store.state(unit).first_scales.fill_(9.0);
    }
    testing::wait_until_written(saver, world);
    saver.publish();
    load_checkpoint(*find_newest_whole(folder.path(), world), store, world);
    BOOST_TEST(has_same(store, whole));
  }
}

// To fp32 as they were decoded; from fp32 as if they had always been kept so.
BOOST_DATA_TEST_CASE_F(RunFixture, moments_go_from_one_dtype_to_another, data::make({1, 2}),
                       moments) {
  const ModelFolder model(source);
  UnitStore exact(units(), world, options(3, {MomentDtype::kFloat32}));
  fill(exact);
  CheckpointSaver saver({exact, world, folder.path()}, published_model(model), {});
  testing::save(saver, world, testing::run_state(10));
  UnitStore compact(units(), world, options(2, {MomentDtype(moments)}));
  load_checkpoint(*find_newest_whole(folder.path(), world), compact, world);
  UnitStore whole(units(), self, options(0, {MomentDtype(moments)}));
  fill(whole);
  BOOST_TEST(has_same(compact, whole));

  CheckpointSaver again({compact, world, folder.path()}, published_model(model), {});
  testing::save(again, world, testing::run_state(20));
  load_checkpoint(*find_newest_whole(folder.path(), world), exact, world);
  BOOST_TEST(has_same(exact, whole));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
