// SPDX-License-Identifier: Apache-2.0
#include "model/head.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "core/targets.h"
#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/cross_entropy.h"
#include "model/ops/norm.h"
#include "model/ops/product.h"

namespace temper {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

double sum_in_order(const at::Tensor& losses) {
  const float* values = losses.const_data_ptr<float>();
  double sum = 0.0;
  for (int64_t i = 0; i < losses.numel(); ++i) sum += static_cast<double>(values[i]);
  return sum;
}

// The losses of chunks, added up once all of them are computed: the host waits for a device once.
class ChunkLosses {
 public:
  // Shapes: cross_entropy, divergence [n] fp32; the latter may be undefined.
  void add(const at::Tensor& cross_entropy, const at::Tensor& divergence = {}) {
    chunks_.push_back(cross_entropy);
    if (divergence.defined()) divergences_.push_back(divergence);
  }

  void add_up(HeadResult& result) const {
    std::vector<at::Tensor> all = chunks_;
    all.insert(all.end(), divergences_.begin(), divergences_.end());
    if (all.empty()) return;
    const at::Tensor on_host = all.size() == 1 ? all.front().cpu() : at::cat(all).cpu();
    int64_t begin = 0;
    for (const at::Tensor& chunk : chunks_) {
      result.loss_sum += sum_in_order(on_host.narrow(0, begin, chunk.numel()));
      begin += chunk.numel();
    }
    result.losses = on_host.narrow(0, 0, begin);
    for (const at::Tensor& chunk : divergences_) {
      result.kl_sum += sum_in_order(on_host.narrow(0, begin, chunk.numel()));
      begin += chunk.numel();
    }
  }

 private:
  std::vector<at::Tensor> chunks_, divergences_;
};

// The gradient of the matrix, added up over chunks in fp32: in bf16 its error would grow with their
// number. An adapter's own matrix has a gradient in fp32 in any case.
class MatrixGradient {
 public:
  MatrixGradient(at::Tensor gradient, int64_t num_chunks) : gradient_(std::move(gradient)) {
    const bool is_exact =
        !gradient_.defined() || num_chunks == 1 || gradient_.scalar_type() == at::kFloat;
    sum_ =
        is_exact ? gradient_ : at::empty(gradient_.sizes(), gradient_.options().dtype(at::kFloat));
  }

  // Shapes: logit_gradient [n, vocab_size], x [n, hidden].
  void add(const at::Tensor& logit_gradient, const at::Tensor& x, float scale) {
    if (!sum_.defined()) return;
    product_out(sum_, logit_gradient.t(), x, {.scale = scale, .keep = has_begun_ ? 1.0F : 0.0F});
    has_begun_ = true;
  }

  void finish() {
    if (sum_.defined() && !sum_.is_same(gradient_)) gradient_.copy_(sum_);
  }

 private:
  at::Tensor gradient_;  // Undefined where it is not trained.
  at::Tensor sum_;
  bool has_begun_ = false;
};

// The same of the bias, from the columns' sums.
class BiasGradient {
 public:
  explicit BiasGradient(at::Tensor gradient) : gradient_(std::move(gradient)) {
    if (gradient_.defined())
      sum_ = at::zeros(gradient_.sizes(), gradient_.options().dtype(at::kFloat));
  }

  // Shapes: logit_gradient [n, vocab_size].
  void add(const at::Tensor& logit_gradient) {
    if (!sum_.defined()) return;
    const at::Tensor part = at::empty_like(sum_);
    column_sum_out(part, logit_gradient);
    sum_.add_(part);
  }

  void finish() {
    if (sum_.defined()) gradient_.copy_(sum_);
  }

 private:
  at::Tensor gradient_;  // Undefined where it is not trained.
  at::Tensor sum_;
};

}  // namespace

HeadTargets::HeadTargets(const at::Tensor& targets)
    : HeadTargets(targets, at::nonzero(targets.ne(kNoTarget)).squeeze(1)) {}

HeadTargets::HeadTargets(const at::Tensor& targets, at::Tensor target_rows)
    : rows(std::move(target_rows)), tokens(targets.index_select(0, rows)) {}

HeadChunks::HeadChunks(int64_t num_rows, int64_t bytes_per_row, LogitLimits limits)
    : num_rows_(num_rows) {
  const int64_t most = std::max(limits.rows, limits.bytes / bytes_per_row);
  count_ = (num_rows + most - 1) / most;
}

int64_t HeadChunks::largest() const { return count_ == 0 ? 0 : (num_rows_ + count_ - 1) / count_; }

int64_t head_bytes(const HeadWork& work, int num_threads) {
  const HeadChunks chunks(work.num_rows, work.vocab_size * work.element_bytes);
  const int64_t num_heads = work.is_kept_near ? 2 : 1;
  const int64_t num_logits = num_heads * (work.is_bounded ? 3 : 1);  // What bounds leave and give.
  const int64_t logits = num_logits * chunks.largest() * work.vocab_size * work.element_bytes;
  const int64_t scratch_rows = work.is_kept_near ? kScratchRowsOfNear : 1;
  const int64_t row_scratch = num_threads * scratch_rows * work.vocab_size * kFloatBytes;
  // The hidden states, normed, and the gradients of both, of which the last one is scattered; of
  // another head the first two.
  const int64_t num_states = work.is_kept_near ? 7 : 5;
  const int64_t rows = num_states * work.num_rows * work.hidden_size * work.element_bytes;
  int64_t sum = 0;
  if (work.is_trained && chunks.count() > 1 && work.element_bytes < kFloatBytes) {
    sum = work.vocab_size * work.hidden_size * kFloatBytes;
  }
  return logits + row_scratch + rows + sum;
}

void Head::attach(const Weight& norm, const Weight& matrix, const TokenRows& rows) {
  if (norm.is_defined()) norm_.scale = norm;
  if (matrix.is_defined()) matrix_ = matrix;
  rows_ = rows;
}

template <typename Function>
void Head::for_each_chunk(const at::Tensor& hidden, const HeadTargets& targets,
                          Function function) const {
  const at::NoGradGuard no_graph;
  const at::Tensor& rows = targets.rows;
  const at::Tensor normed = norm_rows(hidden.index_select(0, rows), norm_, kind_);
  const at::Tensor matrix = matrix_.value().to(hidden.scalar_type());
  const HeadChunks chunks(rows.numel(), matrix_.shape()[0] * hidden.element_size(), limits_);
  for (int64_t i = 0; i < chunks.count(); ++i) {
    const Range range = chunks[i];
    const at::Tensor x = normed.slice(0, range.begin, range.end);
    function(logits_of(x, matrix), targets.tokens.slice(0, range.begin, range.end));
  }
}

HeadResult Head::loss(const at::Tensor& hidden, const HeadTargets& targets) const {
  ChunkLosses losses;
  for_each_chunk(hidden, targets, [&](const at::Tensor& logits, const at::Tensor& own) {
    losses.add(cross_entropy(logits, own));
  });
  HeadResult result;
  losses.add_up(result);
  return result;
}

TargetScores Head::scores(const at::Tensor& hidden, const HeadTargets& targets) const {
  const auto none = hidden.options();
  std::vector<at::Tensor> log_probabilities{at::empty({0}, none.dtype(at::kFloat))};
  std::vector<at::Tensor> are_greedy{at::empty({0}, none.dtype(at::kBool))};
  for_each_chunk(hidden, targets, [&](const at::Tensor& logits, const at::Tensor& own) {
    log_probabilities.push_back(cross_entropy(logits, own).neg());
    are_greedy.push_back(logits.argmax(1).eq(own));  // Of equal ones, argmax has the first.
  });
  return {at::cat(log_probabilities).cpu(), at::cat(are_greedy).cpu()};
}

HeadResult Head::loss_and_gradient(const at::Tensor& hidden, const HeadTargets& targets,
                                   const OtherHead* other) const {
  const at::Tensor& rows = targets.rows;
  HeadResult result{.hidden_gradient = at::zeros_like(hidden)};
  if (rows.numel() == 0) {
    for (const Weight* weight : {&norm_.scale, &norm_.bias, &matrix_, &rows_.rows, &rule_.bias}) {
      if (weight->is_defined() && weight->gradient().defined()) weight->gradient().zero_();
    }
    return result;
  }
  const GraphPass norm(hidden.index_select(0, rows), [&](const at::Tensor& selected) {
    return norm_rows(selected, norm_, kind_);
  });
  const at::Tensor normed_gradient = project(norm.output().detach(), targets.tokens, other, result);
  result.hidden_gradient.index_copy_(0, rows, norm.backward(normed_gradient));
  return result;
}

at::Tensor Head::logits_of(const at::Tensor& normed, const at::Tensor& matrix) const {
  at::Tensor logits = at::empty({normed.size(0), matrix.size(0)}, normed.options());
  const bool has_bias = rule_.bias.is_defined();
  if (has_bias) logits.copy_(rule_.bias.value());
  product_out(logits, normed, matrix.t(),
              {.scale = static_cast<float>(rule_.scale), .keep = has_bias ? 1.0F : 0.0F});
  if (rule_.softcap > 0.0) logits.div_(rule_.softcap).tanh_().mul_(rule_.softcap);
  return logits;
}

at::Tensor Head::project(const at::Tensor& normed, const at::Tensor& targets,
                         const OtherHead* other, HeadResult& result) const {
  at::Tensor other_normed, other_matrix;
  if (other != nullptr) {
    const at::NoGradGuard no_graph;
    const Head& head = other->head;
    other_normed = norm_rows(other->hidden, head.norm_, head.kind_);
    other_matrix = head.matrix_.value().to(other_normed.scalar_type());
  }
  const at::Tensor matrix = matrix_.value().to(normed.scalar_type());
  const auto scale = static_cast<float>(rule_.scale);
  at::Tensor normed_gradient = at::empty_like(normed);
  const HeadChunks chunks(normed.size(0), matrix.size(0) * normed.element_size(), limits_);
  MatrixGradient matrix_gradient(matrix_.gradient(), chunks.count());
  ChunkLosses all_losses;
  BiasGradient bias_gradient(rule_.bias.is_defined() ? rule_.bias.gradient() : at::Tensor());
  for (int64_t i = 0; i < chunks.count(); ++i) {
    const Range range = chunks[i];
    const at::Tensor x = normed.slice(0, range.begin, range.end);
    const at::Tensor own = targets.slice(0, range.begin, range.end);
    const at::Tensor logits = logits_of(x, matrix);
    const at::Tensor bounded = rule_.softcap > 0.0 ? logits / rule_.softcap : at::Tensor();
    if (other != nullptr) {
      const at::Tensor theirs =
          other->head.logits_of(other_normed.slice(0, range.begin, range.end), other_matrix);
      const NearLosses losses = near_losses_with_gradient(logits, own, theirs, other->kl);
      all_losses.add(losses.cross_entropy, losses.divergence);
    } else {
      all_losses.add(cross_entropy_with_gradient(logits, own));
    }
    if (bounded.defined()) logits.copy_(at::tanh_backward(logits, bounded));
    product_out(normed_gradient.slice(0, range.begin, range.end), logits, matrix, {.scale = scale});
    matrix_gradient.add(logits, x, scale);
    bias_gradient.add(logits);
    if (!rows_.is_defined()) continue;
    if (i == 0) rows_.rows.gradient().zero_();
    rows_.rows.gradient().add_(rows_.head_gradient(logits, x), rule_.scale);
  }
  matrix_gradient.finish();
  bias_gradient.finish();
  all_losses.add_up(result);
  return normed_gradient;
}

at::Tensor Head::logits(const at::Tensor& hidden) const {
  const at::NoGradGuard no_graph;
  const at::Tensor matrix = matrix_.value().to(hidden.scalar_type());
  return logits_of(norm_rows(hidden, norm_, kind_), matrix).to(at::kFloat);
}

}  // namespace temper
