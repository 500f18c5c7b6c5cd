// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "data/data_options.h"
#include "data/micro_batch.h"
#include "data/row_source.h"
#include "data/turns.h"

namespace temper {

/// Sources mixed by tokens, in an order that is arithmetic on (seed, epoch, index): any position in
/// O(1), no index file, the same for all ranks.
///
/// Where sources have weights, a fixed table deals rows to them so that each one's share of the
/// *tokens* is its weight. Where they have none, an epoch has so many rows of each as its tokens,
/// epochs, max_tokens and the temperature say, spread evenly. Within a source every pass is a
/// permutation of its own of all rows; a source that is used up begins its next pass.
/// May be used from many threads. Throws: DataError.
class Mixture {
 public:
  using Sources = std::vector<std::unique_ptr<const RowSource>>;

  /// `sources` are those of the options, in their order.
  /// Throws: std::invalid_argument if they are not, or if there is none; DataError if one's share
  /// is too small to be ever drawn.
  Mixture(const DataOptions& options, Sources sources);

  const Sources& sources() const { return sources_; }

  /// As many rows as all sources have together where they have weights, else those of an epoch of
  /// the mixture; with one source and no more options, a pass over it.
  int64_t rows_per_epoch() const;

  /// What losses are told apart by: the sources, and where there are few the files of those whose
  /// files are more than parts of one set.
  std::vector<std::string> source_names() const;

  /// Rows [index * micro_batch_rows, …) of the mixture's endless order.
  MicroBatch micro_batch(int64_t index) const;

  /// Where a row of the order comes from.
  struct Place {
    int source;
    int64_t row;
  };
  Place place_of(int64_t index) const;

  /// What a source gives to the order's first rows. Its tokens are counted by the mean row of a
  /// pass, and so are exact for whole passes.
  struct Use {
    double share = 0.0;  ///< Of all tokens.
    double tokens = 0.0;
    double passes = 0.0;
  };

  /// Shapes: result [source].
  std::vector<Use> use_of(int64_t num_rows) const;

 private:
  // Which of the names are a source's: its files', or its own alone.
  struct Names {
    int64_t first;
    std::vector<NamedDocuments> files;
  };
  std::vector<Names> tell_apart() const;
  int64_t name_of(const Place& place, int64_t document) const;

  SlotTable turns_by_weight() const;
  EvenTurns turns_by_tokens() const;

  DataOptions options_;
  Sources sources_;
  std::vector<Names> names_;  // [source]
  std::variant<SlotTable, EvenTurns> turns_;
};

}  // namespace temper
