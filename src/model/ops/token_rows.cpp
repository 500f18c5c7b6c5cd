// SPDX-License-Identifier: Apache-2.0
#include "model/ops/token_rows.h"

#include <ATen/ATen.h>

#include "model/ops/embedding.h"
#include "model/ops/product.h"

namespace temper {

// The tokens as a tensor on the device of another one.
at::Tensor TokenRows::index(const at::Tensor& beside) const {
  return at::tensor(tokens, at::kLong).to(beside.device());
}

void TokenRows::put_into(at::Tensor matrix) const {
  matrix.index_copy_(0, index(matrix), rows.value().to(matrix.scalar_type()));
}

at::Tensor TokenRows::head_gradient(const at::Tensor& gradient, const at::Tensor& x) const {
  const at::Tensor own = gradient.index_select(1, index(gradient)).to(at::kFloat);
  return product(own.t(), x.to(at::kFloat));
}

void TokenRows::add_embedding_gradient(const at::Tensor& gradient,
                                       const at::Tensor& looked_up) const {
  const at::Tensor is_own = looked_up.unsqueeze(1).eq(index(looked_up).unsqueeze(0));  // [T, n]
  const at::Tensor places = at::nonzero(is_own);  // Of (position, row), in the order of positions.
  add_rows_by_token(rows.gradient(), gradient.index_select(0, places.select(1, 0)).to(at::kFloat),
                    places.select(1, 1));
}

}  // namespace temper
