// SPDX-License-Identifier: Apache-2.0
#include "data/mixture.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/random.h"

namespace temper {
namespace {

double tokens_per_row(const RowSource& rows) {
  return static_cast<double>(rows.num_tokens()) / static_cast<double>(rows.num_rows());
}

// The tokens that an epoch of the mixture has of a source if the temperature is 1.
double tokens_in_epoch(const RowSource& rows, const DataSource& options) {
  const double tokens = options.epochs * static_cast<double>(rows.num_tokens());
  const auto most = static_cast<double>(options.max_tokens);
  return options.max_tokens > 0 ? std::min(tokens, most) : tokens;
}

bool has_weights(const DataOptions& options) {
  return std::ranges::any_of(options.sources, [](const auto& source) { return source.weight > 0; });
}

Mixture::Sources required(Mixture::Sources sources, const DataOptions& options) {
  if (sources.empty() || sources.size() != options.sources.size()) {
    throw std::invalid_argument("a mixture needs the sources of its options, and at least one");
  }
  return sources;
}

// Each at the same power of its size, and all together of the same size as before.
void flatten(std::vector<double>& tokens, double temperature) {
  const double largest = *std::ranges::max_element(tokens);
  double total = 0.0;
  double flat_total = 0.0;
  for (double& one : tokens) {
    total += one;
    one = std::pow(one / largest, 1.0 / temperature);
    flat_total += one;
  }
  for (double& one : tokens) one *= total / flat_total;
}

}  // namespace

Mixture::Mixture(const DataOptions& options, Sources sources)
    : options_(options),
      sources_(required(std::move(sources), options)),
      names_(tell_apart()),
      turns_(has_weights(options) ? std::variant<SlotTable, EvenTurns>(turns_by_weight())
                                  : std::variant<SlotTable, EvenTurns>(turns_by_tokens())) {}

std::vector<Mixture::Names> Mixture::tell_apart() const {
  constexpr size_t kMostFiles = 32;  // Of all sources, in the metrics of each step; arbitrary.
  std::vector<Names> names;
  size_t num_files = 0;
  for (const auto& source : sources_) {
    names.push_back({0, source->corpus().files_told_apart()});
    num_files += names.back().files.size();
  }
  int64_t first = 0;
  for (Names& own : names) {
    if (num_files > kMostFiles) own.files.clear();
    own.first = first;
    first += std::max<int64_t>(1, std::ssize(own.files));
  }
  return names;
}

std::vector<std::string> Mixture::source_names() const {
  std::vector<std::string> all;
  for (size_t source = 0; source < sources_.size(); ++source) {
    const std::vector<NamedDocuments>& files = names_[source].files;
    if (files.empty()) all.push_back(sources_[source]->corpus().name());
    for (const NamedDocuments& file : files) all.push_back(file.name);
  }
  return all;
}

int64_t Mixture::name_of(const Place& place, int64_t document) const {
  const auto& [first, files] = names_[static_cast<size_t>(place.source)];
  if (files.empty()) return first;
  const auto begin_of = [](const NamedDocuments& file) { return file.documents.begin; };
  return first + (std::ranges::upper_bound(files, document, {}, begin_of) - files.begin()) - 1;
}

SlotTable Mixture::turns_by_weight() const {
  std::vector<double> shares;
  double total = 0.0;
  for (size_t k = 0; k < sources_.size(); ++k) {
    shares.push_back(options_.sources[k].weight / tokens_per_row(*sources_[k]));
    total += shares.back();
  }
  for (double& share : shares) share /= total;
  SlotTable table(shares);
  for (size_t source = 0; source < shares.size(); ++source) {
    if (table.num_slots()[source] > 0) continue;
    throw DataError(
        concat(sources_[source]->corpus().name(),
               " would never be used: its weight gives it less than 1 row in ", SlotTable::kSlots),
        "raise its weight, or leave it out");
  }
  return table;
}

// Rows are whole: a share is right to half a row, and a limit in tokens is kept.
EvenTurns Mixture::turns_by_tokens() const {
  std::vector<double> tokens;
  for (size_t k = 0; k < sources_.size(); ++k) {
    tokens.push_back(tokens_in_epoch(*sources_[k], options_.sources[k]));
  }
  const bool is_flattened = options_.mixture.temperature != 1.0;
  if (is_flattened) flatten(tokens, options_.mixture.temperature);
  std::vector<int64_t> counts;
  for (size_t k = 0; k < sources_.size(); ++k) {
    const double rows = tokens[k] / tokens_per_row(*sources_[k]);
    const bool is_limited = options_.sources[k].max_tokens > 0 && !is_flattened;
    counts.push_back(static_cast<int64_t>(is_limited ? std::floor(rows) : std::round(rows)));
    if (counts.back() > 0) continue;
    throw DataError(
        concat(sources_[k]->corpus().name(),
               " would never be used: its share of an epoch is less than a row"),
        "raise its epochs, its max_tokens or data.mixture.temperature, or leave it out");
  }
  return EvenTurns(std::move(counts));
}

int64_t Mixture::rows_per_epoch() const {
  if (const auto* turns = std::get_if<EvenTurns>(&turns_)) return turns->turns_per_epoch();
  int64_t rows = 0;
  for (const auto& source : sources_) rows += source->num_rows();
  return rows;
}

Mixture::Place Mixture::place_of(int64_t index) const {
  const Turn turn = std::visit([&](const auto& turns) { return turns.turn(index); }, turns_);
  const auto source = static_cast<size_t>(turn.source);
  const int64_t rows = sources_[source]->num_rows();
  const auto pass = static_cast<uint64_t>(turn.nth / rows);
  const uint64_t source_key = random_word(options_.seed, source);
  const ArithmeticPermutation order(rows, random_word(source_key, pass));
  return {turn.source, order(turn.nth % rows)};
}

MicroBatch Mixture::micro_batch(int64_t index) const {
  MicroBatch batch;
  for (int64_t k = 0; k < options_.micro_batch_rows; ++k) {
    const Place place = place_of(index * options_.micro_batch_rows + k);
    sources_[static_cast<size_t>(place.source)]->append_row(place.row, batch);
    for (size_t i = batch.sources.size(); i < batch.documents.size(); ++i) {
      batch.sources.push_back(name_of(place, batch.documents[i]));
    }
  }
  return batch;
}

std::vector<Mixture::Use> Mixture::use_of(int64_t num_rows) const {
  const auto counts = std::visit([&](const auto& turns) { return turns.counts(num_rows); }, turns_);
  std::vector<Use> uses;
  double total = 0.0;
  for (size_t k = 0; k < sources_.size(); ++k) {
    const auto rows = static_cast<double>(counts[k]);
    const double tokens = rows * tokens_per_row(*sources_[k]);
    uses.push_back({0.0, tokens, rows / static_cast<double>(sources_[k]->num_rows())});
    total += tokens;
  }
  for (Use& use : uses) use.share = total > 0.0 ? use.tokens / total : 0.0;
  return uses;
}

}  // namespace temper
