// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tile_product.h"

#include <ATen/cpu/vec/functional.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <exception>
#include <type_traits>

namespace temper {
namespace {

namespace blas = at::native::cpublas;

bool processor_has_bfloat16_products() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

// Settings can forbid oneDNN what the processor has.
bool kernel_can_be_made() {
  alignas(64) const at::BFloat16 a[2]{}, b[32]{};
  float sum[16];
  try {
    multiply_tiles({1, 16, 2}, TileFactor<at::BFloat16>{a, 2}, b, {sum, 16, false});
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

void copy_numbers(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }
void copy_numbers(const at::BFloat16* from, int64_t count, at::BFloat16* to) {
  std::copy_n(from, count, to);
}
template <typename From, typename T>
void copy_numbers(const From* from, int64_t count, T* to) {
  at::vec::convert(from, to, count);
}

// Each number of one row beside that of another, if there is one.
void interleave(const at::BFloat16* __restrict first, const at::BFloat16* __restrict second,
                int64_t count, float* to) {
  auto* __restrict pairs = reinterpret_cast<uint16_t*>(to);
  if (second == nullptr) {
    for (int64_t i = 0; i < count; ++i) {
      pairs[2 * i] = first[i].x;
      pairs[2 * i + 1] = 0;
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      pairs[2 * i] = first[i].x;
      pairs[2 * i + 1] = second[i].x;
    }
  }
}

void interleave_rows(const at::BFloat16* first, const at::BFloat16* second, int64_t count,
                     float* to) {
  interleave(first, second, count, to);
}

// The same of fp32 numbers, which are rounded.
void interleave_rows(const float* first, const float* second, int64_t count, float* to) {
  constexpr int64_t kAtOnce = 64;
  at::BFloat16 rounded[2][kAtOnce];
  for (int64_t i = 0; i < count; i += kAtOnce) {
    const int64_t size = std::min(kAtOnce, count - i);
    at::vec::convert(first + i, rounded[0], size);
    if (second != nullptr) at::vec::convert(second + i, rounded[1], size);
    interleave(rounded[0], second == nullptr ? nullptr : rounded[1], size, to + i);
  }
}

// Lines whose depth is dense, one after the other. Shapes: to [shape.lines, stride].
template <typename T, typename From>
void copy_lines(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  const auto* source = static_cast<const From*>(from.data);
  const int64_t depth = shape.lanes * kPerLane<T>;
  for (int64_t line = 0; line < from.lines; ++line) {
    T* row = reinterpret_cast<T*>(to + line * stride);
    copy_numbers(source + line * from.line_step, from.depth, row);
    std::fill(row + from.depth, row + depth, T(0.0F));
  }
  for (int64_t line = from.lines; line < shape.lines; ++line) {
    std::fill_n(to + line * stride, shape.lanes, 0.0F);
  }
}

// Lines that lie side by side, lane after lane. Shapes: to [shape.lanes, stride].
template <typename T, typename From>
void copy_lanes(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  const auto* source = static_cast<const From*>(from.data);
  const int64_t num_whole = lanes_of<T>(from.depth);
  for (int64_t lane = 0; lane < num_whole; ++lane) {
    float* row = to + lane * stride;
    const From* numbers = source + lane * kPerLane<T> * from.depth_step;
    if constexpr (std::is_same_v<T, float>) {
      copy_numbers(numbers, from.lines, row);
    } else {
      const bool has_second = 2 * lane + 1 < from.depth;
      interleave_rows(numbers, has_second ? numbers + from.depth_step : nullptr, from.lines, row);
    }
    std::fill(row + from.lines, row + shape.lines, 0.0F);
  }
  for (int64_t lane = num_whole; lane < shape.lanes; ++lane) {
    std::fill_n(to + lane * stride, shape.lines, 0.0F);
  }
}

// Calls function(From{}) with the type of the numbers in memory.
template <typename Function>
void dispatch_source(const TileSource& from, Function function) {
  if (from.dtype == at::kFloat) return function(float{});
  function(at::BFloat16{});
}

float* scratch_of(PackedShape shape) {
  return ProductScratch::of_this_thread().packing.of(shape.lines * shape.lanes);
}

}  // namespace

// Where oneDNN has no kernel for the processor, LibTorch calls its BLAS.
void multiply_tiles(const TileShape& shape, TileFactor<float> a, const float* b, TileSum c) {
  blas::brgemm(shape.rows, shape.columns, shape.depth, a.stride, shape.columns, c.stride,
               c.is_begun, a.data, b, c.data);
}

void multiply_tiles(const TileShape& shape, TileFactor<at::BFloat16> a, const at::BFloat16* b,
                    TileSum c) {
  blas::brgemm(shape.rows, shape.columns, shape.depth, a.stride, shape.columns, c.stride,
               c.is_begun, a.data, b, c.data, /*is_vnni=*/true);
}

bool has_bfloat16_tiles() {
  static const bool has_them = processor_has_bfloat16_products() && kernel_can_be_made();
  return has_them;
}

void transpose_tile(const TileMatrix& from, float* to, int64_t to_stride) {
  constexpr int64_t kBlock = 8;
  for (int64_t i = 0; i < from.rows; i += kBlock) {
    const int64_t rows = std::min(kBlock, from.rows - i);
    for (int64_t j = 0; j < from.columns; j += kBlock) {
      const int64_t columns = std::min(kBlock, from.columns - j);
      const float* corner = from.data + i * from.stride + j;
      float* place = to + j * to_stride + i;
      if (rows == kBlock && columns == kBlock) {
        at::vec::transpose_mxn<float, kBlock, kBlock>(corner, from.stride, place, to_stride);
      } else {
        at::vec::transpose_mxn<float>(corner, from.stride, place, to_stride, static_cast<int>(rows),
                                      static_cast<int>(columns));
      }
    }
  }
}

TileSource TileSource::part(int64_t first_line, int64_t num_lines, int64_t first_depth,
                            int64_t num_depth) const {
  const int64_t offset = first_line * line_step + first_depth * depth_step;
  const auto* bytes = static_cast<const std::byte*>(data);
  return {bytes + offset * static_cast<int64_t>(c10::elementSize(dtype)),
          dtype,
          num_lines,
          num_depth,
          line_step,
          depth_step};
}

template <typename T>
void pack_rows(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  dispatch_source(from, [&](auto element) {
    using From = decltype(element);
    if (from.depth_step == 1) {
      copy_lines<T, From>(from, shape, to, stride);
    } else {
      float* lanes = scratch_of(shape);
      copy_lanes<T, From>(from, shape, lanes, shape.lines);
      transpose_tile({lanes, shape.lanes, shape.lines, shape.lines}, to, stride);
    }
  });
}

template <typename T>
void pack_columns(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  dispatch_source(from, [&](auto element) {
    using From = decltype(element);
    if (from.depth_step == 1) {
      float* lines = scratch_of(shape);
      copy_lines<T, From>(from, shape, lines, shape.lanes);
      transpose_tile({lines, shape.lines, shape.lanes, shape.lanes}, to, stride);
    } else {
      copy_lanes<T, From>(from, shape, to, stride);
    }
  });
}

template void pack_rows<float>(const TileSource&, PackedShape, float*, int64_t);
template void pack_rows<at::BFloat16>(const TileSource&, PackedShape, float*, int64_t);
template void pack_columns<float>(const TileSource&, PackedShape, float*, int64_t);
template void pack_columns<at::BFloat16>(const TileSource&, PackedShape, float*, int64_t);

}  // namespace temper
