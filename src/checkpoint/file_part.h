// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/range.h"
#include "io/dtype.h"

namespace temper {

/// Numbers that are read, or become fp32, piece by piece while they are written.
struct NumberSource {
  int64_t size = 0;
  /// Of [0, size), in order. Throws: Error.
  std::function<void(Range, std::span<float>)> read = {};
};

/// Bytes that are read piece by piece while they are written.
struct ByteSource {
  int64_t size = 0;
  /// Of [0, size), in order. Throws: Error.
  std::function<void(Range, std::span<std::byte>)> read = {};
};

/// A contiguous part of a file: a text, numbers, or bytes.
struct FilePart {
  int64_t offset = 0;  ///< In bytes.
  std::string text;
  std::span<const float> numbers;  ///< Instead of a text; not to be changed while it is written.
  DType dtype = DType::kF32;       ///< What the numbers are rounded to on the way.
  NumberSource source = {};        ///< Instead of numbers that lie in memory as fp32.
  ByteSource bytes = {};           ///< Instead of numbers.
};

/// What this rank writes of one file; other ranks may write other parts of it.
struct FileJob {
  std::filesystem::path file;
  std::vector<FilePart> parts;
};

/// Writes the parts, flushes them to storage and closes the file. Creates the file if it is not
/// there; without parts it does nothing. A requested stop ends it early; the digests then mean
/// nothing.
///
/// Returns the SHA-256 of each part's bytes, taken on the way.
/// Throws: CheckpointError, also for a number that has no finite value in the part's dtype.
std::vector<Digest> write_parts(const FileJob& job, const std::stop_token& stop = {});

}  // namespace temper
