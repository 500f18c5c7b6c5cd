// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/initial_values.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "core/random.h"
#include "model/ops/low_rank.h"
#include "model/ops/one_thread.h"
#include "model/ops/product.h"

namespace temper {
namespace {

// Box and Muller's transform of two uniform numbers.
double normal(uint64_t key, uint64_t index) {
  const double radius = std::sqrt(-2.0 * std::log1p(-random_uniform(key, 2 * index)));
  return radius * std::cos(2.0 * std::numbers::pi * random_uniform(key, 2 * index + 1));
}

using Distribution = InitialValues::Distribution;

struct Singular {
  at::Tensor left;    // [rows, n]
  at::Tensor values;  // [n], the largest first.
  at::Tensor right;   // [n, columns]
};

Singular decompose(const at::Tensor& matrix) {
  const OneThread guard;
  auto [left, values, right] = at::linalg_svd(matrix, /*full_matrices=*/false);
  return {std::move(left), std::move(values), std::move(right)};
}

// The singular values are shared by both.
PrincipalParts largest_parts(const Singular& parts, int64_t rank, double scale) {
  const at::Tensor roots = parts.values.narrow(0, 0, rank).div(scale).sqrt();
  return {parts.left.narrow(1, 0, rank).mul(roots.unsqueeze(0)),
          parts.right.narrow(0, 0, rank).mul(roots.unsqueeze(1))};
}

// Orthonormal columns that span those of a matrix.
at::Tensor basis_of(const at::Tensor& matrix) {
  const OneThread guard;
  return std::get<0>(at::linalg_qr(matrix));
}

}  // namespace

void fill_initial_values(const InitialValues& initial, uint64_t seed, std::string_view name,
                         Range range, std::span<float> values) {
  if (initial.distribution == Distribution::kZero) {
    std::ranges::fill(values, 0.0F);
    return;
  }
  if (!initial.is_drawn()) throw std::invalid_argument("begins with a tensor of the base");
  const uint64_t key = random_key(seed, name);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const auto index = static_cast<uint64_t>(i);
    const double standard = initial.distribution == Distribution::kUniform
                                ? 2.0 * random_uniform(key, index) - 1.0
                                : normal(key, index);
    values[static_cast<size_t>(i - range.begin)] = static_cast<float>(standard * initial.scale);
  }
}

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
  return largest_parts(decompose(matrix.to(at::kFloat)), rank, scale);
}

PrincipalParts nearly_principal_parts(const at::Tensor& matrix, const at::Tensor& sketch,
                                      int64_t num_iterations, double scale) {
  const bool is_wide = matrix.size(0) < matrix.size(1);
  const at::Tensor fp32 = matrix.to(at::kFloat);
  const at::Tensor tall = is_wide ? fp32.t() : fp32;
  at::Tensor basis = basis_of(product(tall, sketch));
  for (int64_t i = 0; i < num_iterations; ++i) {
    basis = basis_of(product(tall.t(), basis));
    basis = basis_of(product(tall, basis));
  }
  Singular parts = decompose(product(basis.t(), tall));
  parts.left = product(basis, parts.left);
  if (is_wide) parts = {parts.right.t(), parts.values, parts.left.t()};
  return largest_parts(parts, sketch.size(1), scale);
}

}  // namespace temper
