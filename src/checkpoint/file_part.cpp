// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/file_part.h"

#include <algorithm>
#include <cmath>

#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace {

constexpr size_t kPieceElements = size_t{1} << 20;  // 4 MiB of fp32: arbitrary.
constexpr float kLargestHalf = 65504.0f;

std::span<const std::byte> converted(std::span<const float> numbers, DType dtype,
                                     std::vector<std::byte>& buffer) {
  if (dtype == DType::kF32) return std::as_bytes(numbers);
  buffer.resize(numbers.size() * static_cast<size_t>(num_bits(dtype) / 8));
  from_floats(dtype, numbers, buffer);
  return buffer;
}

void require_in_range(std::span<const float> numbers, DType dtype,
                      const std::filesystem::path& file) {
  if (dtype != DType::kF16) return;
  const auto largest = std::ranges::max(numbers, {}, [](float x) { return std::fabs(x); });
  if (std::fabs(largest) <= kLargestHalf) return;
  throw CheckpointError(concat(file.string(), ": the weight ", largest, " is too big for F16"),
                        "set checkpoint.model_dtype to bfloat16 or float32");
}

Digest write_part(const FilePart& part, const File& file, const std::stop_token& stop) {
  Sha256 hash;
  int64_t offset = part.offset;
  const auto write = [&](std::span<const std::byte> bytes) {
    hash.update(bytes);
    file.write(offset, bytes);
    file.begin_sync({offset, offset + std::ssize(bytes)});
    offset += std::ssize(bytes);
  };
  write(std::as_bytes(std::span(part.text)));
  std::vector<std::byte> buffer;
  const auto write_numbers = [&](std::span<const float> piece) {
    require_in_range(piece, part.dtype, file.path());
    write(converted(piece, part.dtype, buffer));
  };
  for (size_t i = 0; i < part.numbers.size() && !stop.stop_requested(); i += kPieceElements) {
    write_numbers(part.numbers.subspan(i, std::min(kPieceElements, part.numbers.size() - i)));
  }
  std::vector<float> piece;
  constexpr auto kPiece = static_cast<int64_t>(kPieceElements);
  for (int64_t i = 0; i < part.source.count && !stop.stop_requested(); i += kPiece) {
    piece.resize(static_cast<size_t>(std::min(kPiece, part.source.count - i)));
    part.source.read({i, i + std::ssize(piece)}, piece);
    write_numbers(piece);
  }
  return hash.finish();
}

}  // namespace

std::vector<Digest> write_parts(const FileJob& job, const std::stop_token& stop) {
  std::vector<Digest> digests;
  if (job.parts.empty()) return digests;
  File file = File::open_shared(job.file, FilePurpose::kCheckpoint);
  for (const FilePart& part : job.parts) digests.push_back(write_part(part, file, stop));
  file.sync();
  file.close();
  return digests;
}

}  // namespace temper
