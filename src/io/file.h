// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "core/range.h"

namespace temper {

/// What a file is read or written for: the kind of Error that its failures become.
enum class FilePurpose { kData, kModel, kCheckpoint };

/// Throws: DataError, ModelError or CheckpointError, as `purpose` says.
[[noreturn]] void throw_file_error(FilePurpose purpose, const std::string& problem,
                                   const std::string& remedy);

/// A checkpoint could not be judged: it may be whole, so that it is never passed over for an older
/// one, nor called damaged.
class UnjudgedError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

/// Storage did not do what was asked for a checkpoint: another try may succeed. A `File` of a
/// checkpoint throws it for every reason that is no absence.
class StorageError : public UnjudgedError {
 public:
  using UnjudgedError::UnjudgedError;
};

/// Whether the reason for which a path could not be looked at is that nothing is there, or
/// something else than was wanted: another try comes to the same, as for no other reason.
bool is_absence(const std::error_code& reason);

/// Owns an open file. Its const calls may be made from many threads at once.
///
/// Interrupted and short transfers are carried on; a device error is tried again a few times.
/// Throws: the Error of `purpose`, with the file, the place, the system's reason and a remedy.
class File {
 public:
  /// Opens an existing file for reading.
  static File open(std::filesystem::path path, FilePurpose purpose);

  /// Opens a file for writing that other processes may write at other places; creates it if it is
  /// not there.
  static File open_shared(std::filesystem::path path, FilePurpose purpose);

  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  FilePurpose purpose() const { return purpose_; }

  /// In bytes.
  int64_t size() const;

  /// Fills `bytes` from `offset` on; a file that ends before is an error.
  void read(int64_t offset, std::span<std::byte> bytes) const;

  /// Writes all of `bytes` from `offset` on.
  void write(int64_t offset, std::span<const std::byte> bytes) const;

  /// Cuts the file, or extends it by zeros.
  void resize(int64_t num_bytes) const;

  /// Returns when storage has what was written.
  void sync() const;

  /// Reports what the destructor cannot: some file systems tell of a failed write only here.
  void close();

  /// Lets the kernel begin to write what lies in memory of `bytes`, so that `sync` has little left
  /// to do at once. Does not wait, and promises nothing.
  void begin_sync(Range bytes) const;

 private:
  friend void write_file_atomically(const std::filesystem::path&, std::string_view, FilePurpose);

  File(std::filesystem::path path, FilePurpose purpose, int flags);

  std::filesystem::path path_;
  FilePurpose purpose_;
  int descriptor_ = -1;
};

/// Whether something is at `path`, as far as can be seen.
bool is_there(const std::filesystem::path& path);

/// Reads bytes of a file, however many, in pieces of at most 4 MiB, and hands each to `take`.
/// Throws: as File::read; what `take` throws.
void read_in_pieces(const File& file, Range bytes,
                    const std::function<void(std::span<const std::byte>)>& take);

/// Copies bytes of a file, however many, to another one from `offset` on. Holds a piece at a time.
void copy_bytes(const File& from, Range bytes, const File& to, int64_t offset);

/// Copies a file of any size to one that is not there yet, and flushes the copy to storage.
void copy_file(const std::filesystem::path& from, const std::filesystem::path& to,
               FilePurpose purpose);

/// Makes creations, renames and removals in `folder` survive a loss of power.
void sync_folder(const std::filesystem::path& folder, FilePurpose purpose);

/// Replaces the content of a file: whoever reads it, or the machine after a crash, finds all of the
/// old content or all of the new. Durable when it returns.
void write_file_atomically(const std::filesystem::path& path, std::string_view content,
                           FilePurpose purpose = FilePurpose::kCheckpoint);

/// Removes what a killed `write_file_atomically` to `path` left. Nobody may be writing it.
void remove_leftovers_of(const std::filesystem::path& path);

/// A small file, whole.
struct TextFile {
  std::string path;  ///< Below the folder in question, with `/`.
  std::string text;
};

/// The whole content of a file that stays small whatever the model and the number of ranks, such as
/// a configuration; others are read in pieces. Throws too if it has more than `max_bytes`.
std::string read_file(const std::filesystem::path& path, FilePurpose purpose,
                      int64_t max_bytes = int64_t{1} << 30);

}  // namespace temper
