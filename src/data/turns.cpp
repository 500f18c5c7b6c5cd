// SPDX-License-Identifier: Apache-2.0
#include "data/turns.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace temper {
namespace {

__extension__ using Wide = __int128;  // Products of two counts.

}  // namespace

// Of sources that lag alike the first one is served.
SlotTable::SlotTable(const std::vector<double>& shares) : num_slots_(shares.size(), 0) {
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    size_t neediest = 0;
    double largest_lag = -1.0;
    for (size_t source = 0; source < shares.size(); ++source) {
      const double due = shares[source] * static_cast<double>(slot + 1);
      const double lag = due - static_cast<double>(num_slots_[source]);
      if (lag > largest_lag) {
        largest_lag = lag;
        neediest = source;
      }
    }
    slots_.push_back({static_cast<int>(neediest), num_slots_[neediest]++});
  }
}

Turn SlotTable::turn(int64_t index) const {
  const Turn& slot = slots_[static_cast<size_t>(index % kSlots)];
  return {slot.source, index / kSlots * num_slots_[static_cast<size_t>(slot.source)] + slot.nth};
}

std::vector<int64_t> SlotTable::counts(int64_t num_turns) const {
  std::vector<int64_t> counts;
  for (const int64_t count : num_slots_) counts.push_back(num_turns / kSlots * count);
  for (int64_t slot = 0; slot < num_turns % kSlots; ++slot) {
    ++counts[static_cast<size_t>(slots_[static_cast<size_t>(slot)].source)];
  }
  return counts;
}

EvenTurns::EvenTurns(std::vector<int64_t> counts) : counts_(std::move(counts)) {
  if (counts_.empty() || *std::ranges::min_element(counts_) < 1) {
    throw std::invalid_argument("each source needs a turn");
  }
  total_ = std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
}

Turn EvenTurns::turn(int64_t index) const {
  const std::vector<int64_t> before = counts_before(index % total_);
  const size_t source = next_after(before);
  return {static_cast<int>(source), index / total_ * counts_[source] + before[source]};
}

std::vector<int64_t> EvenTurns::counts(int64_t num_turns) const {
  std::vector<int64_t> counts = counts_before(num_turns % total_);
  for (size_t source = 0; source < counts.size(); ++source) {
    counts[source] += num_turns / total_ * counts_[source];
  }
  return counts;
}

// Turns that stand before a time somewhat earlier than the place are among the first ones: a source
// has at most half a turn more there than is its due. What is missing then is counted one by one.
std::vector<int64_t> EvenTurns::counts_before(int64_t place) const {
  const int64_t early = std::max<int64_t>(0, place - std::ssize(counts_));
  std::vector<int64_t> before;
  int64_t sum = 0;
  for (const int64_t count : counts_) {
    // Those j of which (2 j + 1) / (2 count) < early / total.
    const Wide bound = 2 * static_cast<Wide>(count) * early;
    const auto odd_below = static_cast<int64_t>(bound == 0 ? 0 : (bound - 1) / total_);
    before.push_back((odd_below + 1) / 2);
    sum += before.back();
  }
  for (; sum < place; ++sum) ++before[next_after(before)];
  return before;
}

size_t EvenTurns::next_after(const std::vector<int64_t>& counts) const {
  size_t next = 0;
  for (size_t source = 1; source < counts.size(); ++source) {
    const Wide time = (2 * static_cast<Wide>(counts[source]) + 1) * counts_[next];
    const Wide first = (2 * static_cast<Wide>(counts[next]) + 1) * counts_[source];
    if (time < first) next = source;
  }
  return next;
}

}  // namespace temper
