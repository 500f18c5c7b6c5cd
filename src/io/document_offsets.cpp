// SPDX-License-Identifier: Apache-2.0
#include "io/document_offsets.h"

#include <algorithm>
#include <utility>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr int64_t kStride = 512;             // One page of a file.
constexpr int64_t kScanned = 256 * kStride;  // Offsets read at once when all are; 1 MiB.

[[noreturn]] void refuse(const HashedPayload& payload, const std::string& problem) {
  throw DataError(concat(payload.name(), ' ', problem),
                  "make the shard again as datasets/FORMAT.md describes");
}

std::vector<int64_t> read_offsets(const HashedPayload& payload, Range indices) {
  std::vector<int64_t> result(static_cast<size_t>(indices.size()));
  payload.read(indices.begin, std::as_writable_bytes(std::span(result)));
  return result;
}

}  // namespace

std::vector<int64_t> read_sparse_offsets(const HashedPayload& payload, int64_t num_tokens) {
  std::vector<int64_t> sparse;
  int64_t previous = -1;
  const int64_t count = payload.num_elements();
  for (int64_t begin = 0; begin < count; begin += kScanned) {
    const auto part = read_offsets(payload, {begin, std::min(begin + kScanned, count)});
    for (size_t i = 0; i < part.size(); ++i) {
      const int64_t index = begin + static_cast<int64_t>(i);
      if (part[i] <= previous) {
        refuse(payload,
               concat("does not rise: offset ", index, " is ", part[i], " after ", previous));
      }
      if (index == 0 && part[i] != 0) refuse(payload, concat("begins with ", part[i], ", not 0"));
      if (index % kStride == 0) sparse.push_back(part[i]);
      previous = part[i];
    }
  }
  if (previous != num_tokens) {
    refuse(payload, concat("ends with ", previous, "; wanted the number of tokens, ", num_tokens));
  }
  return sparse;
}

DocumentOffsets::DocumentOffsets(const HashedPayload& payload, std::vector<int64_t> sparse)
    : payload_(payload), sparse_(std::move(sparse)) {}

Range DocumentOffsets::document(int64_t index) const {
  const auto pair = offsets({index, index + 2});
  return {pair[0], pair[1]};
}

int64_t DocumentOffsets::document_of(int64_t token) const {
  const auto above = std::upper_bound(sparse_.begin(), sparse_.end(), token);
  const int64_t begin = (above - sparse_.begin() - 1) * kStride;
  const auto part = offsets({begin, std::min(begin + kStride, num_documents() + 1)});
  return begin + (std::upper_bound(part.begin(), part.end(), token) - part.begin()) - 1;
}

std::vector<int64_t> DocumentOffsets::offsets(Range indices) const {
  return read_offsets(payload_, indices);
}

std::vector<int64_t> DocumentOffsets::offsets_in(Range tokens) const {
  std::vector<int64_t> result;
  int64_t next = document_of(tokens.begin) + 1;
  while (next <= num_documents()) {
    const auto part = offsets({next, std::min(next + kStride, num_documents() + 1)});
    const auto end = std::upper_bound(part.begin(), part.end(), tokens.end);
    result.insert(result.end(), part.begin(), end);
    if (end != part.end()) break;
    next += kStride;
  }
  return result;
}

}  // namespace temper
