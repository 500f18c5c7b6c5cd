// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/values_from_base.h"

#include <ATen/ATen.h>

#include <stdexcept>

#include "model/ops/one_thread.h"
#include "model/ops/row_norms.h"

namespace temper {
namespace {

using Distribution = InitialValues::Distribution;

}  // namespace

at::Tensor values_from_base(const InitialValues& initial, const at::Tensor& base) {
  const at::Tensor wide = base.to(at::kFloat);
  switch (initial.distribution) {
    case Distribution::kCopy: return wide.flatten();
    case Distribution::kRowNorms: return row_norms(wide);
    case Distribution::kRows: {
      const at::Tensor tokens = at::tensor(initial.tokens, at::kLong).to(base.device());
      return wide.index_select(0, tokens).flatten();
    }
    default: throw std::invalid_argument("does not begin with a tensor of the base");
  }
}

PrincipalParts principal_parts(const at::Tensor& matrix, int64_t rank, double scale) {
  const OneThread guard;
  const auto [left, values, right] = at::linalg_svd(matrix.to(at::kFloat), /*full_matrices=*/false);
  const at::Tensor roots = values.narrow(0, 0, rank).div(scale).sqrt();
  return {left.narrow(1, 0, rank).mul(roots.unsqueeze(0)),
          right.narrow(0, 0, rank).mul(roots.unsqueeze(1))};
}

}  // namespace temper
