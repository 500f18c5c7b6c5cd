// SPDX-License-Identifier: Apache-2.0
#include "model/head.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/range.h"
#include "core/targets.h"
#include "model/ops/backward.h"
#include "model/ops/cross_entropy.h"
#include "model/ops/few_rows.h"
#include "model/ops/rms_norm.h"

namespace temper {
namespace {

// As many logits as fit are computed at a time.
constexpr int64_t kLogitBytesPerChunk = int64_t{32} << 20;

// Equal chunks of rows; depends on the shapes alone.
class Chunks {
 public:
  Chunks(int64_t num_rows, int64_t bytes_per_row)
      : num_rows_(num_rows),
        count_(std::max<int64_t>(
            1, (num_rows * bytes_per_row + kLogitBytesPerChunk - 1) / kLogitBytesPerChunk)) {}

  int64_t count() const { return num_rows_ == 0 ? 0 : count_; }
  Range operator[](int64_t chunk) const {
    return {chunk * num_rows_ / count_, (chunk + 1) * num_rows_ / count_};
  }

 private:
  int64_t num_rows_;
  int64_t count_;
};

double sum_in_order(const at::Tensor& losses) {
  const at::Tensor on_host = losses.cpu();
  const float* values = on_host.const_data_ptr<float>();
  double sum = 0.0;
  for (int64_t i = 0; i < on_host.numel(); ++i) sum += static_cast<double>(values[i]);
  return sum;
}

// sum = a b, or sum += a b; an adapter's own matrix is wider than the products.
enum class Sum { kFresh, kAdded };
void put_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, Sum how) {
  const bool is_wider = sum.scalar_type() != a.scalar_type();
  if (how == Sum::kFresh) {
    is_wider ? sum.copy_(at::mm(a, b)) : at::mm_out(sum, a, b);
  } else {
    is_wider ? sum.add_(at::mm(a, b)) : sum.addmm_(a, b);
  }
}

at::Tensor rows_with_target(const at::Tensor& targets) {
  return at::nonzero(targets.ne(kNoTarget)).squeeze(1);
}

}  // namespace

void Head::attach(const Weight& norm, const Weight& matrix, const TokenRows& rows) {
  if (norm.is_defined()) norm_ = norm;
  if (matrix.is_defined()) matrix_ = matrix;
  rows_ = rows;
}

HeadResult Head::loss(const at::Tensor& hidden, const at::Tensor& targets) const {
  const at::NoGradGuard no_graph;
  const at::Tensor rows = rows_with_target(targets);
  const at::Tensor own = targets.index_select(0, rows);
  const at::Tensor normed = rms_norm(hidden.index_select(0, rows), norm_, epsilon_);
  const at::Tensor transposed = matrix_.value().to(hidden.scalar_type()).t();
  const Chunks chunks(rows.numel(), matrix_.shape()[0] * hidden.element_size());
  HeadResult result;
  for (int64_t i = 0; i < chunks.count(); ++i) {
    const Range range = chunks[i];
    const at::Tensor x = normed.slice(0, range.begin, range.end);
    const FewRowsGuard guard(x);
    const at::Tensor logits = at::mm(x, transposed);
    result.loss_sum += sum_in_order(cross_entropy(logits, own.slice(0, range.begin, range.end)));
  }
  return result;
}

HeadResult Head::loss_and_gradient(const at::Tensor& hidden, const at::Tensor& targets) const {
  const at::Tensor rows = rows_with_target(targets);
  HeadResult result{0.0, at::zeros_like(hidden)};
  if (rows.numel() == 0) {
    for (const Weight* weight : {&norm_, &matrix_, &rows_.rows}) {
      if (weight->is_defined() && weight->gradient().defined()) weight->gradient().zero_();
    }
    return result;
  }
  const GraphPass norm(hidden.index_select(0, rows), [&](const at::Tensor& selected) {
    return rms_norm(selected, norm_, epsilon_);
  });
  const at::Tensor normed_gradient =
      project(norm.output().detach(), targets.index_select(0, rows), result.loss_sum);
  result.hidden_gradient.index_copy_(0, rows, norm.backward(normed_gradient));
  return result;
}

at::Tensor Head::project(const at::Tensor& normed, const at::Tensor& targets,
                         double& loss_sum) const {
  const at::Tensor matrix = matrix_.value().to(normed.scalar_type());
  at::Tensor matrix_gradient = matrix_.gradient();
  at::Tensor normed_gradient = at::empty_like(normed);
  const Chunks chunks(normed.size(0), matrix.size(0) * normed.element_size());
  for (int64_t i = 0; i < chunks.count(); ++i) {
    const Range range = chunks[i];
    const at::Tensor x = normed.slice(0, range.begin, range.end);
    const FewRowsGuard guard(x);
    const at::Tensor logits = at::mm(x, matrix.t());
    loss_sum +=
        sum_in_order(cross_entropy_with_gradient(logits, targets.slice(0, range.begin, range.end)));
    at::Tensor place = normed_gradient.slice(0, range.begin, range.end);
    at::mm_out(place, logits, matrix);
    const Sum how = i == 0 ? Sum::kFresh : Sum::kAdded;
    if (matrix_gradient.defined()) put_product(matrix_gradient, logits.t(), x, how);
    if (!rows_.is_defined()) continue;
    if (i == 0) rows_.rows.gradient().zero_();
    rows_.rows.gradient().add_(rows_.head_gradient(logits, x));
  }
  return normed_gradient;
}

at::Tensor Head::logits(const at::Tensor& hidden) const {
  const at::NoGradGuard no_graph;
  const at::Tensor matrix = matrix_.value().to(hidden.scalar_type());
  return at::mm(rms_norm(hidden, norm_, epsilon_), matrix.t()).to(at::kFloat);
}

}  // namespace temper
