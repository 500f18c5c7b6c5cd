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
constexpr int64_t kPieceBytes = int64_t{1} << 22;
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

size_t size_of(const FilePart& part) {
  return part.source.read ? static_cast<size_t>(part.source.size) : part.numbers.size();
}

std::span<const float> piece_of(const FilePart& part, size_t first, size_t count,
                                std::vector<float>& buffer) {
  if (!part.source.read) return part.numbers.subspan(first, count);
  buffer.resize(count);
  part.source.read({static_cast<int64_t>(first), static_cast<int64_t>(first + count)}, buffer);
  return buffer;
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
  for (int64_t i = 0; i < part.bytes.size && !stop.stop_requested(); i += kPieceBytes) {
    const Range piece{i, std::min(i + kPieceBytes, part.bytes.size)};
    buffer.resize(static_cast<size_t>(piece.size()));
    part.bytes.read(piece, buffer);
    write(buffer);
  }
  std::vector<float> decoded;
  const size_t size = size_of(part);
  for (size_t i = 0; i < size && !stop.stop_requested(); i += kPieceElements) {
    const auto piece = piece_of(part, i, std::min(kPieceElements, size - i), decoded);
    require_in_range(piece, part.dtype, file.path());
    write(converted(piece, part.dtype, buffer));
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
