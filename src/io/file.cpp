// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "core/concat.h"

namespace temper {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;  // Arbitrary.
constexpr const char* kTemporary = ".tmp";         // How the names of temporary files end.
constexpr int kMaxRetries = 3;  // Of a device error; arbitrary, as is the pause before the first.
constexpr std::chrono::milliseconds kFirstPause{20};

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

std::string space_remedy(const std::filesystem::path& path, int64_t wanted_bytes) {
  struct statvfs space {};
  std::string remedy =
      concat("free at least ", wanted_bytes, " bytes there, or choose another folder");
  if (::statvfs(folder_of(path).c_str(), &space) == 0) {
    remedy +=
        concat(" (free now: ", space.f_bavail * space.f_frsize, " bytes; a quota may be lower)");
  }
  return remedy;
}

std::string remedy_for(int reason, const std::filesystem::path& path, int64_t wanted_bytes) {
  switch (reason) {
    case ENOENT:
    case ENOTDIR: return "check the path";
    case EACCES:
    case EPERM:
    case EROFS: return "check the rights of the file and its folder";
    case ENOSPC:
    case EDQUOT: return space_remedy(path, wanted_bytes);
    case EMFILE:
    case ENFILE: return "raise the limit of open files (ulimit -n)";
    default: return "check the storage, then start again";
  }
}

[[noreturn]] void throw_system_error(FilePurpose purpose, const std::filesystem::path& path,
                                     const std::string& action, int64_t wanted_bytes = 0) {
  const int reason = errno;
  const std::string problem =
      concat(path.string(), ": ", action, " failed: ", std::strerror(reason));
  const std::string remedy = remedy_for(reason, path, wanted_bytes);
  if (purpose == FilePurpose::kCheckpoint && !is_absence({reason, std::generic_category()})) {
    throw StorageError(problem, remedy);
  }
  throw_file_error(purpose, problem, remedy);
}

/// Decides whether a failed transfer is worth another try, and waits a little before it.
class Retries {
 public:
  bool wants_another() {
    if (errno == EINTR) return true;
    if (errno != EIO || count_ == kMaxRetries) return false;
    std::this_thread::sleep_for(kFirstPause * (1 << (2 * count_++)));
    return true;
  }

 private:
  int count_ = 0;
};

/// Removes a temporary file that was not renamed.
struct TemporaryFile {
  std::filesystem::path path;
  bool is_renamed = false;

  ~TemporaryFile() {
    if (!is_renamed) ::unlink(path.c_str());
  }
};

// Another process, on another node too, never picks the same.
std::filesystem::path temporary_name(const std::filesystem::path& path) {
  std::random_device random;
  return folder_of(path) /
         concat('.', path.filename().string(), '.', ::getpid(), '-', random(), kTemporary);
}

}  // namespace

bool is_absence(const std::error_code& reason) {
  using enum std::errc;
  for (const std::errc one : {no_such_file_or_directory, not_a_directory, is_a_directory,
                              too_many_symbolic_link_levels, filename_too_long}) {
    if (reason == one) return true;
  }
  return false;
}

void throw_file_error(FilePurpose purpose, const std::string& problem, const std::string& remedy) {
  switch (purpose) {
    case FilePurpose::kData: throw DataError(problem, remedy);
    case FilePurpose::kModel: throw ModelError(problem, remedy);
    case FilePurpose::kCheckpoint: break;
  }
  throw CheckpointError(problem, remedy);
}

File::File(std::filesystem::path path, FilePurpose purpose, int flags)
    : path_(std::move(path)), purpose_(purpose) {
  Retries retries;
  do {
    descriptor_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && retries.wants_another());
  if (descriptor_ < 0) throw_system_error(purpose_, path_, "opening it");
}

File File::open(std::filesystem::path path, FilePurpose purpose) {
  // Not blocking: a pipe would wait for its writer. Regular files know no difference.
  File file(std::move(path), purpose, O_RDONLY | O_NONBLOCK);
  struct stat status {};
  if (::fstat(file.descriptor_, &status) != 0) throw_system_error(purpose, file.path_, "fstat");
  if (!S_ISREG(status.st_mode)) {
    throw_file_error(purpose, concat(file.path_.string(), " is not a regular file"),
                     "check the path");
  }
  return file;
}

File File::open_shared(std::filesystem::path path, FilePurpose purpose) {
  return {std::move(path), purpose, O_RDWR | O_CREAT};
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      purpose_(other.purpose_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) throw_system_error(purpose_, path_, "fstat");
  return status.st_size;
}

void File::read(int64_t offset, std::span<std::byte> bytes) const {
  Retries retries;
  while (!bytes.empty()) {
    const ssize_t count = ::pread(descriptor_, bytes.data(), bytes.size(), offset);
    if (count < 0) {
      if (retries.wants_another()) continue;
      throw_system_error(purpose_, path_,
                         concat("reading ", bytes.size(), " bytes at byte ", offset));
    }
    if (count == 0) {
      throw_file_error(
          purpose_,
          concat(path_.string(), " is truncated: it ends at byte ", size(), ", but bytes [", offset,
                 ", ", offset + std::ssize(bytes), ") are wanted"),
          "copy or make the file again");
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += count;
  }
}

void File::write(int64_t offset, std::span<const std::byte> bytes) const {
  Retries retries;
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (count == 0) errno = EIO;  // A device that takes nothing and does not say why.
    if (count <= 0) {
      if (retries.wants_another()) continue;
      throw_system_error(purpose_, path_,
                         concat("writing ", bytes.size(), " bytes at byte ", offset),
                         std::ssize(bytes));
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += count;
  }
}

void File::resize(int64_t num_bytes) const {
  int status = 0;
  do {
    status = ::ftruncate(descriptor_, num_bytes);
  } while (status != 0 && errno == EINTR);
  if (status != 0) {
    throw_system_error(purpose_, path_, concat("setting its size to ", num_bytes, " bytes"),
                       num_bytes);
  }
}

// Not tried again on EIO: the kernel has dropped the pages by then, and would report success.
void File::sync() const {
  int status = 0;
  do {
    status = ::fsync(descriptor_);
  } while (status != 0 && errno == EINTR);
  if (status != 0) throw_system_error(purpose_, path_, "flushing it to storage");
}

void File::begin_sync(Range bytes) const {
  ::sync_file_range(descriptor_, bytes.begin, bytes.size(), SYNC_FILE_RANGE_WRITE);
}

void File::close() {
  // On EINTR Linux has closed the descriptor already.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
    throw_system_error(purpose_, path_, "closing it");
  }
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

void read_in_pieces(const File& file, Range bytes,
                    const std::function<void(std::span<const std::byte>)>& take) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPieceBytes, bytes.size())));
  for (int64_t at = bytes.begin; at < bytes.end; at += kPieceBytes) {
    const std::span piece(buffer.data(),
                          static_cast<size_t>(std::min(kPieceBytes, bytes.end - at)));
    file.read(at, piece);
    take(piece);
  }
}

void copy_bytes(const File& from, Range bytes, const File& to, int64_t offset) {
  read_in_pieces(from, bytes, [&](std::span<const std::byte> piece) {
    to.write(offset, piece);
    offset += std::ssize(piece);
  });
}

void copy_file(const std::filesystem::path& from, const std::filesystem::path& to,
               FilePurpose purpose) {
  const File source = File::open(from, purpose);
  File copy = File::open_shared(to, purpose);
  copy_bytes(source, {0, source.size()}, copy, 0);
  copy.sync();
  copy.close();
}

void sync_folder(const std::filesystem::path& folder, FilePurpose purpose) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_system_error(purpose, folder, "opening the folder");
  const int status = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  // File systems that cannot flush a folder say so by EINVAL; nothing more can be done there.
  if (status != 0 && reason != EINVAL) {
    errno = reason;
    throw_system_error(purpose, folder, "flushing the folder to storage");
  }
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content,
                           FilePurpose purpose) {
  TemporaryFile temporary{temporary_name(path)};
  File file(temporary.path, purpose, O_RDWR | O_CREAT | O_EXCL);
  file.write(0, std::as_bytes(std::span(content)));
  file.sync();
  file.close();
  if (::rename(temporary.path.c_str(), path.c_str()) != 0) {
    throw_system_error(purpose, path, "renaming the new file to it");
  }
  temporary.is_renamed = true;
  sync_folder(folder_of(path), purpose);
}

void remove_leftovers_of(const std::filesystem::path& path) {
  const std::string prefix = concat('.', path.filename().string(), '.');
  std::error_code error;
  std::filesystem::directory_iterator entry(folder_of(path), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(kTemporary)) ::unlink(entry->path().c_str());
  }
}

std::string read_file(const std::filesystem::path& path, FilePurpose purpose, int64_t max_bytes) {
  const File file = File::open(path, purpose);
  const int64_t size = file.size();
  if (size > max_bytes) {
    throw_file_error(purpose,
                     concat(path.string(), " has ", size, " bytes; at most ", max_bytes,
                            " are expected in such a file"),
                     "check the path");
  }
  std::string content(static_cast<size_t>(size), '\0');
  file.read(0, std::as_writable_bytes(std::span(content)));
  return content;
}

}  // namespace temper
