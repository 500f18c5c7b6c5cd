// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/hash.h"
#include "io/dtype.h"

namespace temper {

/// A contiguous part of a file: a text, or numbers.
struct FilePart {
  int64_t offset = 0;  ///< In bytes.
  std::string text;
  std::span<const float> numbers;  ///< Instead of a text; not to be changed while it is written.
  DType dtype = DType::kF32;       ///< What the numbers are rounded to on the way.
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
