// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace temper {

/// Factors of a product and of what its place held before.
struct ProductScales {
  float scale = 1.0F;
  float keep = 0.0F;
};

/// A product that belongs to the same sum, of the columns from `first_column` on.
/// Shapes: a [m, k'], b [k', n'].
struct ProductTerm {
  at::Tensor a, b;
  int64_t first_column = 0;
};

/// out = scale * (a b + terms) + keep * out, with the same bits for any number of threads. Every
/// product of the model goes through here.
///
/// Factors may be fp32 or bf16. Where one of a and b is bf16, all of them are multiplied as such,
/// rounded to it if they are not; a processor that cannot, and a product of fp32 alone, multiplies
/// in fp32. Sums are fp32 and rounded once, to the dtype of `out`.
/// Shapes: a [m, k], b [k, n], out [m, n]; factors are dense in one of their dimensions, and `out`
///   in its rows.
void product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b,
                 ProductScales scales = {}, std::span<const ProductTerm> terms = {});

/// a b. Shapes: as above, both of one dtype; returns [m, n] of it.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

struct ProductShape {
  int64_t rows;     ///< m
  int64_t columns;  ///< n
  int64_t depth;    ///< k
};

/// How many threads a product can occupy on a CPU.
int64_t num_product_tasks(const ProductShape& shape);

/// The products of a linear layer: forward, and both of its backward pass, or the input's alone.
struct LinearShape {
  int64_t tokens, out, in;
  bool is_trained = true;
};

/// What products on a CPU keep from call to call for such layers, of all threads together.
int64_t product_bytes(std::span<const LinearShape> layers, at::ScalarType dtype, int num_threads);

}  // namespace temper
