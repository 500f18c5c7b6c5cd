// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.h"

#include <boost/test/unit_test.hpp>
#include <optional>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/single_rank.h"
#include "checkpoint/tiny_folder.h"
#include "core/concat.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

namespace fs = std::filesystem;
using testing::Head;

struct Fixture {
  Fixture() { testing::write_tiny_folder(folder / "source", Head::kTied, DType::kF32); }

  // One job that goes on from `resumed_step` and saves these steps.
  void run_job(int64_t resumed_step, const std::vector<int64_t>& steps, int64_t keep) {
    const ModelFolder model(folder / "source");
    UnitStore store(model.units(), ranks, {});
    CheckpointOptions options;
    options.keep = keep;
    CheckpointSaver saver({store, ranks, folder.path(), resumed_step}, published_model(model),
                          options);
    for (const int64_t step : steps) {
      testing::fill_state(store, step);
      testing::save(saver, ranks, testing::run_state(step));
    }
  }

  fs::path checkpoints() const { return checkpoints_of(folder.path()); }
  fs::path checkpoint(int64_t step) const { return checkpoints() / checkpoint_name(step); }

  std::vector<int64_t> steps() const {
    std::vector<int64_t> found;
    for (const FoundCheckpoint& each : list_checkpoints(checkpoints())) found.push_back(each.step);
    return found;
  }

  testing::SingleRank ranks;
  TemporaryFolder folder;
};

using Steps = std::vector<int64_t>;

}  // namespace

BOOST_FIXTURE_TEST_SUITE(retention, Fixture)

BOOST_AUTO_TEST_CASE(the_newest_are_kept) {
  run_job(0, {1, 2, 3, 4, 5}, 2);
  BOOST_CHECK(steps() == (Steps{5, 4}));
  BOOST_TEST(fs::read_symlink(checkpoints() / "latest") == "step-00000005");
  run_job(5, {6}, 1);
  BOOST_CHECK(steps() == (Steps{6}));
  run_job(6, {7}, 0);  // The one just published always stays.
  BOOST_CHECK(steps() == (Steps{7}));
}

BOOST_AUTO_TEST_CASE(damaged_ones_do_not_count_as_kept) {
  run_job(0, {1, 2}, 2);
  fs::remove(checkpoint(2) / "state.json");
  remove_old_checkpoints(checkpoints(), 1);
  BOOST_CHECK(steps() == (Steps{2, 1}));
  fs::resize_file(checkpoint(1) / "model/config.json", 1);
  remove_old_checkpoints(checkpoints(), 1);
  BOOST_CHECK(steps() == (Steps{2, 1}));
}

// Step 3 is damaged where only its hashes tell; the next job goes on from 2 and must not lose it.
BOOST_AUTO_TEST_CASE(what_the_next_job_passed_over_is_set_aside) {
  run_job(0, {1, 2, 3}, 3);
  put(checkpoint(3) / "state.json", content_of(checkpoint(2) / "state.json"));
  const auto found = find_newest_whole(folder.path(), ranks);
  BOOST_REQUIRE(found.has_value());
  BOOST_TEST(found->manifest().step == 2);
  run_job(2, {4}, 2);
  BOOST_CHECK(steps() == (Steps{4, 2}));
  BOOST_TEST(fs::exists(checkpoints() / "step-00000003.superseded/state.json"));
}

BOOST_AUTO_TEST_CASE(a_step_that_is_saved_again_replaces_the_old_one) {
  run_job(0, {1, 2}, 2);
  put(checkpoint(2) / "state.json", "{}");
  run_job(1, {2}, 2);
  BOOST_CHECK(steps() == (Steps{2, 1}));
  BOOST_TEST(find_newest_whole(folder.path(), ranks)->manifest().step == 2);
}

BOOST_AUTO_TEST_CASE(a_fresh_run_in_an_old_folder_sets_the_old_checkpoints_aside) {
  run_job(0, {1, 2}, 2);
  run_job(0, {1}, 2);
  BOOST_CHECK(steps() == (Steps{1}));
  BOOST_TEST(fs::exists(checkpoints() / "step-00000002.superseded"));
}

BOOST_AUTO_TEST_CASE(leftovers_of_killed_jobs_go_and_nothing_else_does) {
  for (const char* name : {"step-00000001.tmp", "step-00000002.trash"}) {
    fs::create_directories(checkpoints() / name / "model");
    put(checkpoints() / name / "model/file", "x");
  }
  for (const char* name : {"notes.tmp", "step-1.tmp", "step-00000009.superseded"}) {
    fs::create_directories(checkpoints() / name);
  }
  run_job(0, {1}, 1);
  BOOST_TEST(!fs::exists(checkpoints() / "step-00000001.tmp"));
  BOOST_TEST(!fs::exists(checkpoints() / "step-00000002.trash"));
  for (const char* name : {"notes.tmp", "step-1.tmp", "step-00000009.superseded"}) {
    BOOST_TEST(fs::exists(checkpoints() / name));
  }
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_is_named) {
  put(folder / "checkpoints", "a file, not a folder");
  BOOST_CHECK_EXCEPTION(run_job(0, {1}, 1), CheckpointError, says("checkpoints"));
}

BOOST_AUTO_TEST_CASE(a_folder_in_place_of_the_link_is_no_reason_to_end_the_run) {
  fs::create_directories(checkpoints() / "latest/inside");
  const std::string message =
      concat("cannot point ", (checkpoints() / "latest").string(), " to step-00000001: ");
  BOOST_CHECK_EXCEPTION(point_latest_to(checkpoint(1)), CheckpointError, says(message));
  run_job(0, {1}, 1);
  BOOST_CHECK(steps() == (Steps{1}));
}

BOOST_AUTO_TEST_CASE(one_checkpoint_is_under_way_at_a_time) {
  const ModelFolder model(folder / "source");
  UnitStore store(model.units(), ranks, {});
  CheckpointSaver saver({store, ranks, folder.path()}, published_model(model), {});
  saver.begin(testing::run_state(1));
  BOOST_CHECK_THROW(saver.begin(testing::run_state(2)), std::logic_error);
  saver.abandon();
  BOOST_TEST(fs::is_empty(checkpoints()));
  testing::save(saver, ranks, testing::run_state(3));
  BOOST_CHECK(steps() == (Steps{3}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
