// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
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

namespace {
std::atomic<int> removed_by_this = 0, removed_by_others = 0;  // Files, by threads.
}

// This definition stands before libc's.
extern "C" int remove(const char* path) {
  const bool is_this = ::getpid() == ::gettid();
  ++(is_this ? removed_by_this : removed_by_others);
  const auto status = static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
  if (status == 0 || errno != EISDIR) return status;
  return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}

namespace temper {
namespace {

namespace fs = std::filesystem;
using testing::Head;

struct Fixture {
  Fixture() { testing::write_tiny_folder(folder / "source", Head::kTied, DType::kF32); }

  // One job that goes on from `resumed_step` and saves these steps.
  void run_job(int64_t resumed_step, const std::vector<int64_t>& steps, int64_t keep) {
    const ModelFolder model(folder / "source");
    UnitStore store(in_form(model.units()), ranks, {});
    CheckpointOptions options;
    options.keep = keep;
    CheckpointSaver saver({store, ranks, folder.path(), resumed_step}, published_model(model),
                          options);
    for (const int64_t step : steps) {
      testing::fill_state(store, step);
      testing::save(saver, ranks, testing::run_state(step));
    }
  }

  // One job that goes on from `resumed_step` and ends before it saves.
  void run_job_without_save(int64_t resumed_step, int64_t keep) {
    const ModelFolder model(folder / "source");
    UnitStore store(in_form(model.units()), ranks, {});
    CheckpointOptions options;
    options.keep = keep;
    CheckpointSaver({store, ranks, folder.path(), resumed_step}, published_model(model), options)
        .tidy();
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

// It was killed after it had published step 3, and after it had renamed step 1.
BOOST_AUTO_TEST_CASE(what_a_killed_job_left_goes_at_the_start_of_the_next) {
  run_job(0, {1, 2, 3}, 3);
  fs::rename(checkpoint(1), checkpoint(1).string() + ".trash");
  fs::create_directories(checkpoint(4).string() + ".tmp");
  fs::remove(checkpoints() / "latest");
  fs::create_symlink("step-00000002", checkpoints() / "latest");
  run_job_without_save(3, 1);
  BOOST_CHECK(steps() == (Steps{3}));
  BOOST_TEST(fs::read_symlink(checkpoints() / "latest") == "step-00000003");
  BOOST_TEST(list_checkpoints(checkpoints(), ".trash").empty());
  BOOST_TEST(list_checkpoints(checkpoints(), ".tmp").empty());
}

// Step 3 was passed over: it must not count as kept, or the one that the job went on from is lost.
BOOST_AUTO_TEST_CASE(the_one_that_a_job_goes_on_from_stays_before_its_first_save) {
  run_job(0, {1, 2, 3}, 3);
  run_job_without_save(2, 1);
  BOOST_CHECK(steps() == (Steps{3, 2}));
  run_job_without_save(0, 1);  // A fresh run that has not saved yet leaves all as it is.
  BOOST_CHECK(steps() == (Steps{3, 2}));
}

BOOST_AUTO_TEST_CASE(old_ones_are_removed_beside_the_training) {
  run_job(0, {1}, 1);
  removed_by_others = removed_by_this = 0;
  run_job(1, {2}, 1);
  BOOST_CHECK(steps() == (Steps{2}));
  BOOST_TEST(removed_by_others > 10);
  BOOST_TEST(removed_by_this == 0);
}

BOOST_AUTO_TEST_CASE(the_best_one_stays_and_has_a_link) {
  const ModelFolder model(folder / "source");
  UnitStore store(in_form(model.units()), ranks, {});
  CheckpointOptions options;
  options.keep = 1;
  CheckpointSaver saver({store, ranks, folder.path(), 0}, published_model(model), options);
  const auto save = [&](int64_t step, double loss) {
    testing::save(saver, ranks, testing::run_state(step));
    saver.note_loss(step, loss);  // Known only after it was saved, as in a run.
  };
  testing::fill_state(store, 1);
  save(1, 3.0);
  save(2, 2.0);
  save(3, 2.0);
  save(4, 2.5);
  saver.settle();
  BOOST_CHECK(steps() == (Steps{4, 2}));
  BOOST_TEST(saver.best_step().value() == 2);
  BOOST_TEST(fs::read_symlink(checkpoints() / "best") == checkpoint_name(2));
  save(5, 1.0);
  saver.tidy();
  saver.settle();
  BOOST_CHECK(steps() == (Steps{5}));
  BOOST_TEST(fs::read_symlink(checkpoints() / "best") == checkpoint_name(5));
}

BOOST_AUTO_TEST_CASE(damaged_ones_do_not_count_as_kept) {
  run_job(0, {1, 2}, 2);
  fs::remove(checkpoint(2) / "state.json");
  remove_old_checkpoints(checkpoints(), 1, 2);
  BOOST_CHECK(steps() == (Steps{2, 1}));
  fs::resize_file(checkpoint(1) / "model/config.json", 1);
  remove_old_checkpoints(checkpoints(), 1, 2);
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
  BOOST_CHECK_EXCEPTION(point_to(checkpoint(1), "latest"), CheckpointError, says(message));
  run_job(0, {1}, 1);
  BOOST_CHECK(steps() == (Steps{1}));
}

BOOST_AUTO_TEST_CASE(one_checkpoint_is_under_way_at_a_time) {
  const ModelFolder model(folder / "source");
  UnitStore store(in_form(model.units()), ranks, {});
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
