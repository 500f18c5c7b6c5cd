// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/range.h"
#include "io/file.h"
#include "io/shard_header.h"

namespace temper {

/// The bytes of a dataset, each block of which is compared with its hash when it is first read.
/// May be used from many threads.
///
/// Throws: DataError, with the file, the dataset, the block and its elements.
class HashedPayload {
 public:
  /// Neither `file` nor `dataset` is copied.
  HashedPayload(const File& file, const ShardDataset& dataset, int64_t block_bytes);

  const ShardDataset& dataset() const { return dataset_; }
  int64_t num_elements() const { return dataset_.bytes.size() / dataset_.element_bytes; }

  /// Fills `bytes`, which begin with element `first`.
  void read(int64_t first, std::span<std::byte> bytes) const;

  /// The file and the dataset, for messages.
  std::string name() const;

 private:
  Range range_of(int64_t block) const;
  void read_and_verify(int64_t block, Range part, std::span<std::byte> out) const;

  const File& file_;
  const ShardDataset& dataset_;
  int64_t block_bytes_;
  std::unique_ptr<std::atomic<bool>[]> is_verified_;  // [block]
};

}  // namespace temper
