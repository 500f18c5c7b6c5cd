// SPDX-License-Identifier: Apache-2.0
#include "train/scoring.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "checkpoint/together.h"
#include "comm/bytes.h"
#include "core/targets.h"
#include "train/batch.h"

namespace temper {
namespace {

// Attention sees a context once for each continuation: so many rows for each row of the batch.
constexpr int64_t kCopiesPerRow = 4;

constexpr int64_t kFewestRows = 256, kMostRows = 2048;

// What comes before the first row that has a target: all of the context but its last token, which
// each branch has a copy of.
int64_t trunk_size(const Tokens& context) { return std::max<int64_t>(0, std::ssize(context) - 1); }

// Appends a group's rows to a micro-batch, and where its branches begin.
void add_group(const ScoringWork& work, const ScoringGroup& group, MicroBatch& batch,
               std::vector<std::vector<int64_t>>& branch_begins) {
  const Tokens& context = work.contexts[group.context];
  const auto add = [&](int64_t token, int64_t position, int64_t target) {
    batch.tokens.push_back(token);
    batch.positions.push_back(position);
    batch.targets.push_back(target);
  };
  const int64_t trunk = trunk_size(context);
  for (int64_t i = 0; i < trunk; ++i) add(context[static_cast<size_t>(i)], i, kNoTarget);
  std::vector<int64_t>& begins = branch_begins.emplace_back();
  for (const size_t continuation : group.continuations) {
    begins.push_back(std::ssize(batch.tokens));
    Tokens branch = work.continuations[continuation].tokens;
    if (!context.empty()) branch.insert(branch.begin(), context.back());
    for (size_t i = 0; i + 1 < branch.size(); ++i) {
      add(branch[i], trunk + static_cast<int64_t>(i), branch[i + 1]);
      ++batch.num_targets;
    }
  }
  batch.document_begins.push_back(std::ssize(batch.tokens));
}

PackedBatch to_packed(const ScoringWork& work, const ScoringBatch& groups, at::Device device) {
  MicroBatch batch;
  batch.document_begins = {0};
  std::vector<std::vector<int64_t>> branch_begins;
  for (const ScoringGroup& group : groups) add_group(work, group, batch, branch_begins);
  PackedBatch packed = to_packed_batch(batch, device);
  const bool forks = std::ranges::any_of(
      groups, [](const ScoringGroup& group) { return group.continuations.size() > 1; });
  if (forks) packed.branches.emplace(batch.document_begins, std::move(branch_begins));
  return packed;
}

int64_t num_scores_of(const ScoringWork& work, const ScoringBatch& groups) {
  int64_t count = 0;
  for (const ScoringGroup& group : groups) {
    for (const size_t continuation : group.continuations) count += work.num_scores(continuation);
  }
  return count;
}

void write_scores(const TargetScores& scores, std::span<TokenScore> to) {
  const float* log_probabilities = scores.log_probabilities.const_data_ptr<float>();
  const bool* are_greedy = scores.are_greedy.const_data_ptr<bool>();
  for (int64_t i = 0; i < scores.log_probabilities.numel(); ++i) {
    to[static_cast<size_t>(i)] = {log_probabilities[i], are_greedy[i] ? 1 : 0};
  }
}

// The scores of one batch, continuation by continuation.
void hand_over(const ScoringWork& work, const ScoringBatch& groups,
               std::span<const TokenScore> scores, const TakeScores& take) {
  for (const ScoringGroup& group : groups) {
    for (const size_t continuation : group.continuations) {
      const auto count = static_cast<size_t>(work.num_scores(continuation));
      take(continuation, scores.first(count));
      scores = scores.subspan(count);
    }
  }
}

// Fills batches group by group, and begins another one where the next rows do not fit.
class Packing {
 public:
  Packing(const ScoringWork& work, int64_t num_rows) : work_(work), num_rows_(num_rows) {}

  void add(const ScoringGroup& group) {
    int64_t all = trunk_size(work_.contexts[group.context]);
    for (const size_t continuation : group.continuations) all += rows_of(continuation);
    if (rows_ + all > num_rows_) begin_batch();
    begin_group(group.context);
    for (const size_t continuation : group.continuations) add(group.context, continuation);
  }

  std::vector<ScoringBatch> batches() && { return std::move(batches_); }

 private:
  int64_t rows_of(size_t continuation) const {
    const bool has_context = !work_.context_of(continuation).empty();
    return std::ssize(work_.continuations[continuation].tokens) - (has_context ? 0 : 1);
  }

  void begin_batch() {
    if (!batches_.empty() && batches_.back().empty()) return;
    batches_.emplace_back();
    rows_ = copies_ = 0;
  }

  void begin_group(size_t context) {
    if (batches_.empty()) begin_batch();
    batches_.back().push_back({context, {}});
    rows_ += trunk_size(work_.contexts[context]);
  }

  void add(size_t context, size_t continuation) {
    const int64_t own = rows_of(continuation);
    const int64_t copy = trunk_size(work_.contexts[context]) + own;
    const bool fits = rows_ + own <= num_rows_ && copies_ + copy <= kCopiesPerRow * num_rows_;
    if (!fits && !batches_.back().back().continuations.empty()) {
      begin_batch();
      begin_group(context);
    }
    batches_.back().back().continuations.push_back(continuation);
    rows_ += own;
    copies_ += copy;
  }

  const ScoringWork& work_;
  int64_t num_rows_;
  std::vector<ScoringBatch> batches_;
  int64_t rows_ = 0;    // Of the last batch.
  int64_t copies_ = 0;  // Of its rows, as attention sees them.
};

}  // namespace

const Tokens& ScoringWork::context_of(size_t continuation) const {
  return contexts[continuations[continuation].context];
}

int64_t ScoringWork::num_scores(size_t continuation) const {
  const int64_t count = std::ssize(continuations[continuation].tokens);
  return context_of(continuation).empty() ? count - 1 : count;
}

int64_t rows_of_batches(const ScoringWork& work, std::span<const size_t> wanted,
                        const Communicator& ranks) {
  std::set<size_t> contexts;
  int64_t sum = 0;
  for (const size_t continuation : wanted) {
    const auto& [context, tokens] = work.continuations[continuation];
    if (contexts.insert(context).second) sum += std::ssize(work.contexts[context]);
    sum += std::ssize(tokens);
  }
  return std::clamp(sum / ranks.world_size(), kFewestRows, kMostRows);
}

std::vector<ScoringBatch> plan_scoring(const ScoringWork& work, std::span<const size_t> wanted,
                                       int64_t num_rows) {
  std::vector<ScoringGroup> groups;
  std::map<size_t, size_t> group_of;  // By context.
  for (const size_t continuation : wanted) {
    const size_t context = work.continuations[continuation].context;
    const auto [place, is_new] = group_of.emplace(context, groups.size());
    if (is_new) groups.push_back({context, {}});
    groups[place->second].continuations.push_back(continuation);
  }
  Packing packing(work, num_rows);
  for (const ScoringGroup& group : groups) packing.add(group);
  return std::move(packing).batches();
}

void score(Engine& engine, const ScoringWork& work, const std::vector<ScoringBatch>& plan,
           Communicator& ranks, const TakeScores& take) {
  const auto num_ranks = static_cast<size_t>(ranks.world_size());
  const auto rank = static_cast<size_t>(ranks.rank());
  for (size_t first = 0; first < plan.size(); first += num_ranks) {
    const auto round = std::span(plan).subspan(first, std::min(num_ranks, plan.size() - first));
    int64_t most = 0;
    for (const ScoringBatch& batch : round) most = std::max(most, num_scores_of(work, batch));
    std::vector<TokenScore> own(static_cast<size_t>(most));
    if (rank < round.size()) {
      write_scores(engine.scores(to_packed(work, round[rank], ranks.device())), own);
    } else {
      engine.join_loss();  // The last round may leave ranks without a batch.
    }
    std::vector<TokenScore> all(rank == 0 ? own.size() * num_ranks : 0);
    gather_bytes_on_rank_0(ranks, std::as_bytes(std::span(own)),
                           std::as_writable_bytes(std::span(all)));
    do_on_rank_0(ranks, [&] {
      for (size_t i = 0; i < round.size(); ++i) {
        hand_over(work, round[i], std::span(all).subspan(i * own.size(), own.size()), take);
      }
    });
  }
}

}  // namespace temper
