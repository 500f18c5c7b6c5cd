// SPDX-License-Identifier: Apache-2.0
#include "model/ops/rotary.h"

#include <ATen/ATen.h>

#include <bit>
#include <cmath>
#include <numbers>

#include "model/ops/backward.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// Long waves are stretched, short ones kept, those between interpolated.
at::Tensor stretch_llama3(const at::Tensor& frequencies, const RopeOptions& options) {
  const auto context = static_cast<double>(options.original_max_positions);
  const double low = options.low_frequency_factor, high = options.high_frequency_factor;
  const at::Tensor wavelengths = 2.0 * std::numbers::pi / frequencies;
  const at::Tensor stretched = frequencies / options.factor;
  const at::Tensor share = (context / wavelengths - low) / (high - low);
  const at::Tensor between = (1.0 - share) * frequencies / options.factor + share * frequencies;
  const at::Tensor shorter = at::where(wavelengths < context / high, frequencies, between);
  return at::where(wavelengths > context / low, stretched, shorter);
}

template <typename T>
void rotate_row(T* row, const float* cosines, const float* sines, const Heads& heads,
                float* scratch) {
  const int64_t half = heads.head_dim / 2;
  for (int64_t head = 0; head < heads.num_heads + heads.num_key_value_heads; ++head) {
    T* place = row + head * heads.head_dim;
    read_row(place, scratch, heads.head_dim);
    float* values = row_buffer(place, scratch);
    for_each_vector(half, [&](int64_t i, int count) {
      const Vector c = Vector::loadu(cosines + i, count), s = Vector::loadu(sines + i, count);
      const Vector a = Vector::loadu(values + i, count);
      const Vector b = Vector::loadu(values + half + i, count);
      (a * c - b * s).store(values + i, count);
      (b * c + a * s).store(values + half + i, count);
    });
    write_row(place, values, heads.head_dim);
  }
}

void rotate_in_place(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  const int64_t half = heads.head_dim / 2, columns = heads.columns();
  dispatch_dtype(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* rows = qkv.mutable_data_ptr<T>();
    const float* cosines = angles.cosines.const_data_ptr<float>();
    const float* sines = angles.sines.const_data_ptr<float>();
    at::parallel_for(0, qkv.size(0), 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(heads.head_dim);
      for (int64_t row = begin; row < end; ++row) {
        rotate_row(rows + row * columns, cosines + row * half, sines + row * half, heads,
                   scratch.data());
      }
    });
  });
}

at::Tensor rotate_elsewhere(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  const int64_t rotated = heads.first_value_column();
  const at::Tensor both = qkv.narrow(1, 0, rotated).unflatten(1, {-1, heads.head_dim});
  const auto halves = both.chunk(2, 2);
  const at::Tensor c = angles.cosines.unsqueeze(1), s = angles.sines.unsqueeze(1);
  const at::Tensor turned =
      at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, 2);
  const at::Tensor values = qkv.narrow(1, rotated, qkv.size(1) - rotated);
  return at::cat({turned.flatten(1).to(qkv.scalar_type()), values}, 1);
}

}  // namespace

at::Tensor rotary_frequencies(const RopeOptions& options, int64_t head_dim) {
  const at::Tensor exponents = at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / head_dim;
  const at::Tensor frequencies = 1.0 / at::pow(options.theta, exponents);
  switch (options.scaling) {
    case RopeOptions::Scaling::kLinear: return frequencies / options.factor;
    case RopeOptions::Scaling::kLlama3: return stretch_llama3(frequencies, options);
    case RopeOptions::Scaling::kNone: break;
  }
  return frequencies;
}

Rotary::Rotary(const RopeOptions& options, int64_t head_dim)
    : frequencies_(rotary_frequencies(options, head_dim)) {}

RotaryAngles Rotary::angles(const at::Tensor& positions, at::ScalarType dtype) {
  const int64_t needed = 1 + positions.max().item<int64_t>();
  if (dtype != dtype_ || table_.cosines.size(0) < needed ||
      table_.cosines.device() != positions.device()) {
    frequencies_ = frequencies_.to(positions.device());
    extend(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(needed))), dtype);
  }
  return {table_.cosines.index_select(0, positions), table_.sines.index_select(0, positions)};
}

void Rotary::extend(int64_t num_positions, at::ScalarType dtype) {
  const at::Tensor positions =
      at::arange(num_positions, frequencies_.options().dtype(at::kLong)).to(at::kFloat);
  const at::Tensor angles = positions.unsqueeze(1) * frequencies_;
  table_ = {angles.cos().to(dtype).to(at::kFloat), angles.sin().to(dtype).to(at::kFloat)};
  dtype_ = dtype;
}

at::Tensor rotate(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  if (!qkv.is_cpu()) return rotate_elsewhere(qkv, angles, heads);
  rotate_in_place(qkv, angles, heads);
  // The gradient turns back. It comes from the attention alone, so it too is overwritten.
  return with_backward(qkv.detach(), {qkv},
                       [angles, heads](const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         rotate_in_place(gradient, {angles.cosines, angles.sines.neg()}, heads);
                         return {gradient};
                       });
}

}  // namespace temper
