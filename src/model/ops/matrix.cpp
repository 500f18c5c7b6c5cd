// SPDX-License-Identifier: Apache-2.0
#include "model/ops/matrix.h"

// LibTorch carries a BLAS with the usual Fortran interface, but its headers do not declare it.
// ATen's own products cost microseconds of dispatch each, too much for tiles.
extern "C" void sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace temper {

void multiply(const MatrixView& a, const MatrixView& b, const MatrixView& c, ProductScales scales) {
  // BLAS sees columns where we have rows: it computes the transpose, c' = b' a'.
  const int m = static_cast<int>(c.columns), n = static_cast<int>(c.rows);
  const int k = static_cast<int>(a.columns);
  const int lda = static_cast<int>(b.stride), ldb = static_cast<int>(a.stride);
  const int ldc = static_cast<int>(c.stride);
  sgemm_(b.is_transposed ? "T" : "N", a.is_transposed ? "T" : "N", &m, &n, &k, &scales.scale,
         b.data, &lda, a.data, &ldb, &scales.keep, c.data, &ldc);
}

}  // namespace temper
