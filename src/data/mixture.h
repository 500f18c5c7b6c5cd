// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/data_options.h"
#include "data/micro_batch.h"
#include "data/row_source.h"

namespace temper {

/// Sources mixed by token weight, in an order that is arithmetic on (seed, epoch, index): any
/// position in O(1), no index file, the same for all ranks.
///
/// A fixed table deals rows to sources, so that each one's share of the *tokens* is its weight.
/// Within a source every pass is a permutation of its own of all rows; a source that is used up
/// begins its next pass.
/// May be used from many threads. Throws: DataError.
class Mixture {
 public:
  using Sources = std::vector<std::unique_ptr<const RowSource>>;

  /// `sources` are those of the options, in their order.
  /// Throws: std::invalid_argument if they are not, or if there is none; DataError if one's share
  /// is too small to be ever drawn.
  Mixture(const DataOptions& options, Sources sources);

  const Sources& sources() const { return sources_; }

  /// As many rows as all sources have together; with one source, a pass over it.
  int64_t rows_per_epoch() const;

  /// Rows [index * micro_batch_rows, …) of the mixture's endless order.
  MicroBatch micro_batch(int64_t index) const;

  /// Where a row of the order comes from.
  struct Place {
    int source;
    int64_t row;
  };
  Place place_of(int64_t index) const;

 private:
  struct Slot {
    int source;
    int64_t rank;  // How many slots of the same source come before it.
  };

  void deal_slots(const std::vector<double>& row_shares);

  DataOptions options_;
  Sources sources_;
  std::vector<Slot> slots_;         // [slot], repeated for ever
  std::vector<int64_t> num_slots_;  // [source]
};

}  // namespace temper
