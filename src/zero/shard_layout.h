// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "core/range.h"

namespace temper {

/// Which elements of a unit's flat buffer each rank owns under ZeRO.
///
/// Shards are equal, since the collectives move equal blocks, and a multiple of kAlignment; the
/// last ones end in padding that no tensor uses. A unit without elements is padding alone.
/// Units: elements.
/// Source: Rajbhandari et al., "ZeRO", arXiv:1910.02054.
class ShardLayout {
 public:
  /// A file page (4096 bytes) holds at most so many elements, whatever the dtype: two ranks never
  /// write the same page. It is also the block of the gradient norm.
  static constexpr int64_t kAlignment = 4096;

  ShardLayout(int64_t num_elements, int num_ranks)
      : num_elements_(num_elements), num_ranks_(num_ranks) {
    if (num_elements < 0 || num_ranks < 1) {
      throw std::invalid_argument("ShardLayout needs a number of elements and one rank");
    }
    const int64_t even = std::max<int64_t>(1, (num_elements + num_ranks - 1) / num_ranks);
    shard_size_ = (even + kAlignment - 1) / kAlignment * kAlignment;
  }

  int64_t num_elements() const { return num_elements_; }
  int num_ranks() const { return num_ranks_; }
  int64_t shard_size() const { return shard_size_; }
  int64_t padded_size() const { return shard_size_ * num_ranks_; }

  /// Block `rank` of the padded buffer.
  Range block(int rank) const { return {rank * shard_size_, (rank + 1) * shard_size_}; }

  /// The part of block `rank` that holds tensors; empty if it is all padding.
  Range owned(int rank) const {
    const Range whole = block(rank);
    return {std::min(whole.begin, num_elements_), std::min(whole.end, num_elements_)};
  }

  friend bool operator==(const ShardLayout&, const ShardLayout&) = default;

 private:
  int64_t num_elements_;
  int num_ranks_;
  int64_t shard_size_;
};

}  // namespace temper
