// SPDX-License-Identifier: Apache-2.0
#include "io/document_offsets.h"

#include <algorithm>

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

}  // namespace

DocumentOffsets::DocumentOffsets(const HashedPayload& payload, int64_t num_tokens)
    : payload_(payload) {
  int64_t previous = -1;
  for (int64_t begin = 0; begin <= num_documents(); begin += kScanned) {
    const auto part = offsets({begin, std::min(begin + kScanned, num_documents() + 1)});
    for (size_t i = 0; i < part.size(); ++i) {
      const int64_t index = begin + static_cast<int64_t>(i);
      if (part[i] <= previous) {
        refuse(payload_,
               concat("does not rise: offset ", index, " is ", part[i], " after ", previous));
      }
      if (index == 0 && part[i] != 0) refuse(payload_, concat("begins with ", part[i], ", not 0"));
      if (index % kStride == 0) sparse_.push_back(part[i]);
      previous = part[i];
    }
  }
  if (previous != num_tokens) {
    refuse(payload_, concat("ends with ", previous, "; wanted the number of tokens, ", num_tokens));
  }
}

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
  std::vector<int64_t> result(static_cast<size_t>(indices.size()));
  payload_.read(indices.begin, std::as_writable_bytes(std::span(result)));
  return result;
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
