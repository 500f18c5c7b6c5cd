// SPDX-License-Identifier: Apache-2.0
#include "model/ops/product.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "model/ops/one_thread.h"
#include "model/ops/rows.h"

// LibTorch carries a BLAS with the usual Fortran interface, but its headers do not declare it.
// ATen's own products cost microseconds of dispatch each, too much for tiles.
extern "C" void sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace temper {
namespace {

int64_t divided_up(int64_t size, int64_t part) { return (size + part - 1) / part; }

// The size of equal parts of at most `most`, in whole vectors of the widest processors.
int64_t equal_parts(int64_t size, int64_t most) {
  constexpr int64_t kVector = 16;
  const int64_t part = divided_up(size, divided_up(size, most));
  return std::min(size, divided_up(part, kVector) * kVector);
}

// A matrix of one row or column may have any stride there.
MatrixView view_of(const at::Tensor& matrix) {
  const bool is_transposed = matrix.stride(1) != 1;
  const int64_t stride = is_transposed ? std::max(matrix.stride(1), matrix.size(0))
                                       : std::max(matrix.stride(0), matrix.size(1));
  return {matrix.mutable_data_ptr<float>(), matrix.size(0), matrix.size(1), stride, is_transposed};
}

struct Block {
  Range rows;
  Range columns;
};

void multiply_block(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, Block block,
                    ProductScales scales) {
  if (out.scalar_type() == at::kFloat) {
    multiply(view_of(a).row_range(block.rows.begin, block.rows.end),
             view_of(b).column_range(block.columns.begin, block.columns.end),
             view_of(out)
                 .row_range(block.rows.begin, block.rows.end)
                 .column_range(block.columns.begin, block.columns.end),
             scales);
    return;
  }
  const OneThreadHere guard;
  const at::NoGradGuard no_graph;  // Each thread has a mode of its own.
  out.slice(0, block.rows.begin, block.rows.end)
      .slice(1, block.columns.begin, block.columns.end)
      .addmm_(a.slice(0, block.rows.begin, block.rows.end),
              b.slice(1, block.columns.begin, block.columns.end), scales.keep, scales.scale);
}

}  // namespace

void multiply(const MatrixView& a, const MatrixView& b, const MatrixView& c, ProductScales scales) {
  // BLAS sees columns where we have rows: it computes the transpose, c' = b' a'.
  const int m = static_cast<int>(c.columns), n = static_cast<int>(c.rows);
  const int k = static_cast<int>(a.columns);
  const int lda = static_cast<int>(b.stride), ldb = static_cast<int>(a.stride);
  const int ldc = static_cast<int>(c.stride);
  sgemm_(b.is_transposed ? "T" : "N", a.is_transposed ? "T" : "N", &m, &n, &k, &scales.scale,
         b.data, &lda, a.data, &ldb, &scales.keep, c.data, &ldc);
}

int64_t ProductBlocks::count(const ProductShape& shape) const {
  if (is_whole) return 1;
  if (shape.rows == 0 || shape.columns == 0) return 0;
  return divided_up(shape.rows, rows) * divided_up(shape.columns, columns);
}

ProductBlocks product_blocks(const ProductShape& shape, at::ScalarType dtype) {
  constexpr int64_t kThin = 128;  // Measured: shorter blocks cost a tenth of a step of LoRA.
  if (shape.rows <= kThin) return {false, shape.rows, equal_parts(shape.columns, kThin)};
  if (shape.columns <= kThin || shape.depth < kThin) return {false, kThin, shape.columns};
  constexpr int64_t kFewestWholeRows = 512, kWholeVector = 16;
  if (dtype == at::kFloat && shape.rows >= kFewestWholeRows && shape.columns % kWholeVector == 0) {
    return {true, shape.rows, shape.columns};
  }
  constexpr std::pair<int64_t, int64_t> kSizes[] = {
      {1024, 512}, {512, 256}, {256, 256}, {128, 256}, {128, 128}};
  constexpr int64_t kEnough = 64;  // As many threads are occupied.
  ProductBlocks blocks;
  for (const auto& [rows, columns] : kSizes) {
    blocks = {false, equal_parts(shape.rows, rows), equal_parts(shape.columns, columns)};
    if (blocks.count(shape) >= kEnough) break;
  }
  return blocks;
}

void product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b, ProductScales scales) {
  const ProductShape shape{out.size(0), out.size(1), a.size(1)};
  const ProductBlocks blocks = product_blocks(shape, out.scalar_type());
  if (!out.is_cpu() || blocks.is_whole) {
    out.addmm_(a, b, scales.keep, scales.scale);
    return;
  }
  const int64_t blocks_per_column = divided_up(shape.rows, std::max<int64_t>(1, blocks.rows));
  run_tasks(blocks.count(shape), [&](int64_t task) {
    const int64_t row = task % blocks_per_column * blocks.rows;
    const int64_t column = task / blocks_per_column * blocks.columns;
    multiply_block(out, a, b,
                   {{row, std::min(row + blocks.rows, shape.rows)},
                    {column, std::min(column + blocks.columns, shape.columns)}},
                   scales);
  });
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  product_out(out, a, b);
  return out;
}

}  // namespace temper
