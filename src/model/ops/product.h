// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace temper {

/// Factors of a product and of what its place held before.
struct ProductScales {
  float scale = 1.0F;
  float keep = 0.0F;
};

/// out = scale * a b + keep * out, with the same bits for any number of threads. Every product of
/// the model goes through here.
/// Shapes: a [m, k], b [k, n], out [m, n], of one dtype; a and b are dense in one of their
///   dimensions, and `out` in its rows.
void product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b,
                 ProductScales scales = {});

/// a b. Shapes: as above; returns [m, n].
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

struct ProductShape {
  int64_t rows;     ///< m
  int64_t columns;  ///< n
  int64_t depth;    ///< k
};

/// How a product is cut on a CPU: into blocks of its output, each computed by one thread. Depends
/// on the shape and the dtype alone, so that neither the number of threads nor what a BLAS makes of
/// it can change a bit.
///
/// Left to itself, a BLAS may. oneDNN, which computes in bf16, deals the depth out to threads where
/// the output has few blocks: all such products are cut. MKL, in fp32, takes for the rows and
/// columns that do not fill one of its kernels others that add in another order, and which ones
/// these are depends on the number of threads. Measured with LibTorch 2.11.0 (MKL, AVX2) on up to
/// 64 threads, 1,400 shapes: with a multiple of 16 columns and at least 171 rows the bits never
/// changed, and with other shapes, for instance of 36 columns or 33 rows, they often did. The
/// latter are cut. The former are left whole, with a margin: blocks that occupy all threads are
/// small where there are only 512 rows, and made a step of SmolLM2-135M take a tenth longer.
struct ProductBlocks {
  bool is_whole = false;  ///< Left to MKL and its threads.
  int64_t rows = 0;       ///< Of a block; the last ones may be smaller.
  int64_t columns = 0;

  int64_t count(const ProductShape& shape) const;
};
ProductBlocks product_blocks(const ProductShape& shape, at::ScalarType dtype);

/// Part of a row-major fp32 matrix, or the transpose of one.
struct MatrixView {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // Between stored rows.
  bool is_transposed = false;

  MatrixView transposed() const { return {data, columns, rows, stride, !is_transposed}; }

  /// Some rows of what is seen.
  MatrixView row_range(int64_t begin, int64_t end) const {
    return {data + begin * (is_transposed ? 1 : stride), end - begin, columns, stride,
            is_transposed};
  }

  /// Some columns of what is seen.
  MatrixView column_range(int64_t begin, int64_t end) const {
    return transposed().row_range(begin, end).transposed();
  }
};

/// c = scale * a b + keep * c, on this thread. c is not transposed.
void multiply(const MatrixView& a, const MatrixView& b, const MatrixView& c, ProductScales scales);

}  // namespace temper
