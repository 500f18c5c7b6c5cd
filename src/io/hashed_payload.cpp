// SPDX-License-Identifier: Apache-2.0
#include "io/hashed_payload.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "core/concat.h"
#include "core/error.h"

namespace temper {

HashedPayload::HashedPayload(const File& file, const ShardDataset& dataset, int64_t block_bytes)
    : file_(file),
      dataset_(dataset),
      block_bytes_(block_bytes),
      is_verified_(std::make_unique<std::atomic<bool>[]>(dataset.hashes.size())) {}

void HashedPayload::read(int64_t first, std::span<std::byte> bytes) const {
  const int64_t begin = first * dataset_.element_bytes;
  const Range wanted{begin, begin + std::ssize(bytes)};
  if (begin < 0 || wanted.end > dataset_.bytes.size()) {
    throw std::invalid_argument("what is to be read does not lie inside its dataset");
  }
  int64_t done = begin;
  for (int64_t block = begin / block_bytes_; done < wanted.end; ++block) {
    const Range part = intersection(range_of(block), wanted);
    const auto out =
        bytes.subspan(static_cast<size_t>(part.begin - begin), static_cast<size_t>(part.size()));
    if (is_verified_[static_cast<size_t>(block)].load(std::memory_order_relaxed)) {
      file_.read(dataset_.bytes.begin + part.begin, out);
    } else {
      read_and_verify(block, part, out);
    }
    done = part.end;
  }
}

std::string HashedPayload::name() const {
  return concat(file_.path().string(), ", /", dataset_.name);
}

Range HashedPayload::range_of(int64_t block) const {
  const int64_t begin = block * block_bytes_;
  return {begin, std::min(begin + block_bytes_, dataset_.bytes.size())};
}

// The block is read once, whatever part of it is wanted. Two threads may verify one block at once:
// both find the same.
void HashedPayload::read_and_verify(int64_t block, Range part, std::span<std::byte> out) const {
  const Range all = range_of(block);
  std::vector<std::byte> whole;
  std::span<std::byte> bytes = out;
  if (part != all) {
    whole.resize(static_cast<size_t>(all.size()));
    bytes = whole;
  }
  file_.read(dataset_.bytes.begin + all.begin, bytes);
  if (sha256(bytes) != dataset_.hashes[static_cast<size_t>(block)]) {
    const int64_t size = dataset_.element_bytes;
    throw DataError(
        concat(name(), " is damaged: block ", block, ", elements [", all.begin / size, ", ",
               (all.end + size - 1) / size, "), does not have the hash it was written with"),
        concat("copy the file again, or make it again; `temper inspect --verify ",
               file_.path().string(), "` reads all of it"));
  }
  is_verified_[static_cast<size_t>(block)].store(true, std::memory_order_relaxed);
  if (part != all) {
    std::copy_n(whole.begin() + (part.begin - all.begin), part.size(), out.begin());
  }
}

}  // namespace temper
