// SPDX-License-Identifier: Apache-2.0
#include <mpi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <map>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/final_folder.h"
#include "checkpoint/peft/merge.h"
#include "checkpoint/save.h"
#include "checkpoint/shared_folder.h"
#include "comm/agree.h"
#include "core/concat.h"
#include "core/error.h"

namespace {
bool has_links = true;                   // Whether the file system has.
std::atomic<int64_t> written_bytes = 0;  // By this rank.
std::atomic<int64_t> most_bytes = 0;     // Of one transfer.
}  // namespace

// These definitions stand before libc's.
extern "C" {
int link(const char* from, const char* to) {
  if (has_links) return static_cast<int>(syscall(SYS_link, from, to));
  errno = EPERM;
  return -1;
}
ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  most_bytes = std::max(most_bytes.load(), static_cast<int64_t>(count));
  return syscall(SYS_pread64, descriptor, bytes, count, offset);
}
ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  written_bytes += static_cast<int64_t>(count);
  most_bytes = std::max(most_bytes.load(), static_cast<int64_t>(count));
  return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
}
}

namespace temper {
namespace {

namespace fs = std::filesystem;

struct WorldFixture : testing::WorldWithModel {
  ~WorldFixture() { has_links = true; }

  // A job that goes on from `resumed_step`, saves this step, and keeps it alone.
  void save(int64_t resumed_step, int64_t step) {
    const ModelFolder model(source);
    UnitStore store(in_form(model.units()), world, {});
    CheckpointOptions options;
    options.keep = 1;
    CheckpointSaver saver({store, world, folder.path(), resumed_step}, published_model(model),
                          options);
    testing::fill_state(store, step);
    testing::save(saver, world, testing::run_state(step));
    world.barrier();
  }

  void publish(int64_t step) {
    publish_final(checkpoint(step), final_folder, world);
    world.barrier();
  }

  fs::path checkpoint(int64_t step) const {
    return checkpoints_of(folder.path()) / checkpoint_name(step);
  }

  fs::path final_folder = folder.path() / "final";
};

// Name to content of the files in a folder.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    found[entry.path().filename().string()] = content_of(entry.path());
  }
  return found;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(final_folder, WorldFixture)

BOOST_AUTO_TEST_CASE(it_is_what_others_open_of_the_checkpoint_and_costs_nothing) {
  save(0, 1);
  const auto wanted = contents(checkpoint(1) / "model");
  written_bytes = 0;
  publish(1);
  BOOST_TEST((contents(final_folder) == wanted));
  BOOST_TEST(written_bytes < 100'000);  // Of the small files; no rank has written weights.
  ModelFolder{final_folder};
  for (const auto& [name, content] : wanted) {
    const bool is_linked = fs::hard_link_count(final_folder / name) == 2;
    BOOST_TEST(is_linked == name.ends_with(".safetensors"), name);
  }
}

BOOST_AUTO_TEST_CASE(later_jobs_and_removed_checkpoints_leave_its_bytes_alone) {
  save(0, 1);
  publish(1);
  const auto wanted = contents(final_folder);
  world.barrier();
  save(1, 2);
  save(0, 1);  // The same step again: the run began afresh.
  BOOST_TEST(!fs::exists(checkpoint(2)));
  BOOST_TEST((contents(final_folder) == wanted));
  publish(1);
  BOOST_TEST((contents(final_folder) == contents(checkpoint(1) / "model")));
  BOOST_TEST(!fs::exists(final_folder.string() + ".tmp"));
}

BOOST_AUTO_TEST_CASE(without_links_each_rank_copies_its_part) {
  has_links = false;
  save(0, 1);
  publish(1);
  save(1, 2);
  const auto wanted = contents(checkpoint(2) / "model");
  int64_t all_bytes = 0;
  for (const auto& [name, content] : wanted) all_bytes += std::ssize(content);
  written_bytes = 0;
  publish(2);  // In place of the other one.
  BOOST_TEST((contents(final_folder) == wanted));
  BOOST_TEST(fs::hard_link_count(final_folder / "model-00001-of-00004.safetensors") == 1u);
  if (world.world_size() > 1) BOOST_TEST(written_bytes < all_bytes);
  BOOST_TEST(all_of(world, written_bytes > 0));
}

BOOST_AUTO_TEST_CASE(a_damaged_checkpoint_is_refused_on_all_ranks_and_the_old_result_stays) {
  has_links = false;
  save(0, 1);
  publish(1);
  const auto old = contents(final_folder);
  save(1, 2);
  const fs::path damaged = checkpoint(2) / "model/model-00004-of-00004.safetensors";
  if (world.rank() == 0) {
    std::string text = content_of(damaged);
    text.back() ^= 1;
    put(damaged, text);
  }
  world.barrier();
  std::string message;
  try {
    publish_final(checkpoint(2), final_folder, world);
  } catch (const CheckpointError& error) {
    message = error.what();
  }
  BOOST_TEST(message.find(damaged.string() + " was altered: bytes [") != std::string::npos,
             message);
  BOOST_TEST((contents(final_folder) == old));
  world.barrier();
}

BOOST_AUTO_TEST_CASE(an_adapter_of_any_size_is_exported_in_pieces) {
  const fs::path adapter = folder.path() / concat("adapter", world.rank());
  const fs::path copy = folder.path() / concat("copy", world.rank());
  fs::create_directory(adapter);
  for (const char* name : {"adapter_config.json", "base.json"}) put(adapter / name, "{}");
  std::string weights(9 << 20, 'w');
  weights.back() = 'e';
  put(adapter / "adapter_model.safetensors", weights);
  most_bytes = 0;
  export_adapter(adapter, copy);
  BOOST_TEST(most_bytes <= 4 << 20);
  BOOST_TEST((contents(copy) == contents(adapter)));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
