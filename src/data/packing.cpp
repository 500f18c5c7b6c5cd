// SPDX-License-Identifier: Apache-2.0
#include "data/packing.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <stdexcept>

namespace temper {
namespace {

std::vector<int64_t> longest_first(std::span<const int64_t> lengths) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
  return order;
}

}  // namespace

std::vector<std::vector<int64_t>> pack_best_fit(std::span<const int64_t> lengths,
                                                int64_t capacity) {
  std::vector<std::vector<int64_t>> rows;
  std::map<int64_t, std::deque<size_t>> rows_by_room;  // Never holds an empty queue.
  for (const int64_t document : longest_first(lengths)) {
    const int64_t length = lengths[static_cast<size_t>(document)];
    if (length < 1 || length > capacity) throw std::invalid_argument("a length does not fit a row");
    size_t row = rows.size();
    int64_t room = capacity;
    const auto found = rows_by_room.lower_bound(length);
    if (found == rows_by_room.end()) {
      rows.emplace_back();
    } else {
      room = found->first;
      row = found->second.front();
      found->second.pop_front();
      if (found->second.empty()) rows_by_room.erase(found);
    }
    rows[row].push_back(document);
    if (room > length) rows_by_room[room - length].push_back(row);
  }
  return rows;
}

}  // namespace temper
