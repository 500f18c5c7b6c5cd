// SPDX-License-Identifier: Apache-2.0
#include "model/ops/low_rank.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "model/ops/column_scale.h"

namespace temper {
namespace {

float as_float(double scale) { return static_cast<float>(scale); }

int64_t out_of(const LowRankPart& part) { return part.up.shape()[0]; }
int64_t rank_of(const LowRankPart& part) { return part.up.shape()[1]; }

at::Tensor dropped(const at::Tensor& x, const LowRank& low_rank) {
  return low_rank.dropout->apply(x, low_rank.place);
}

// The columns of one part in what its A projects to.
at::Tensor ranks_of(const at::Tensor& projected, const LowRankPart& part) {
  return projected.narrow(1, part.first_row, rank_of(part));
}

// The columns of one part in the whole product, and its rows in the matrix.
at::Tensor columns_of(const at::Tensor& product, const LowRankPart& part) {
  return product.narrow(1, part.first_column, out_of(part));
}
at::Tensor rows_of(const at::Tensor& matrix, const LowRankPart& part) {
  return matrix.narrow(0, part.first_column, out_of(part));
}

// scale * input A^T of each part: by one product where all have the same scale.
at::Tensor project_down(const at::Tensor& input, const LowRank& low_rank) {
  const at::Tensor down = low_rank.down.value();
  at::Tensor projected = at::empty({input.size(0), down.size(0)}, input.options());
  const LowRankPart& first = low_rank.parts.front();
  if (std::ranges::all_of(low_rank.parts,
                          [&](const auto& part) { return part.scale == first.scale; })) {
    product_out(projected, input, down.t(), {.scale = as_float(first.scale)});
    return projected;
  }
  for (const LowRankPart& part : low_rank.parts) {
    product_out(ranks_of(projected, part), input, down.narrow(0, part.first_row, rank_of(part)).t(),
                {.scale = as_float(part.scale)});
  }
  return projected;
}

// What B makes of what A projected, each in its columns.
std::vector<ProductTerm> projected_up(const at::Tensor& projected, const LowRank& low_rank) {
  std::vector<ProductTerm> terms;
  for (const LowRankPart& part : low_rank.parts) {
    terms.push_back({ranks_of(projected, part), part.up.value().t(), part.first_column});
  }
  return terms;
}

// Writes the gradients of A and B. Returns that of what A projects, times the scale.
// Shapes: gradient [T, out], input [T, in]; returns [T, all ranks].
at::Tensor gradients_of_both(const at::Tensor& gradient, const at::Tensor& input,
                             const at::Tensor& projected, const LowRank& low_rank) {
  at::Tensor projected_gradient = at::empty_like(projected);
  for (const LowRankPart& part : low_rank.parts) {
    const at::Tensor own = columns_of(gradient, part);
    product_out(part.up.gradient(), own.t(), ranks_of(projected, part));
    product_out(ranks_of(projected_gradient, part), own, part.up.value(),
                {.scale = as_float(part.scale)});
  }
  product_out(low_rank.down.gradient(), projected_gradient.t(), input);
  return projected_gradient;
}

// The rows' lengths of W + s B A of one part, from those of W: with C = W A^T,
// |w + s b A|^2 = |w|^2 + s b (2 c + s b A A^T).
at::Tensor squares_of_rows(const LowRankPart& part, const LowRank& low_rank, const at::Tensor& own,
                           const at::Tensor& base_squares) {
  const at::Tensor up = part.up.value();
  const at::Tensor down = low_rank.down.value().narrow(0, part.first_row, rank_of(part));
  const float scale = as_float(part.scale);
  const at::Tensor change = at::empty_like(up);
  product_out(change, own, down.t());
  product_out(change, up, product(down, down.t()), {.scale = scale, .keep = 2.0F});
  return base_squares.add(change.mul_(up).sum(1), scale);
}

// 1 / length of each row of the sum of both matrices. Shapes: returns [out] fp32.
const at::Tensor& inverse_lengths(const LowRankPart& part, const LowRank& low_rank,
                                  const Weight& matrix) {
  RowLengths& known = *part.lengths;
  const WeightVersion base = matrix.version(), addition = part.up.version();
  const bool has_base = known.of_base.is_same(base);
  if (has_base && known.of_addition.is_same(addition)) return known.inverse;
  const at::Tensor own = rows_of(matrix.value(), part);
  if (!has_base) known.base_squares = row_norms(own.to(at::kFloat)).square_();
  known.inverse = squares_of_rows(part, low_rank, own, known.base_squares).rsqrt_();
  known.of_base = base;
  known.of_addition = addition;
  return known.inverse;
}

// What each column of the product is multiplied with: 1 where no part is. Shapes: [out] fp32.
at::Tensor column_factors(const Weight& matrix, const LowRank& low_rank) {
  const at::Tensor down = low_rank.down.value();
  at::Tensor factors = at::ones({matrix.shape()[0]}, down.options());
  for (const LowRankPart& part : low_rank.parts) {
    factors.narrow(0, part.first_column, out_of(part))
        .copy_(part.magnitude.value())
        .mul_(inverse_lengths(part, low_rank, matrix));
  }
  return factors;
}

}  // namespace

at::Tensor low_rank_product(at::Tensor y, const at::Tensor& x, const Weight& matrix,
                            const LowRank& low_rank, float keep) {
  at::Tensor projected = project_down(dropped(x, low_rank), low_rank);
  product_out(std::move(y), x, matrix.value().t(), {.keep = keep},
              projected_up(projected, low_rank));
  return projected;
}

at::Tensor low_rank_backward(const at::Tensor& gradient, const at::Tensor& x,
                             const at::Tensor& projected, const Weight& matrix,
                             const LowRank& low_rank) {
  const at::Tensor input = dropped(x, low_rank);
  const at::Tensor inner = gradients_of_both(gradient, input, projected, low_rank);
  const ProductTerm term{inner, low_rank.down.value()};
  at::Tensor x_gradient = at::empty(x.sizes(), gradient.options());
  if (!low_rank.dropout->is_active()) {
    product_out(x_gradient, gradient, matrix.value(), {}, {&term, 1});
    return x_gradient;
  }
  const at::Tensor of_input = at::empty(x.sizes(), gradient.options());
  product_out(of_input, term.a, term.b);
  product_out(x_gradient, gradient, matrix.value());
  low_rank.dropout->add_applied(x_gradient, of_input, low_rank.place);
  return x_gradient;
}

// With dropout the product is x W^T + (the scaled sum of both matrices - W) dropout(x): what W
// multiplies is x - dropout(x).
at::Tensor decomposed_product(const at::Tensor& x, const Weight& matrix, const LowRank& low_rank,
                              DecomposedPass& pass) {
  const at::Tensor input = dropped(x, low_rank);
  pass.projected = project_down(input, low_rank);
  pass.unscaled = at::empty({x.size(0), matrix.shape()[0]}, x.options());
  product_out(pass.unscaled, input, matrix.value().t(), {}, projected_up(pass.projected, low_rank));
  at::Tensor y = scale_columns(pass.unscaled, column_factors(matrix, low_rank));
  if (low_rank.dropout->is_active()) {
    product_out(y, x - input, matrix.value().t(), {.keep = 1.0F});
  }
  return y;
}

at::Tensor decomposed_backward(const at::Tensor& gradient, const at::Tensor& x,
                               const DecomposedPass& pass, const Weight& matrix,
                               const LowRank& low_rank) {
  const at::Tensor factors = column_factors(matrix, low_rank);
  auto [scaled, of_factors] = scale_columns_backward(gradient, pass.unscaled, factors);
  for (const LowRankPart& part : low_rank.parts) {
    const at::Tensor own = of_factors.narrow(0, part.first_column, out_of(part));
    part.magnitude.gradient().copy_(own).mul_(inverse_lengths(part, low_rank, matrix));
  }
  const at::Tensor weights = matrix.value();
  const at::Tensor inner =
      gradients_of_both(scaled, dropped(x, low_rank), pass.projected, low_rank);
  const ProductTerm term{inner, low_rank.down.value()};
  at::Tensor x_gradient = at::empty(x.sizes(), gradient.options());
  if (!low_rank.dropout->is_active()) {
    product_out(x_gradient, scaled, weights, {}, {&term, 1});
    return x_gradient;
  }
  const at::Tensor of_input = at::empty(x.sizes(), gradient.options());
  product_out(of_input, scaled.sub_(gradient), weights, {}, {&term, 1});
  product_out(x_gradient, gradient, weights);
  low_rank.dropout->add_applied(x_gradient, of_input, low_rank.place);
  return x_gradient;
}

// LibTorch deals whole rows to threads.
at::Tensor row_norms(const at::Tensor& matrix) { return at::linalg_vector_norm(matrix, 2, {1}); }

}  // namespace temper
