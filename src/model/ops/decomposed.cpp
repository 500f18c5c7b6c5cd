// SPDX-License-Identifier: Apache-2.0
#include "model/ops/decomposed.h"

#include <ATen/ATen.h>

#include "model/ops/column_sum.h"
#include "model/ops/product.h"
#include "model/ops/row_norms.h"

namespace temper {
namespace {

at::Tensor columns_of(const at::Tensor& product, const LowRankPart& part) {
  return product.narrow(1, part.first_column, part.up.shape()[0]);
}

// W + scale B A, of the rows of one part. Returns [out, in] fp32.
at::Tensor adapted_rows(const LowRankPart& part, const LowRank& low_rank, const Weight& matrix) {
  const at::Tensor up = part.up.value();
  const at::Tensor own = matrix.value().narrow(0, part.first_column, up.size(0));
  const at::Tensor rows = at::empty(own.sizes(), up.options()).copy_(own);
  const at::Tensor down = low_rank.down.value().narrow(0, part.first_row, up.size(1));
  product_out(rows, up, down, {.scale = static_cast<float>(part.scale), .keep = 1.0F});
  return rows;
}

// What is scaled: dropout(x) times the adapted rows of one part. Returns [T, out] fp32.
at::Tensor unscaled(const LowRankPart& part, const DecomposedPass& pass) {
  const at::Tensor base = columns_of(pass.base, part);
  at::Tensor sum = at::empty(base.sizes(), pass.projected.options()).copy_(base);
  product_out(sum, pass.projected.narrow(1, part.first_row, part.up.shape()[1]),
              part.up.value().t(), {.scale = static_cast<float>(part.scale), .keep = 1.0F});
  return sum;
}

at::Tensor factors(const LowRankPart& part, const at::Tensor& inverse_lengths) {
  return part.magnitude.value().mul(inverse_lengths);
}

}  // namespace

at::Tensor decomposed_product(const at::Tensor& x, const Weight& matrix, const LowRank& low_rank,
                              DecomposedPass& pass) {
  const Dropout& dropout = *low_rank.dropout;
  const at::Tensor transposed = matrix.value().t();
  at::Tensor y = product(x, transposed);
  const at::Tensor input = low_rank_input(x, low_rank);
  pass.projected = project_down(input, low_rank);
  if (dropout.is_active()) {
    pass.base = product(input.to(x.scalar_type()), transposed);
  } else {
    pass.base = y.clone();
  }
  for (const LowRankPart& part : low_rank.parts) {
    pass.inverse_lengths.push_back(row_norms(adapted_rows(part, low_rank, matrix)).reciprocal());
    at::Tensor sum = unscaled(part, pass).mul_(factors(part, pass.inverse_lengths.back()));
    at::Tensor place = columns_of(y, part);
    if (dropout.is_active()) sum.sub_(columns_of(pass.base, part)).add_(place);
    place.copy_(sum);
  }
  return y;
}

at::Tensor decomposed_backward(const at::Tensor& gradient, const at::Tensor& x,
                               const DecomposedPass& pass, const Weight& matrix,
                               const LowRank& low_rank) {
  const at::Tensor scaled = gradient.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  for (size_t i = 0; i < low_rank.parts.size(); ++i) {
    const LowRankPart& part = low_rank.parts[i];
    at::Tensor own = columns_of(scaled, part);
    at::Tensor magnitude = part.magnitude.gradient();
    column_sum_out(magnitude, unscaled(part, pass).mul_(own));
    magnitude.mul_(pass.inverse_lengths[i]);
    own.mul_(factors(part, pass.inverse_lengths[i]));
  }
  const at::Tensor weights = matrix.value();
  const Dropout& dropout = *low_rank.dropout;
  at::Tensor x_gradient;
  if (dropout.is_active()) {
    const at::Tensor change = product((scaled - gradient).to(gradient.scalar_type()), weights);
    x_gradient =
        product(gradient, weights).add_(dropout.apply(change.to(at::kFloat), low_rank.place));
  } else {
    x_gradient = product(scaled.to(gradient.scalar_type()), weights);
  }
  low_rank_backward(scaled, x, pass.projected, low_rank, x_gradient);
  return x_gradient;
}

}  // namespace temper
