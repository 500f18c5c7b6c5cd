// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <mpi.h>

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "checkpoint/load_state.h"
#include "checkpoint/shared_folder.h"
#include "checkpoint/tiny_folder.h"
#include "comm/agree.h"
#include "comm/mpi_communicator.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace {

using testing::Head;

// Whether every tensor that this rank keeps a part of has its tiny value there.
bool has_tiny_values(const UnitState& state, DType dtype) {
  bool is_equal = true;
  for (const TensorSlot& slot : state.unit.slots()) {
    const Range range = intersection(slot.range(), state.kept);
    const auto* master = state.master.const_data_ptr<float>() - state.kept.begin;
    for (int64_t i = range.begin; i < range.end; ++i) {
      is_equal &=
          master[i] == testing::rounded(testing::tiny_value(slot.name, i - slot.offset), dtype);
    }
  }
  return is_equal;
}

struct WorldFixture {
  UnitStore make_store(const ModelFolder& model, int stage) {
    StoreOptions options;
    options.zero.stage = stage;
    return UnitStore(in_form(model.units()), world, options);
  }

  void expect_tiny_values(const ModelFolder& model, DType dtype, int stage) {
    UnitStore store = make_store(model, stage);
    load_weights(model, store, world);
    for (int unit = 0; unit < store.num_units(); ++unit) {
      BOOST_TEST(has_tiny_values(store.state(unit), dtype));
      const at::Tensor weights = store.gather(unit);
      const TensorSlot& slot = store.state(unit).unit.slots().front();
      BOOST_TEST(weights[slot.offset + 5].item<float>() ==
                 testing::rounded(testing::tiny_value(slot.name, 5), dtype));
      store.release(unit);
    }
  }

  MpiCommunicator world{MPI_COMM_WORLD};
  testing::SharedFolder folder{world};
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(load_state, WorldFixture)

BOOST_AUTO_TEST_CASE(every_rank_gets_its_part_exactly) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const size_t num_files : {1u, 3u}) {
      const auto path = folder.path() / concat(to_string(dtype), num_files);
      if (world.rank() == 0) testing::write_tiny_folder(path, Head::kUntied, dtype, num_files);
      world.barrier();
      const ModelFolder model(path);
      for (const int stage : {0, 1, 2, 3}) expect_tiny_values(model, dtype, stage);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_weight_that_is_not_finite_is_refused_by_all_ranks_with_its_name) {
  for (const float poison : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    if (world.rank() == 0) {
      testing::write_tiny_folder(folder.path(), Head::kUntied, DType::kF32);
      const SafetensorsFile file(folder.path() / "model.safetensors");
      const int64_t place = file.find("model.layers.1.mlp.down_proj.weight")->bytes.end - 4;
      const File raw = File::open_shared(file.path(), FilePurpose::kModel);
      raw.write(place, std::as_bytes(std::span(&poison, 1)));
    }
    world.barrier();
    const ModelFolder model(folder.path());
    UnitStore store = make_store(model, 3);
    std::string message = "accepted";
    try {
      load_weights(model, store, world);
    } catch (const ModelError& error) {
      message = error.what();
    }
    BOOST_TEST(message.find("model.safetensors: the tensor model.layers.1.mlp.down_proj.weight "
                            "has numbers that are not finite") != std::string::npos,
               message);
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_is_cut_under_our_feet_fails_on_all_ranks) {
  if (world.rank() == 0) testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  world.barrier();
  const ModelFolder model(folder.path());
  world.barrier();
  if (world.rank() == 0) std::filesystem::resize_file(folder.path() / "model.safetensors", 5000);
  world.barrier();
  UnitStore store = make_store(model, 3);
  BOOST_CHECK_THROW(load_weights(model, store, world), ModelError);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
