// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tile_product.h"

#include <ATen/cpu/vec/functional.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <exception>
#include <type_traits>

#include "model/ops/tile_copy.h"

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
// So many lanes ahead their numbers are fetched: left to itself, the processor begins when they are
// read, since each row of them is far from the last one.
constexpr int64_t kLanesAhead = 8;

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
      if (2 * (lane + kLanesAhead) + 1 < from.depth) {
        const From* ahead = numbers + 2 * kLanesAhead * from.depth_step;
        fetch(ahead, from.lines * static_cast<int64_t>(sizeof(From)));
        fetch(ahead + from.depth_step, from.lines * static_cast<int64_t>(sizeof(From)));
      }
      interleave(numbers, has_second ? numbers + from.depth_step : nullptr, from.lines, row);
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

// Lines that lie side by side, as rows: so few lanes at a time that they stay in the nearest cache.
template <typename T, typename From>
void turn_lanes(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  constexpr int64_t kLanes = 16;
  float* lanes = scratch_of({shape.lines, kLanes});
  for (int64_t lane = 0; lane < shape.lanes; lane += kLanes) {
    const int64_t count = std::min(kLanes, shape.lanes - lane);
    const int64_t begin = std::min(lane * kPerLane<T>, from.depth);
    const int64_t end = std::min((lane + count) * kPerLane<T>, from.depth);
    copy_lanes<T, From>(from.part(0, from.lines, begin, end - begin), {shape.lines, count}, lanes,
                        shape.lines);
    transpose_tile({lanes, count, shape.lines, shape.lines}, to + lane, stride);
  }
}

// Whether lines whose depth is dense are lanes of T as they lie in memory, and as many as wanted.
template <typename T, typename From>
bool has_lanes(const TileSource& from, PackedShape shape) {
  return std::is_same_v<T, From> && from.lines == shape.lines &&
         from.depth == shape.lanes * kPerLane<T> && from.line_step % kPerLane<T> == 0 &&
         reinterpret_cast<uintptr_t>(from.data) % alignof(float) == 0;
}

// Such lines, as columns.
template <typename T, typename From>
void turn_lines(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  if (has_lanes<T, From>(from, shape)) {
    const auto* lines = static_cast<const float*>(from.data);
    return transpose_tile({lines, shape.lines, shape.lanes, from.line_step / kPerLane<T>}, to,
                          stride);
  }
  float* lines = scratch_of(shape);
  copy_lines<T, From>(from, shape, lines, shape.lanes);
  transpose_tile({lines, shape.lines, shape.lanes, shape.lanes}, to, stride);
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
      turn_lanes<T, From>(from, shape, to, stride);
    }
  });
}

template <typename T>
void pack_columns(const TileSource& from, PackedShape shape, float* to, int64_t stride) {
  dispatch_source(from, [&](auto element) {
    using From = decltype(element);
    if (from.depth_step == 1) {
      turn_lines<T, From>(from, shape, to, stride);
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
