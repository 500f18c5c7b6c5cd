// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <mpi.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/shared_folder.h"
#include "checkpoint/tiny_folder.h"
#include "checkpoint/verification.h"
#include "comm/collective_ring.h"
#include "comm/mpi_communicator.h"
#include "core/concat.h"
#include "core/error.h"
#include "support/file_calls.h"

namespace {
// How often this rank has opened files of these names.
std::atomic<int> num_manifests_opened = 0, num_digests_opened = 0;
}  // namespace

namespace temper::testing {

void after_open(int, const char* path) {
  const std::string_view name(path);
  if (name.ends_with("/MANIFEST.json")) ++num_manifests_opened;
  if (name.ends_with("/digests.bin")) ++num_digests_opened;
}

void after_read(int, ssize_t) {}

}  // namespace temper::testing

namespace temper {
namespace {

namespace fs = std::filesystem;
using testing::Head;

/// The first ranks of the world as a group of their own; the others have none.
class Group {
 public:
  explicit Group(int num_ranks) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, rank < num_ranks ? 0 : MPI_UNDEFINED, rank, &comm_);
    if (comm_ != MPI_COMM_NULL) ranks_.emplace(comm_);
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group() {
    ranks_.reset();
    if (comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
  }

  bool has_this_rank() const { return ranks_.has_value(); }
  Communicator& ranks() { return *ranks_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::optional<MpiCommunicator> ranks_;
};

StoreOptions at_stage(int stage) {
  StoreOptions options;
  options.zero.stage = stage;
  return options;
}

struct WorldFixture : testing::WorldWithModel {
  WorldFixture() : WorldWithModel(DType::kBF16) {}

  // Saves step 10 * k into `run` by the first `num_ranks` ranks.
  void save_by(int num_ranks, int stage, const fs::path& run) {
    Group group(num_ranks);
    if (group.has_this_rank()) {
      const ModelFolder model(source);
      UnitStore store(in_form(model.units()), group.ranks(), at_stage(stage));
      testing::fill_state(store, 10);
      CheckpointSaver saver({store, group.ranks(), run}, published_model(model), {});
      testing::save(saver, group.ranks(), testing::run_state(10));
    }
    world.barrier();
  }

  void expect_load_by(int num_ranks, int stage, const fs::path& run) {
    Group group(num_ranks);
    if (group.has_this_rank()) {
      const ModelFolder model(source);
      UnitStore store(in_form(model.units()), group.ranks(), at_stage(stage));
      const auto found = find_newest_whole(run, group.ranks());
      BOOST_TEST(found.has_value());
      if (found) {
        const RunState state = load_checkpoint(*found, store, group.ranks());
        BOOST_TEST(to_json(state) == to_json(testing::run_state(10)));
        BOOST_TEST(testing::has_state(store, 10));
      }
    }
    world.barrier();
  }
};

// Relative path to content, of all files but the manifest and its digests.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path name = entry.path().filename();
    if (name == Manifest::kFileName || name == Manifest::kDigestsName) continue;
    if (entry.is_regular_file()) {
      found[fs::relative(entry.path(), folder).string()] = content_of(entry.path());
    }
  }
  return found;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(checkpoint, WorldFixture)

BOOST_AUTO_TEST_CASE(any_number_of_ranks_at_any_stage_loads_what_any_other_saved) {
  const int n = world.world_size();
  for (int savers = 1; savers <= n; ++savers) {
    const int stage = savers % 4;
    const fs::path run = folder.path() / concat("run", savers);
    save_by(savers, stage, run);
    for (int loaders = 1; loaders <= n; ++loaders) {
      expect_load_by(loaders, (stage + loaders) % 4, run);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_files_do_not_depend_on_ranks_and_stage) {
  save_by(1, 0, folder.path() / "one");
  save_by(world.world_size(), 3, folder.path() / "all");
  if (world.rank() != 0) return;
  const auto one = contents(folder.path() / "one/checkpoints/step-00000010");
  const auto all = contents(folder.path() / "all/checkpoints/step-00000010");
  BOOST_TEST(one.size() == 4 * 4 + 4 + 3u);  // Units and indexes of each set; small files.
  BOOST_TEST((one == all));
}

BOOST_AUTO_TEST_CASE(the_saved_model_is_the_rounded_master_and_opens_as_a_model) {
  save_by(world.world_size(), 3, folder.path());
  const fs::path saved = folder.path() / "checkpoints/latest/model";
  const ModelFolder model(saved);
  BOOST_CHECK(model.stored_dtype() == DType::kBF16);
  UnitStore store(in_form(model.units()), world, at_stage(3));
  load_weights(model, store, world);
  UnitStore expected(in_form(model.units()), world, at_stage(3));
  testing::fill_state(expected, 10);
  for (int unit = 0; unit < store.num_units(); ++unit) {
    const Range owned = store.state(unit).owned;
    const auto part = [&](const UnitStore& of) {
      return of.state(unit).master.narrow(0, 0, owned.size());
    };
    BOOST_TEST(at::equal(part(store), part(expected).to(at::kBFloat16).to(at::kFloat)));
  }
  if (world.rank() != 0) return;
  BOOST_TEST(content_of(saved / "tokenizer.json") == content_of(source / "tokenizer.json"));
  std::string config = testing::tiny_config_text(Head::kTied);
  config.replace(config.find("float32"), 7, "bfloat16");
  BOOST_TEST(content_of(saved / "config.json") == config);
}

BOOST_AUTO_TEST_CASE(the_store_may_change_while_it_is_saved) {
  const ModelFolder model(source);
  UnitStore store(in_form(model.units()), world, at_stage(2));
  CheckpointSaver saver({store, world, folder.path()}, published_model(model), {});
  for (const int64_t step : {10, 20, 30}) {  // The buffers are used again.
    testing::fill_state(store, step);
    saver.begin(testing::run_state(step));
    testing::fill_state(store, step + 1);
    testing::wait_until_written(saver, world);
    saver.publish();
    load_checkpoint(*find_newest_whole(folder.path(), world), store, world);
    BOOST_TEST(testing::has_state(store, step));
  }
}

// The files of an adapter have the tensors of all its units, in an order of their own.
BOOST_AUTO_TEST_CASE(a_file_may_have_the_tensors_of_several_units) {
  const ModelFolder model(source);
  std::vector<TensorSlot> backwards;
  for (const UnitLayout& unit : model.units()) {
    backwards.insert(backwards.begin(), unit.slots().rbegin(), unit.slots().rend());
  }
  for (const int stage : {0, 1, 3}) {
    UnitStore store(in_form(model.units()), world, at_stage(stage));
    const fs::path run = folder.path() / std::to_string(stage);
    CheckpointSaver saver(
        {.store = store, .ranks = world, .run = run, .saved = {{"all", backwards}}},
        published_model(model), {});
    for (const auto& [step, use] : {std::pair(10, StoreUse::kGoesOn), {20, StoreUse::kRests}}) {
      testing::fill_state(store, step);
      testing::save(saver, world, testing::run_state(step), use);
      testing::fill_state(store, step + 1);
      const auto found = find_newest_whole(run, world);
      BOOST_TEST_REQUIRE(found.has_value());
      load_checkpoint(*found, store, world);
      BOOST_TEST(testing::has_state(store, step));
      BOOST_TEST(fs::exists(found->folder() / "optimizer" / "master.safetensors"));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_checkpoint_of_another_model_is_refused_on_all_ranks) {
  save_by(1, 0, folder.path());
  UnitStore store(in_form(testing::tiny_units(Head::kUntied)), world, at_stage(3));
  const auto found = find_newest_whole(folder.path(), world);
  std::string message = "accepted";
  try {
    load_checkpoint(*found, store, world);
  } catch (const CheckpointError& error) {
    message = error.what();
  }
  BOOST_TEST(message.find("missing: lm_head.weight [151, 40]") != std::string::npos, message);
}

// The digests' file is also verified as any other, by one rank.
BOOST_AUTO_TEST_CASE(manifest_and_digests_are_read_once_and_handed_round) {
  save_by(world.world_size(), 3, folder.path());
  const fs::path saved = folder.path() / "checkpoints/step-00000010";
  num_manifests_opened = num_digests_opened = 0;
  const VerifiedCheckpoint verified = verify_checkpoint(saved, world);
  BOOST_TEST(num_manifests_opened == (world.rank() == 0 ? 1 : 0));
  const at::Tensor all = at::full({1}, num_digests_opened.load(), at::kLong);
  world.all_reduce(all, ReduceOp::kSum).wait();
  BOOST_TEST(all.item<int64_t>() == 2);
  // A rank is handed its own segments: together all, none twice.
  const SharedManifest shared =
      share_manifest(saved, VerifiedPart::kWhole, world, [](const Manifest&) {});
  int64_t bytes = 0;
  for (const Segment& segment : shared.segments) bytes += segment.bytes.size();
  all.fill_(bytes);
  world.all_reduce(all, ReduceOp::kSum).wait();
  BOOST_TEST(all.item<int64_t>() == verified.manifest().bytes());
}

// Each digest goes to the rank that writes them down, and to no other.
BOOST_AUTO_TEST_CASE(publishing_sends_each_digest_once) {
  const ModelFolder model(source);
  UnitStore store(in_form(model.units()), world, at_stage(3));
  CheckpointSaver saver({store, world, folder.path()}, published_model(model), {});
  saver.begin(testing::run_state(1));
  testing::wait_until_written(saver, world);
  const int64_t before = CollectiveRing::own().num_bytes_sent();
  saver.publish();
  const int64_t num_sent = CollectiveRing::own().num_bytes_sent() - before;
  constexpr int64_t kNumUnitFiles = 16, kAgreeing = 64;  // To agree that nothing has failed.
  const int64_t digests = world.rank() == 0 ? 0 : kNumUnitFiles * std::ssize(Digest{});
  BOOST_TEST(num_sent >= digests);
  BOOST_TEST(num_sent <= digests + kAgreeing);
}

BOOST_AUTO_TEST_CASE(a_run_without_checkpoints_has_no_newest) {
  BOOST_TEST(!find_newest_whole(folder.path() / "nowhere", world).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
