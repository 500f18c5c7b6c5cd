// SPDX-License-Identifier: Apache-2.0
#include "io/hashed_payload.h"

#include <algorithm>
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
  if (bytes.empty()) return;
  const int64_t begin = first * dataset_.element_bytes;
  const int64_t last = begin + std::ssize(bytes) - 1;
  for (int64_t block = begin / block_bytes_; block <= last / block_bytes_; ++block) {
    if (!is_verified_[static_cast<size_t>(block)].load(std::memory_order_relaxed)) verify(block);
  }
  file_.read(dataset_.bytes.begin + begin, bytes);
}

std::string HashedPayload::name() const {
  return concat(file_.path().string(), ", /", dataset_.name);
}

// Two threads may verify one block at once: both find the same.
void HashedPayload::verify(int64_t block) const {
  const int64_t begin = block * block_bytes_;
  const int64_t end = std::min(begin + block_bytes_, dataset_.bytes.size());
  std::vector<std::byte> bytes(static_cast<size_t>(end - begin));
  file_.read(dataset_.bytes.begin + begin, bytes);
  if (sha256(bytes) != dataset_.hashes[static_cast<size_t>(block)]) {
    const int64_t size = dataset_.element_bytes;
    throw DataError(
        concat(name(), " is damaged: block ", block, ", elements [", begin / size, ", ",
               (end + size - 1) / size, "), does not have the hash it was written with"),
        concat("copy the file again, or make it again; `temper inspect --verify ",
               file_.path().string(), "` reads all of it"));
  }
  is_verified_[static_cast<size_t>(block)].store(true, std::memory_order_relaxed);
}

}  // namespace temper
