// SPDX-License-Identifier: Apache-2.0
#include "train/step_content.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "comm/agree.h"

namespace temper {
namespace {

constexpr double kMicro = 1e6;  // Seconds and joules are added up as whole millionths.

// Places of what is added up over ranks: behind the first are the lengths, then how long each rank
// was busy, which it alone adds to.
constexpr size_t kMostLengths = 48;  // More bits than a row's tokens may have.
enum Place : size_t { kTokens, kCpu, kCpuSilent, kLengths, kBusy = kLengths + kMostLengths };

int64_t to_micro(double number) { return std::llround(number * kMicro); }

// Nothing if any of those that were asked did not tell.
std::optional<double> told(int64_t sum, int64_t num_silent) {
  if (num_silent > 0) return {};
  return static_cast<double>(sum) / kMicro;
}

}  // namespace

StepContent content_of(const OwnStep& own, Communicator& ranks) {
  std::vector<int64_t> sums(kBusy + static_cast<size_t>(ranks.world_size()));
  for (const PackedBatch& batch : own.micro_batches) {
    sums[kTokens] += batch.tokens.numel();
    for (size_t i = 0; i + 1 < batch.document_begins.size(); ++i) {
      const auto length =
          static_cast<uint64_t>(batch.document_begins[i + 1] - batch.document_begins[i]);
      if (length > 0) ++sums.at(kLengths + static_cast<size_t>(std::bit_width(length)) - 1);
    }
  }
  sums.at(kBusy + static_cast<size_t>(ranks.rank())) = to_micro(own.busy_seconds);
  sums[kCpu] = to_micro(own.cpu_joules.value_or(0.0));
  sums[kCpuSilent] = own.is_first_of_node && !own.cpu_joules ? 1 : 0;
  reduce_words(ranks, sums, ReduceOp::kSum);

  StepContent content{.num_tokens = sums[kTokens]};
  for (size_t k = 0; k < kMostLengths; ++k) {
    const int64_t count = sums.at(kLengths + k);
    if (count == 0) continue;
    content.document_lengths.resize(k + 1);
    content.document_lengths[k] = count;
  }
  const std::span busy = std::span(sums).subspan(kBusy);
  const auto slowest = std::max_element(busy.rbegin(), busy.rend());  // The last of equals.
  const auto total = static_cast<double>(std::accumulate(busy.begin(), busy.end(), int64_t{0}));
  content.straggler_seconds =
      (static_cast<double>(*slowest) - total / static_cast<double>(busy.size())) / kMicro;
  content.slowest_rank = busy.rend() - slowest - 1;
  content.cpu_joules = told(sums[kCpu], sums[kCpuSilent]);
  return content;
}

}  // namespace temper
