// SPDX-License-Identifier: Apache-2.0
#include "data/row_plan.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <stdexcept>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr int64_t kDocumentsAtOnce = 131'072;  // Their offsets are 1 MiB.
constexpr size_t kNumCounts = 4;               // What `to_numbers` begins with.

std::vector<int64_t> longest_first(std::span<const int64_t> lengths) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
  return order;
}

}  // namespace

RowPlan::RowPlan(const Corpus& corpus, int64_t sequence_length, const OnceForAll& once) {
  take_numbers(once({corpus.name(), corpus.fingerprint()}, [&] {
    pack(corpus, sequence_length);
    return to_numbers();
  }));
}

std::span<const int64_t> RowPlan::documents(int64_t row) const {
  const int64_t begin = row_begins_.at(static_cast<size_t>(row));
  const int64_t end = row_begins_.at(static_cast<size_t>(row) + 1);
  return std::span(documents_)
      .subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

void RowPlan::pack(const Corpus& corpus, int64_t sequence_length) {
  std::vector<int64_t> kept;
  std::vector<int64_t> lengths;
  for (const Corpus::Part& part : corpus.parts()) measure(part, sequence_length, kept, lengths);
  if (kept.empty()) {
    throw DataError(concat(corpus.name(), " has no target within the first ", sequence_length,
                           " tokens of any document"),
                    "raise data.sequence_length");
  }
  for (const auto& row : pack_best_fit(lengths, sequence_length)) {
    for (const int64_t place : row) documents_.push_back(kept[static_cast<size_t>(place)]);
    row_begins_.push_back(std::ssize(documents_));
  }
}

// Each document has a target, as datasets/FORMAT.md says; so only the masks of those that lose
// their end are looked at.
void RowPlan::measure(const Corpus::Part& part, int64_t sequence_length, std::vector<int64_t>& kept,
                      std::vector<int64_t>& lengths) {
  const TokenShard& shard = *part.shard;
  TargetMaskReader masks(shard);
  for (int64_t first = 0; first < shard.num_documents(); first += kDocumentsAtOnce) {
    const int64_t end = std::min(first + kDocumentsAtOnce, shard.num_documents());
    const auto offsets = shard.documents().offsets({first, end + 1});
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      const int64_t length = std::min(offsets[i + 1] - offsets[i], sequence_length);
      if (length < offsets[i + 1] - offsets[i]) {
        ++num_truncated_;
        const auto mask = masks.read({offsets[i], offsets[i] + length});
        if (std::find(mask.begin(), mask.end(), 1) == mask.end()) {
          ++num_without_target_;
          continue;
        }
      }
      kept.push_back(part.first_document + first + static_cast<int64_t>(i));
      lengths.push_back(length);
      num_tokens_ += length;
    }
  }
}

std::vector<int64_t> RowPlan::to_numbers() const {
  std::vector<int64_t> numbers = {num_tokens_, num_truncated_, num_without_target_, num_rows()};
  numbers.insert(numbers.end(), row_begins_.begin(), row_begins_.end());
  numbers.insert(numbers.end(), documents_.begin(), documents_.end());
  return numbers;
}

void RowPlan::take_numbers(std::span<const int64_t> numbers) {
  num_tokens_ = numbers[0];
  num_truncated_ = numbers[1];
  num_without_target_ = numbers[2];
  const auto begins = numbers.subspan(kNumCounts, static_cast<size_t>(numbers[3]) + 1);
  const auto documents = numbers.subspan(kNumCounts + begins.size());
  row_begins_.assign(begins.begin(), begins.end());
  documents_.assign(documents.begin(), documents.end());
}

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
