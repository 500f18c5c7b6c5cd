// SPDX-License-Identifier: Apache-2.0
#include "train/step_content.h"

#include <array>
#include <bit>
#include <cmath>

#include "comm/agree.h"

namespace temper {
namespace {

constexpr double kMicro = 1e6;  // Seconds and joules are added up as whole millionths.

// Places of what is added up over ranks; behind them are the lengths.
enum Place : size_t { kTokens, kBusy, kCpu, kCpuSilent, kLengths };
constexpr size_t kMostLengths = 48;  // More bits than a row's tokens may have.

int64_t to_micro(double number) { return std::llround(number * kMicro); }

// Nothing if any of those that were asked did not tell.
std::optional<double> told(int64_t sum, int64_t num_silent) {
  if (num_silent > 0) return {};
  return static_cast<double>(sum) / kMicro;
}

}  // namespace

StepContent content_of(const OwnStep& own, Communicator& ranks) {
  std::array<int64_t, kLengths + kMostLengths> sums{};
  for (const PackedBatch& batch : own.micro_batches) {
    sums[kTokens] += batch.tokens.numel();
    for (size_t i = 0; i + 1 < batch.document_begins.size(); ++i) {
      const auto length =
          static_cast<uint64_t>(batch.document_begins[i + 1] - batch.document_begins[i]);
      if (length > 0) ++sums.at(kLengths + static_cast<size_t>(std::bit_width(length)) - 1);
    }
  }
  const int64_t busy = to_micro(own.busy_seconds);
  sums[kBusy] = busy;
  sums[kCpu] = to_micro(own.cpu_joules.value_or(0.0));
  sums[kCpuSilent] = own.is_first_of_node && !own.cpu_joules ? 1 : 0;
  // The largest of both is the slowest rank's.
  const int64_t world_size = ranks.world_size();
  int64_t slowest = busy * world_size + ranks.rank();
  reduce_words(ranks, sums, ReduceOp::kSum);
  reduce_words(ranks, {&slowest, 1}, ReduceOp::kMax);

  StepContent content{.num_tokens = sums[kTokens]};
  for (size_t k = 0; k < kMostLengths; ++k) {
    const int64_t count = sums.at(kLengths + k);
    if (count == 0) continue;
    content.document_lengths.resize(k + 1);
    content.document_lengths[k] = count;
  }
  const double mean = static_cast<double>(sums[kBusy]) / static_cast<double>(world_size);
  content.straggler_seconds = (static_cast<double>(slowest / world_size) - mean) / kMicro;
  content.slowest_rank = slowest % world_size;
  content.cpu_joules = told(sums[kCpu], sums[kCpuSilent]);
  return content;
}

}  // namespace temper
