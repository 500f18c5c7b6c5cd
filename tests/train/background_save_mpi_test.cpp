// SPDX-License-Identifier: Apache-2.0
// One rank's thread cannot write: all ranks learn of it, and what was published stays.
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <string>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/shared_folder.h"
#include "train/background_save.h"

namespace {
std::atomic<bool> is_disk_full = false;
}

// This definition stands before libc's.
extern "C" ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  if (!is_disk_full) return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
  errno = ENOSPC;
  return -1;
}

namespace temper {
namespace {

// What saving says, or "".
template <typename Save>
std::string message_of(const Save& save) {
  try {
    save();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "";
}

BOOST_FIXTURE_TEST_CASE(a_rank_that_cannot_write_ends_the_save_of_all, testing::WorldWithModel) {
  const ModelFolder model(source);
  UnitStore store(in_form(model.units()), world, {});
  CheckpointSaver saver({store, world, folder.path()}, published_model(model), {});
  BackgroundSave save(saver, world);
  testing::fill_state(store, 1);
  save.start(testing::run_state(1));
  save.finish();

  is_disk_full = world.rank() == 0;
  const std::string message = message_of([&] {
    save.start(testing::run_state(2));
    save.finish();
  });
  is_disk_full = false;
  const char* expected = world.rank() == 0
                             ? "failed: No space left on device\n  try: free at least "
                             : "another rank could not write its part of the checkpoint\n"
                               "  try: see that rank's message; the last published";
  BOOST_TEST(message.find(expected) != std::string::npos, message);
  BOOST_TEST(!save.is_under_way());

  world.barrier();
  const auto found = find_newest_whole(folder.path(), world);
  BOOST_TEST((found && found->manifest().step == 1));
  save.save_last(testing::run_state(3));
  BOOST_TEST(find_newest_whole(folder.path(), world)->manifest().step == 3);
}

}  // namespace
}  // namespace temper
