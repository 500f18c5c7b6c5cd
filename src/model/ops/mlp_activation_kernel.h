// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// What the kernels below compute of a gate: function(x) and its slope.
struct GateFormula {
  /// x sigmoid(a x), or with the normal distribution's integral by tanh, which is sigmoid(2 u).
  enum class Kind { kSwish, kGeluNew };

  struct Both {
    float value, slope;
  };

  Kind kind;

  TEMPER_HOST_DEVICE Both both(float x) const {
    constexpr float kA = 1.5957691216057308F;  // 2 sqrt(2 / pi)
    constexpr float kB = 0.044715F;
    const bool is_swish = kind == Kind::kSwish;
    const float u = is_swish ? x : kA * (x + kB * x * x * x);
    const float of_u = is_swish ? 1.0F : kA * (1.0F + 3.0F * kB * x * x);  // d u / d x
    const float s = 1.0F / (1.0F + std::exp(-u));
    return {x * s, s * (1.0F + x * of_u * (1.0F - s))};
  }
};

/// out = function(gate) * up. Shapes: x [num_rows, 2 size], gate first; out [num_rows, size].
/// Registers: at most 32, occupancy 1.00.
template <typename T>
struct MlpActivationKernel {
  static constexpr int kNumThreads = 256;
  static constexpr int kNumPhases = 1;
  struct Shared {};

  const T* x;
  T* out;
  RowChunks<T, kNumThreads> rows;
  GateFormula formula;

  int64_t num_blocks() const { return rows.num_blocks(); }

  TEMPER_HOST_DEVICE void run(int /*phase*/, GridPlace place, Shared& /*shared*/) const {
    const uint32_t size = rows.size, column = rows.column(place);
    if (column >= size) return;
    const int64_t row = rows.row(place), left = size - column;
    const auto gate = Chunk<T>::read(x + 2 * row * size + column, left);
    auto result = Chunk<T>::read(x + (2 * row + 1) * size + column, left);
    for (int i = 0; i < Chunk<T>::kSize; ++i) {
      result.numbers[i] *= formula.both(gate.numbers[i]).value;
    }
    result.write(out + row * size + column, left);
  }
};

/// From the gradient of that result to that of x. Shapes: x, out [num_rows, 2 size], gradient
/// [num_rows, size].
/// Registers: at most 40, occupancy 0.75.
template <typename T>
struct MlpActivationBackwardKernel {
  static constexpr int kNumThreads = 256;
  static constexpr int kNumPhases = 1;
  struct Shared {};

  const T* x;
  const T* gradient;
  T* out;
  RowChunks<T, kNumThreads> rows;
  GateFormula formula;

  int64_t num_blocks() const { return rows.num_blocks(); }

  TEMPER_HOST_DEVICE void run(int /*phase*/, GridPlace place, Shared& /*shared*/) const {
    const uint32_t size = rows.size, column = rows.column(place);
    if (column >= size) return;
    const int64_t row = rows.row(place), left = size - column;
    const int64_t at_gate = 2 * row * size + column, at_up = at_gate + size;
    auto gate = Chunk<T>::read(x + at_gate, left), up = Chunk<T>::read(x + at_up, left);
    const auto upper = Chunk<T>::read(gradient + row * size + column, left);
    for (int i = 0; i < Chunk<T>::kSize; ++i) {
      const GateFormula::Both both = formula.both(gate.numbers[i]);
      gate.numbers[i] = upper.numbers[i] * up.numbers[i] * both.slope;
      up.numbers[i] = upper.numbers[i] * both.value;
    }
    gate.write(out + at_gate, left);
    up.write(out + at_up, left);
  }
};

}  // namespace temper
