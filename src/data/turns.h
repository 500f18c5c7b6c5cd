// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace temper {

/// Whose turn it is at a place of a mixture's endless order, and how often it was before.
struct Turn {
  int source = 0;
  int64_t nth = 0;
};

/// Turns in a fixed table of 65,536, which repeats: each slot goes to the source that lags its
/// share most. Shares are rounded to 1 / 65,536; the table takes 1 MiB.
class SlotTable {
 public:
  static constexpr int64_t kSlots = 65536;

  /// Shapes: shares [source], with a sum of 1.
  explicit SlotTable(const std::vector<double>& shares);

  /// Of each source in the table; one with 0 would never be drawn. Shapes: result [source].
  const std::vector<int64_t>& num_slots() const { return num_slots_; }

  Turn turn(int64_t index) const;

  /// How many of the first `num_turns` are of each source. Shapes: result [source].
  std::vector<int64_t> counts(int64_t num_turns) const;

 private:
  std::vector<Turn> slots_;         // [slot]
  std::vector<int64_t> num_slots_;  // [source]
};

/// Turns of an epoch in which each source has exactly so many, spread evenly: turn j of n stands
/// at (2 j + 1) / (2 n) of the epoch, and of equals the first source's comes first. Arithmetic:
/// any turn is found without those before it, and nothing is stored.
class EvenTurns {
 public:
  /// Shapes: counts [source], each 1 or more.
  explicit EvenTurns(std::vector<int64_t> counts);

  int64_t turns_per_epoch() const { return total_; }
  Turn turn(int64_t index) const;

  /// As SlotTable's.
  std::vector<int64_t> counts(int64_t num_turns) const;

 private:
  std::vector<int64_t> counts_before(int64_t place) const;
  size_t next_after(const std::vector<int64_t>& counts) const;

  std::vector<int64_t> counts_;  // [source], in an epoch
  int64_t total_ = 0;
};

}  // namespace temper
