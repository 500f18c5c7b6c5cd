// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/verification.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/sealed_manifest.h"
#include "checkpoint/single_rank.h"
#include "checkpoint/tiny_folder.h"
#include "core/concat.h"
#include "core/hash.h"
#include "io/file.h"
#include "io/json.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace {

bool is_listing_forbidden = false;  // As by the rights of a folder, which root does not feel.

// So many of the next calls fail, as over a network file system whose server is away.
int num_lost_reads = 0;
int num_lost_stats = 0;

bool is_lost(int& count) {
  if (count == 0) return false;
  --count;
  errno = ESTALE;
  return true;
}

}  // namespace

// These definitions stand before libc's.
extern "C" ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  return is_lost(num_lost_reads) ? -1 : syscall(SYS_pread64, descriptor, bytes, count, offset);
}

// std::filesystem asks for a file's status by one of these, as old as the library that has it.
extern "C" int stat(const char* path, struct stat* status) noexcept {
  if (is_lost(num_lost_stats)) return -1;
  return static_cast<int>(syscall(SYS_newfstatat, AT_FDCWD, path, status, 0));
}

extern "C" int __xstat(int, const char* path, struct stat* status) noexcept {
  return stat(path, status);
}

extern "C" DIR* fdopendir(int descriptor) {
  using Call = DIR* (*)(int);
  static const auto next = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "fdopendir"));
  if (!is_listing_forbidden) return next(descriptor);
  errno = EACCES;
  return nullptr;
}

namespace temper {
namespace {

namespace fs = std::filesystem;
using testing::Head;

const Pauses kTwoTries(2);  // More than the first, without a pause.

/// A run with checkpoints of steps 1 and 2.
struct Fixture {
  Fixture() {
    testing::write_tiny_folder(folder / "source", Head::kTied, DType::kF32);
    const ModelFolder model(folder / "source");
    UnitStore store(in_form(model.units()), ranks, {});
    CheckpointSaver saver({store, ranks, folder.path()}, published_model(model), {});
    for (const int64_t step : {1, 2}) {
      testing::fill_state(store, step);
      testing::save(saver, ranks, testing::run_state(step));
    }
  }

  fs::path checkpoint(int64_t step) const {
    return checkpoints_of(folder.path()) / checkpoint_name(step);
  }

  // The newest checkpoint is refused with this message, and the one before is taken.
  void expect_passed_over(const std::string& message) {
    BOOST_CHECK_EXCEPTION(verify_checkpoint(checkpoint(2), ranks), CheckpointError, says(message));
    const auto found = find_newest_whole(folder.path(), ranks);
    BOOST_REQUIRE(found.has_value());
    BOOST_TEST(found->manifest().step == 1);
    BOOST_TEST(found->folder() == checkpoint(1));
  }

  testing::SingleRank ranks;
  TemporaryFolder folder;
};

void flip_bit(const fs::path& path, int64_t offset) {
  const File file = File::open_shared(path, FilePurpose::kCheckpoint);
  std::byte byte{};
  file.read(offset, std::span(&byte, 1));
  byte ^= std::byte{16};
  file.write(offset, std::span(&byte, 1));
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(verification, Fixture)

BOOST_AUTO_TEST_CASE(the_newest_whole_one_is_found) {
  const auto found = find_newest_whole(folder.path(), ranks);
  BOOST_REQUIRE(found.has_value());
  BOOST_TEST(found->manifest().step == 2);
  BOOST_TEST(found->manifest().world_size == 1);
}

BOOST_AUTO_TEST_CASE(every_file_of_the_folder_is_in_the_manifest) {
  const Manifest manifest = check_files(checkpoint(2));
  size_t num_files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(checkpoint(2))) {
    num_files += entry.is_regular_file();
  }
  BOOST_TEST(manifest.files.size() + 1 == num_files);
  BOOST_TEST(manifest.units.size() == 4u);
}

// One bit in the middle of each file, and in its first and last byte.
BOOST_AUTO_TEST_CASE(a_flipped_bit_in_any_file_is_found_and_the_file_named) {
  const Manifest manifest = check_files(checkpoint(2));
  for (const ManifestFile& file : manifest.files) {
    const fs::path path = checkpoint(2) / file.path;
    const bool is_list = file.path == Manifest::kDigestsName;
    const char* what = is_list ? " was altered: its digests of " : " was altered: bytes [";
    for (const int64_t offset : {int64_t{0}, file.bytes / 2, file.bytes - 1}) {
      flip_bit(path, offset);
      BOOST_CHECK_EXCEPTION(verify_checkpoint(checkpoint(2), ranks), CheckpointError,
                            says(concat(path.string(), what)));
      flip_bit(path, offset);
    }
  }
  verify_checkpoint(checkpoint(2), ranks);
}

BOOST_AUTO_TEST_CASE(an_altered_checkpoint_is_passed_over) {
  const fs::path path = checkpoint(2) / "optimizer/master-00002-of-00004.safetensors";
  flip_bit(path, 5000);
  expect_passed_over(concat(path.string(), " was altered: bytes [4096, "));
}

BOOST_AUTO_TEST_CASE(a_missing_file_is_passed_over) {
  fs::remove(checkpoint(2) / "model/tokenizer.json");
  expect_passed_over("model/tokenizer.json is missing");
}

BOOST_AUTO_TEST_CASE(a_short_file_is_passed_over) {
  const fs::path path = checkpoint(2) / "optimizer/first_moment-00001-of-00004.safetensors";
  const auto size = fs::file_size(path);
  fs::resize_file(path, size - 1);
  expect_passed_over(concat(path.string(), " has ", size - 1, " bytes, wanted ", size));
}

BOOST_AUTO_TEST_CASE(a_file_that_became_a_folder_is_passed_over) {
  fs::remove(checkpoint(2) / "state.json");
  fs::create_directory(checkpoint(2) / "state.json");
  expect_passed_over("state.json is not a regular file");
}

BOOST_AUTO_TEST_CASE(swapped_files_are_passed_over) {
  const fs::path a = checkpoint(2) / "optimizer/first_moment-00001-of-00004.safetensors";
  const fs::path b = checkpoint(2) / "optimizer/second_moment-00001-of-00004.safetensors";
  fs::rename(a, folder / "aside");
  fs::rename(b, a);
  fs::rename(folder / "aside", b);
  expect_passed_over("was altered");
}

BOOST_AUTO_TEST_CASE(a_torn_manifest_is_passed_over) {
  const fs::path path = checkpoint(2) / "MANIFEST.json";
  fs::resize_file(path, fs::file_size(path) / 2);
  expect_passed_over("MANIFEST.json");
}

BOOST_AUTO_TEST_CASE(an_empty_or_missing_manifest_is_passed_over) {
  fs::resize_file(checkpoint(2) / "MANIFEST.json", 0);
  expect_passed_over("MANIFEST.json");
  fs::remove(checkpoint(2) / "MANIFEST.json");
  expect_passed_over("MANIFEST.json");
}

BOOST_AUTO_TEST_CASE(a_second_manifest_is_passed_over) {
  fs::copy(checkpoint(1) / "MANIFEST.json", checkpoint(2) / "MANIFEST.json.1");
  expect_passed_over("step-00000002 has a second manifest, MANIFEST.json.1");
}

BOOST_AUTO_TEST_CASE(the_manifest_of_another_step_is_passed_over) {
  fs::copy(checkpoint(1) / "MANIFEST.json", checkpoint(2) / "MANIFEST.json",
           fs::copy_options::overwrite_existing);
  expect_passed_over("step-00000002/MANIFEST.json is that of step 1");
}

BOOST_AUTO_TEST_CASE(a_newer_format_is_no_damage) {
  std::string text = content_of(checkpoint(2) / "MANIFEST.json");
  const std::string now = concat("\"format_version\": ", Manifest::kFormatVersion);
  text.replace(text.find(now), now.size(), "\"format_version\": 99");
  put(checkpoint(2) / "MANIFEST.json", text);
  const auto refusal = says(concat("MANIFEST.json has format version 99; this temper reads up to ",
                                   Manifest::kFormatVersion));
  BOOST_CHECK_EXCEPTION(verify_checkpoint(checkpoint(2), ranks), NewerFormatError, refusal);
  BOOST_CHECK_EXCEPTION(find_newest_whole(folder.path(), ranks), NewerFormatError, refusal);
}

// Two tries may fail here, and the third does not.
BOOST_AUTO_TEST_CASE(what_cannot_be_read_for_a_moment_is_tried_again) {
  for (int* lost : {&num_lost_reads, &num_lost_stats}) {
    *lost = 2;
    const auto found = find_newest_whole(folder.path(), ranks, kTwoTries);
    BOOST_REQUIRE(found.has_value());
    BOOST_TEST(found->manifest().step == 2);
    BOOST_TEST(*lost == 0);
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_read_is_never_passed_over) {
  for (int* lost : {&num_lost_reads, &num_lost_stats}) {
    *lost = 3;
    BOOST_CHECK_EXCEPTION(find_newest_whole(folder.path(), ranks, kTwoTries), StorageError,
                          says("step-00000002 cannot be read now, and may be whole: "));
    BOOST_TEST(*lost == 0);
  }
  is_listing_forbidden = true;
  BOOST_CHECK_THROW(find_newest_whole(folder.path(), ranks, kTwoTries), StorageError);
  is_listing_forbidden = false;
}

// Rewritten as version 1 had it: each segment with its digest in the manifest, and no other list.
BOOST_AUTO_TEST_CASE(a_checkpoint_of_format_version_1_is_verified_and_loaded) {
  const SharedManifest now = read_manifest(checkpoint(2), VerifiedPart::kWhole, [](auto&) {});
  Json old = Json::parse(content_of(checkpoint(2) / "MANIFEST.json"));
  old["format_version"] = 1;
  old["files"] = Json::array();
  for (const Segment& segment : now.segments) {
    const auto& [path, bytes, first, later, hash] = *segment.file;
    if (path == Manifest::kDigestsName) continue;
    const Range at = segment.bytes;
    if (at.begin == 0) old["files"].push_back({{"path", path}, {"bytes", bytes}});
    old["files"].back()["segments"].push_back(
        {{"offset", at.begin}, {"bytes", at.size()}, {"sha256", to_hex(segment.sha256)}});
  }
  put(checkpoint(2) / "MANIFEST.json", testing::sealed_text(old));
  fs::remove(checkpoint(2) / Manifest::kDigestsName);

  const VerifiedCheckpoint verified = verify_checkpoint(checkpoint(2), ranks);
  BOOST_TEST(verified.manifest().format_version == 1);
  UnitStore store(in_form(testing::tiny_units(Head::kTied)), ranks, {});
  load_checkpoint(verified, store, ranks);
  BOOST_TEST(testing::has_state(store, 2));
  flip_bit(checkpoint(2) / "optimizer/master-00002-of-00004.safetensors", 5000);
  expect_passed_over("was altered: bytes [4096, ");
}

BOOST_AUTO_TEST_CASE(a_list_of_digests_that_is_too_short_is_named) {
  Json manifest = Json::parse(content_of(checkpoint(2) / "MANIFEST.json"));
  for (Json& file : manifest["files"]) {
    if (file["path"] == Manifest::kDigestsName) file["bytes"] = 64;
  }
  put(checkpoint(2) / "MANIFEST.json", testing::sealed_text(manifest));
  fs::resize_file(checkpoint(2) / Manifest::kDigestsName, 64);
  expect_passed_over("digests.bin has 64 bytes, too few for the segments of all files");
}

BOOST_AUTO_TEST_CASE(if_none_is_whole_all_are_named) {
  fs::remove(checkpoint(1) / "state.json");
  flip_bit(checkpoint(2) / "state.json", 3);
  BOOST_CHECK_EXCEPTION(find_newest_whole(folder.path(), ranks), CheckpointError,
                        says("is whole:\n  step-00000002: "));
  BOOST_CHECK_EXCEPTION(find_newest_whole(folder.path(), ranks), CheckpointError,
                        says("\n  step-00000001: "));
}

BOOST_AUTO_TEST_CASE(the_latest_link_has_no_say) {
  const fs::path latest = checkpoints_of(folder.path()) / "latest";
  BOOST_TEST(fs::read_symlink(latest) == "step-00000002");
  fs::remove(latest);
  fs::create_symlink("step-00000077", latest);
  BOOST_TEST(find_newest_whole(folder.path(), ranks)->manifest().step == 2);
}

BOOST_AUTO_TEST_CASE(a_copy_elsewhere_may_have_any_name) {
  fs::copy(checkpoint(2), folder / "best", fs::copy_options::recursive);
  BOOST_TEST(verify_checkpoint(folder / "best", ranks).manifest().step == 2);
}

BOOST_AUTO_TEST_CASE(names_that_are_no_checkpoints_are_left_alone) {
  for (const char* name : {"step-3", "step-00000003x", "step-00000003.tmp", "other",
                           "step--0000003", "step-00000004.superseded"}) {
    fs::create_directory(checkpoints_of(folder.path()) / name);
  }
  BOOST_TEST(list_checkpoints(checkpoints_of(folder.path())).size() == 2u);
  BOOST_TEST(is_checkpoint_name("step-123456789"));
  BOOST_TEST(!is_checkpoint_name("step-0123456789"));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_listed_is_named) {
  is_listing_forbidden = true;
  const std::string refused = concat("cannot read ", checkpoint(2).string(), ": Permission denied");
  BOOST_CHECK_EXCEPTION(check_files(checkpoint(2)), CheckpointError, says(refused));
  const fs::path all = checkpoints_of(folder.path());
  BOOST_CHECK_EXCEPTION(find_newest_whole(folder.path(), ranks, kTwoTries), StorageError,
                        says(concat("cannot read the folder ", all.string(), ": Permission den")));
  is_listing_forbidden = false;
  BOOST_TEST(list_checkpoints(all / "not there").empty());
  BOOST_CHECK_EXCEPTION(list_checkpoints(checkpoint(2) / "state.json"), CheckpointError,
                        says("state.json: Not a directory"));
}

BOOST_AUTO_TEST_CASE(a_state_file_of_another_step_is_refused) {
  // Only a manifest made for it could let it pass the hashes.
  Json manifest = Json::parse(content_of(checkpoint(2) / "MANIFEST.json"));
  const std::string state = content_of(checkpoint(1) / "state.json");
  put(checkpoint(2) / "state.json", state);
  for (Json& file : manifest["files"]) {
    if (file["path"] != "state.json") continue;
    file.update({{"bytes", state.size()}, {"sha256", to_hex(sha256(state))}});
  }
  put(checkpoint(2) / "MANIFEST.json", testing::sealed_text(manifest));
  const VerifiedCheckpoint verified = verify_checkpoint(checkpoint(2), ranks);
  UnitStore store(in_form(testing::tiny_units(Head::kTied)), ranks, {});
  BOOST_CHECK_EXCEPTION(load_checkpoint(verified, store, ranks), CheckpointError,
                        says("state.json is that of step 1, not 2"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
