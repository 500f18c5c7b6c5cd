// SPDX-License-Identifier: Apache-2.0
#include "model/ops/low_rank.h"

#include <ATen/ATen.h>

#include "model/ops/product.h"

namespace temper {
namespace {

float as_float(double scale) { return static_cast<float>(scale); }

// sum += scale * a b, rounded once where sum is narrower than the fp32 of a and b.
void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale) {
  if (sum.scalar_type() == at::kFloat) {
    product_out(std::move(sum), a, b, {.scale = as_float(scale), .keep = 1.0F});
  } else {
    const at::Tensor wide = sum.to(at::kFloat);
    product_out(wide, a, b, {.scale = as_float(scale), .keep = 1.0F});
    sum.copy_(wide);
  }
}

// What is not trained has no gradient.
void clear_frozen(const LowRank& low_rank) {
  for (const LowRankPart& part : low_rank.parts) {
    if (part.num_frozen == 0) continue;
    const int64_t first = part.up.shape()[1] - part.num_frozen;
    part.up.gradient().narrow(1, first, part.num_frozen).zero_();
    low_rank.down.gradient().narrow(0, part.first_row + first, part.num_frozen).zero_();
  }
}

}  // namespace

at::Tensor low_rank_input(const at::Tensor& x, const LowRank& low_rank) {
  return low_rank.dropout->apply(x.to(at::kFloat), low_rank.place);
}

at::Tensor project_down(const at::Tensor& input, const LowRank& low_rank) {
  at::Tensor projected = at::empty({input.size(0), low_rank.down.shape()[0]}, input.options());
  product_out(projected, input, low_rank.down.value().t());
  return projected;
}

at::Tensor add_low_rank(at::Tensor y, const at::Tensor& x, const LowRank& low_rank) {
  at::Tensor projected = project_down(low_rank_input(x, low_rank), low_rank);
  for (const LowRankPart& part : low_rank.parts) {
    const int64_t out = part.up.shape()[0], rank = part.up.shape()[1];
    add_product(y.narrow(1, part.first_column, out), projected.narrow(1, part.first_row, rank),
                part.up.value().t(), part.scale);
  }
  return projected;
}

void low_rank_backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& projected,
                       const LowRank& low_rank, at::Tensor x_gradient) {
  const at::Tensor wide = gradient.to(at::kFloat);
  at::Tensor projected_gradient = at::empty_like(projected);
  for (const LowRankPart& part : low_rank.parts) {
    const int64_t out = part.up.shape()[0], rank = part.up.shape()[1];
    const at::Tensor own = wide.narrow(1, part.first_column, out);
    const auto columns = [&](const at::Tensor& all) { return all.narrow(1, part.first_row, rank); };
    const ProductScales scales{.scale = as_float(part.scale)};
    product_out(part.up.gradient(), own.t(), columns(projected), scales);
    product_out(columns(projected_gradient), own, part.up.value(), scales);
  }
  product_out(low_rank.down.gradient(), projected_gradient.t(), low_rank_input(x, low_rank));
  clear_frozen(low_rank);
  if (low_rank.dropout->is_active()) {
    const at::Tensor dropped = at::empty(x_gradient.sizes(), projected.options());
    product_out(dropped, projected_gradient, low_rank.down.value());
    x_gradient.add_(low_rank.dropout->apply(dropped, low_rank.place));
  } else {
    add_product(std::move(x_gradient), projected_gradient, low_rank.down.value(), 1.0);
  }
}

}  // namespace temper
