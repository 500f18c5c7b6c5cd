// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdarg>

#include "io/says.h"
#include "io/temporary_folder.h"

namespace {

// What the next system calls do instead of their work. These definitions stand before libc's.
struct Faults {
  int reason = 0;          // errno of the failing calls.
  int count = 0;           // So many calls fail.
  size_t most_bytes = -1;  // No transfer moves more.
};
Faults open_faults;
Faults transfer_faults;
Faults sync_faults;
Faults close_faults;

bool fails(Faults& faults) {
  if (faults.count == 0) return false;
  --faults.count;
  errno = faults.reason;
  return true;
}

}  // namespace

extern "C" {
int open(const char* path, int flags, ...) {
  if (fails(open_faults)) return -1;
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  if (fails(transfer_faults)) return -1;
  return syscall(SYS_pread64, descriptor, bytes, std::min(count, transfer_faults.most_bytes),
                 offset);
}

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  if (fails(transfer_faults)) return -1;
  return syscall(SYS_pwrite64, descriptor, bytes, std::min(count, transfer_faults.most_bytes),
                 offset);
}

int fsync(int descriptor) {
  if (fails(sync_faults)) return -1;
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}

int close(int descriptor) {
  const auto status = static_cast<int>(syscall(SYS_close, descriptor));
  return fails(close_faults) ? -1 : status;
}
}

namespace temper {
namespace {

struct Fixture {
  Fixture() { open_faults = transfer_faults = sync_faults = close_faults = {}; }
  ~Fixture() { open_faults = transfer_faults = sync_faults = close_faults = {}; }

  std::string read(const std::filesystem::path& path, int64_t offset, size_t count) {
    std::string text(count, '?');
    const File file = File::open(path, FilePurpose::kData);
    file.read(offset, std::as_writable_bytes(std::span(text)));
    return text;
  }

  TemporaryFolder folder;
  std::filesystem::path ten = put(folder / "ten", "0123456789");
};

BOOST_FIXTURE_TEST_SUITE(file, Fixture)

BOOST_AUTO_TEST_CASE(a_read_fills_the_bytes_from_the_offset) {
  BOOST_TEST(read(ten, 3, 4) == "3456");
  BOOST_TEST(read(ten, 10, 0) == "");
}

BOOST_AUTO_TEST_CASE(short_and_interrupted_transfers_are_carried_on) {
  transfer_faults = {EINTR, 100, 1};
  BOOST_TEST(read(ten, 0, 10) == "0123456789");
  transfer_faults = {EINTR, 100, 3};
  write_file_atomically(folder / "new", "abcdefgh");
  transfer_faults = {};
  BOOST_TEST(content_of(folder / "new") == "abcdefgh");
}

BOOST_AUTO_TEST_CASE(a_device_error_that_passes_is_survived) {
  transfer_faults = {EIO, 3};
  BOOST_TEST(read(ten, 0, 10) == "0123456789");
}

BOOST_AUTO_TEST_CASE(a_device_error_that_stays_names_the_place) {
  transfer_faults = {EIO, 1000};
  BOOST_CHECK_EXCEPTION(
      read(ten, 2, 5), DataError,
      says(ten.string() + ": reading 5 bytes at byte 2 failed: Input/output error"));
  BOOST_TEST(transfer_faults.count == 1000 - 4);
  transfer_faults = {EIO, 1000};
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "new", "abc"), CheckpointError,
                        says("writing 3 bytes at byte 0 failed: Input/output error"));
}

BOOST_AUTO_TEST_CASE(a_read_past_the_end_says_truncated) {
  BOOST_CHECK_EXCEPTION(
      read(ten, 8, 4), DataError,
      says(ten.string() + " is truncated: it ends at byte 10, but bytes [10, 12) are wanted"));
}

BOOST_AUTO_TEST_CASE(a_full_disk_says_how_much_is_needed) {
  transfer_faults = {ENOSPC, 1};
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "new", "abcde"), CheckpointError,
                        says("free at least 5 bytes there, or choose another folder (free now: "));
  transfer_faults = {EDQUOT, 1};
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "new", "abcde"), CheckpointError,
                        says("a quota may be lower"));
}

BOOST_AUTO_TEST_CASE(a_failed_flush_or_close_is_an_error_and_is_not_tried_again) {
  sync_faults = {EIO, 1};
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "new", "abc"), CheckpointError,
                        says("flushing it to storage failed: Input/output error"));
  close_faults = {EDQUOT, 1};
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "new", "abc"), CheckpointError,
                        says("closing it failed: Disk quota exceeded"));
}

BOOST_AUTO_TEST_CASE(a_failed_replacement_leaves_the_old_content_and_no_litter) {
  for (Faults* faults : {&transfer_faults, &sync_faults, &close_faults}) {
    *faults = {ENOSPC, 1};
    BOOST_CHECK_THROW(write_file_atomically(ten, "new content"), CheckpointError);
    BOOST_TEST(content_of(ten) == "0123456789");
    const auto first = std::filesystem::directory_iterator(folder.path());
    BOOST_TEST(std::distance(first, {}) == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_replacement_is_flushed_before_and_its_folder_after_the_rename) {
  sync_faults = {EINVAL, 0};
  write_file_atomically(ten, "new");
  BOOST_TEST(content_of(ten) == "new");
  sync_faults = {EIO, 1};
  BOOST_CHECK_EXCEPTION(sync_folder(folder.path(), FilePurpose::kCheckpoint), CheckpointError,
                        says("flushing the folder to storage failed"));
  sync_faults = {EINVAL, 1};  // A file system that cannot flush folders.
  sync_folder(folder.path(), FilePurpose::kCheckpoint);
  BOOST_CHECK_EXCEPTION(sync_folder(folder / "gone", FilePurpose::kModel), ModelError,
                        says("gone: opening the folder failed: No such file or directory"));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_opened_names_the_reason_and_the_cure) {
  BOOST_CHECK_EXCEPTION(File::open(folder / "gone", FilePurpose::kData), DataError,
                        says("gone: opening it failed: No such file or directory\n"
                             "  try: check the path"));
  BOOST_CHECK_EXCEPTION(File::open(folder.path(), FilePurpose::kModel), ModelError,
                        says("is not a regular file"));
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "gone" / "file", ""), CheckpointError,
                        says("No such file or directory"));
  BOOST_REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  BOOST_CHECK_EXCEPTION(File::open(folder / "pipe", FilePurpose::kData), DataError,
                        says("is not a regular file"));
}

BOOST_AUTO_TEST_CASE(each_reason_has_its_cure) {
  const auto expect = [&](int reason, const char* text) {
    open_faults = {reason, 1};
    BOOST_CHECK_EXCEPTION(File::open(ten, FilePurpose::kData), DataError, says(text));
  };
  expect(EACCES, "Permission denied\n  try: check the rights of the file and its folder");
  expect(EROFS, "Read-only file system\n  try: check the rights of the file");
  expect(EMFILE, "Too many open files\n  try: raise the limit of open files (ulimit -n)");
  expect(ENOTDIR, "Not a directory\n  try: check the path");
  expect(ENOLCK, "No locks available\n  try: check the storage, then start again");
}

BOOST_AUTO_TEST_CASE(what_cannot_be_replaced_or_resized_is_named) {
  std::filesystem::create_directory(folder / "taken");
  BOOST_CHECK_EXCEPTION(write_file_atomically(folder / "taken", "abc"), CheckpointError,
                        says("taken: renaming the new file to it failed: Is a directory"));
  const File file = File::open_shared(folder / "shared", FilePurpose::kCheckpoint);
  BOOST_CHECK_EXCEPTION(file.resize(-1), CheckpointError,
                        says("shared: setting its size to -1 bytes failed: Invalid argument"));
}

BOOST_AUTO_TEST_CASE(parts_of_a_shared_file_are_written_side_by_side) {
  File first = File::open_shared(folder / "shared", FilePurpose::kCheckpoint);
  File second = File::open_shared(folder / "shared", FilePurpose::kCheckpoint);
  second.write(4, std::as_bytes(std::span("late", 4)));
  first.write(0, std::as_bytes(std::span("soon", 4)));
  BOOST_TEST(first.size() == 8);
  first.resize(10);
  first.sync();
  first.close();
  BOOST_TEST(content_of(folder / "shared") == std::string("soonlate\0\0", 10));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_too_big_to_be_read_whole_is_refused) {
  BOOST_TEST(read_file(ten, FilePurpose::kModel, 10) == "0123456789");
  BOOST_CHECK_EXCEPTION(read_file(ten, FilePurpose::kModel, 9), ModelError,
                        says("has 10 bytes; at most 9 are expected in such a file"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
