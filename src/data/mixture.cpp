// SPDX-License-Identifier: Apache-2.0
#include "data/mixture.h"

#include <stdexcept>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/random.h"

namespace temper {
namespace {

// Shares are rounded to 1 / 65,536; the table takes 1 MiB.
constexpr int64_t kSlots = 65536;

}  // namespace

Mixture::Mixture(const DataOptions& options, Sources sources)
    : options_(options), sources_(std::move(sources)) {
  if (sources_.empty() || sources_.size() != options.sources.size()) {
    throw std::invalid_argument("a mixture needs the sources of its options, and at least one");
  }
  std::vector<double> shares;
  double total = 0.0;
  for (size_t k = 0; k < sources_.size(); ++k) {
    const RowSource& rows = *sources_[k];
    const double tokens_per_row =
        static_cast<double>(rows.num_tokens()) / static_cast<double>(rows.num_rows());
    shares.push_back(options.sources[k].weight / tokens_per_row);
    total += shares.back();
  }
  for (double& share : shares) share /= total;
  deal_slots(shares);
}

// Each slot goes to the source that lags its share most; of equals, to the first.
void Mixture::deal_slots(const std::vector<double>& row_shares) {
  num_slots_.assign(row_shares.size(), 0);
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    size_t neediest = 0;
    double largest_lag = -1.0;
    for (size_t source = 0; source < row_shares.size(); ++source) {
      const double due = row_shares[source] * static_cast<double>(slot + 1);
      const double lag = due - static_cast<double>(num_slots_[source]);
      if (lag > largest_lag) {
        largest_lag = lag;
        neediest = source;
      }
    }
    slots_.push_back({static_cast<int>(neediest), num_slots_[neediest]++});
  }
  for (size_t source = 0; source < num_slots_.size(); ++source) {
    if (num_slots_[source] > 0) continue;
    throw DataError(concat(sources_[source]->shard().path().string(),
                           " would never be used: its weight gives it less than 1 row in ", kSlots),
                    "raise its weight, or leave it out");
  }
}

int64_t Mixture::rows_per_epoch() const {
  int64_t rows = 0;
  for (const auto& source : sources_) rows += source->num_rows();
  return rows;
}

Mixture::Place Mixture::place_of(int64_t index) const {
  const Slot& slot = slots_[static_cast<size_t>(index % kSlots)];
  const auto source = static_cast<size_t>(slot.source);
  const int64_t nth = index / kSlots * num_slots_[source] + slot.rank;
  const int64_t rows = sources_[source]->num_rows();
  const auto pass = static_cast<uint64_t>(nth / rows);
  const uint64_t source_key = random_word(options_.seed, source);
  const ArithmeticPermutation order(rows, random_word(source_key, pass));
  return {slot.source, order(nth % rows)};
}

MicroBatch Mixture::micro_batch(int64_t index) const {
  MicroBatch batch;
  for (int64_t k = 0; k < options_.micro_batch_rows; ++k) {
    const Place place = place_of(index * options_.micro_batch_rows + k);
    sources_[static_cast<size_t>(place.source)]->append_row(place.row, batch);
  }
  return batch;
}

}  // namespace temper
