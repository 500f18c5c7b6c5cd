// SPDX-License-Identifier: Apache-2.0
#include "model/ops/low_rank.h"

#include <ATen/ATen.h>

#include "model/ops/column_sum.h"
#include "model/ops/product.h"

namespace temper {
namespace {

float as_float(double scale) { return static_cast<float>(scale); }

// dropout(x): in fp32, or x itself where nothing is dropped.
at::Tensor dropped_input(const at::Tensor& x, const LowRank& low_rank) {
  const Dropout& dropout = *low_rank.dropout;
  return dropout.is_active() ? dropout.apply(x.to(at::kFloat), low_rank.place) : x;
}

// input A^T, of what `dropped_input` returned. Returns [T, all ranks] fp32.
at::Tensor project_down(const at::Tensor& input, const LowRank& low_rank) {
  at::Tensor projected =
      at::empty({input.size(0), low_rank.down.shape()[0]}, input.options().dtype(at::kFloat));
  product_out(projected, input, low_rank.down.value().t());
  return projected;
}

at::Tensor columns_of(const at::Tensor& product, const LowRankPart& part) {
  return product.narrow(1, part.first_column, part.up.shape()[0]);
}

// W + scale B A, of the rows of one part. Returns [out, in] fp32.
at::Tensor adapted_rows(const LowRankPart& part, const LowRank& low_rank, const Weight& matrix) {
  const at::Tensor up = part.up.value();
  const at::Tensor own = matrix.value().narrow(0, part.first_column, up.size(0));
  const at::Tensor rows = at::empty(own.sizes(), up.options()).copy_(own);
  const at::Tensor down = low_rank.down.value().narrow(0, part.first_row, up.size(1));
  product_out(rows, up, down, {.scale = as_float(part.scale), .keep = 1.0F});
  return rows;
}

// What is scaled: dropout(x) times the adapted rows of one part. Returns [T, out] fp32.
at::Tensor unscaled(const LowRankPart& part, const DecomposedPass& pass) {
  const at::Tensor base = columns_of(pass.base, part);
  at::Tensor sum = at::empty(base.sizes(), pass.projected.options()).copy_(base);
  product_out(sum, pass.projected.narrow(1, part.first_row, part.up.shape()[1]),
              part.up.value().t(), {.scale = as_float(part.scale), .keep = 1.0F});
  return sum;
}

at::Tensor factors(const LowRankPart& part, const at::Tensor& inverse_lengths) {
  return part.magnitude.value().mul(inverse_lengths);
}

}  // namespace

at::Tensor add_low_rank(at::Tensor y, const at::Tensor& x, const LowRank& low_rank) {
  at::Tensor projected = project_down(dropped_input(x, low_rank), low_rank);
  for (const LowRankPart& part : low_rank.parts) {
    const int64_t out = part.up.shape()[0], rank = part.up.shape()[1];
    product_out(y.narrow(1, part.first_column, out), projected.narrow(1, part.first_row, rank),
                part.up.value().t(), {.scale = as_float(part.scale), .keep = 1.0F});
  }
  return projected;
}

void low_rank_backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& projected,
                       const LowRank& low_rank, at::Tensor x_gradient) {
  at::Tensor projected_gradient = at::empty_like(projected);
  for (const LowRankPart& part : low_rank.parts) {
    const int64_t out = part.up.shape()[0], rank = part.up.shape()[1];
    const at::Tensor own = gradient.narrow(1, part.first_column, out);
    const auto columns = [&](const at::Tensor& all) { return all.narrow(1, part.first_row, rank); };
    const ProductScales scales{.scale = as_float(part.scale)};
    product_out(part.up.gradient(), own.t(), columns(projected), scales);
    product_out(columns(projected_gradient), own, part.up.value(), scales);
  }
  product_out(low_rank.down.gradient(), projected_gradient.t(), dropped_input(x, low_rank));
  if (low_rank.dropout->is_active()) {
    const at::Tensor dropped = at::empty(x_gradient.sizes(), projected.options());
    product_out(dropped, projected_gradient, low_rank.down.value());
    x_gradient.add_(low_rank.dropout->apply(dropped, low_rank.place));
  } else {
    product_out(std::move(x_gradient), projected_gradient, low_rank.down.value(), {.keep = 1.0F});
  }
}

at::Tensor decomposed_product(const at::Tensor& x, const Weight& matrix, const LowRank& low_rank,
                              DecomposedPass& pass) {
  const Dropout& dropout = *low_rank.dropout;
  const at::Tensor transposed = matrix.value().t();
  at::Tensor y = product(x, transposed);
  const at::Tensor input = dropped_input(x, low_rank);
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

// LibTorch deals whole rows to threads.
at::Tensor row_norms(const at::Tensor& matrix) { return at::linalg_vector_norm(matrix, 2, {1}); }

}  // namespace temper
