// SPDX-License-Identifier: Apache-2.0
#include "model/ops/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>
#include <vector>

#include "model/ops/backward.h"
#include "model/ops/kernel_call.h"
#include "model/ops/rotary_kernel.h"
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

// The place among a head's pairs at which the frequency turns so often in the original context.
double place_of_rotations(double rotations, const RopeOptions& options, int64_t size) {
  const auto context = static_cast<double>(options.original_max_positions);
  return static_cast<double>(size) * std::log(context / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(options.theta));
}

// Frequencies that turn often are kept, those that turn seldom divided, those between mixed.
at::Tensor stretch_yarn(const at::Tensor& periods, const RopeOptions& options, int64_t size) {
  double low = place_of_rotations(options.fast_rotations, options, size);
  double high = place_of_rotations(options.slow_rotations, options, size);
  if (options.has_whole_range) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(size - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp = ((at::arange(size / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor kept = 1.0 - ramp;
  return (1.0 / (options.factor * periods)) * (1.0 - kept) + (1.0 / periods) * kept;
}

at::Tensor stretch_long(const at::Tensor& periods, const RopeOptions& options) {
  const auto& factors = options.is_long ? options.long_factors : options.short_factors;
  return 1.0 / (at::tensor(factors, at::kDouble).to(at::kFloat) * periods);
}

struct RowAngles {
  const float *cosines, *sines;
  int64_t num_pairs;
};

void rotate_halves(float* values, const RowAngles& angles) {
  const int64_t half = angles.num_pairs;
  for_each_vector(half, [&](int64_t i, int count) {
    const Vector c = Vector::loadu(angles.cosines + i, count);
    const Vector s = Vector::loadu(angles.sines + i, count);
    const Vector a = Vector::loadu(values + i, count);
    const Vector b = Vector::loadu(values + half + i, count);
    (a * c - b * s).store(values + i, count);
    (b * c + a * s).store(values + half + i, count);
  });
}

void rotate_neighbours(float* values, const RowAngles& angles) {
  for (int64_t i = 0; i < angles.num_pairs; ++i) {
    const float c = angles.cosines[i], s = angles.sines[i];
    const float a = values[2 * i], b = values[2 * i + 1];
    values[2 * i] = a * c - b * s;
    values[2 * i + 1] = b * c + a * s;
  }
}

template <typename T>
void rotate_row(T* row, const RowAngles& angles, const Heads& heads, RopeOptions::Pairs pairs,
                float* scratch) {
  for (int64_t head = 0; head < heads.num_heads + heads.num_key_value_heads; ++head) {
    T* place = row + head * heads.head_dim;
    read_row(place, scratch, 2 * angles.num_pairs);
    float* values = row_buffer(place, scratch);
    if (pairs == RopeOptions::Pairs::kHalves) {
      rotate_halves(values, angles);
    } else {
      rotate_neighbours(values, angles);
    }
    write_row(place, values, 2 * angles.num_pairs);
  }
}

void rotate_on_cpu(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  const int64_t columns = heads.columns(), num_pairs = angles.cosines.size(1);
  dispatch_dtype(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* rows = qkv.mutable_data_ptr<T>();
    const float* cosines = angles.cosines.const_data_ptr<float>();
    const float* sines = angles.sines.const_data_ptr<float>();
    at::parallel_for(0, qkv.size(0), 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(heads.head_dim);
      for (int64_t row = begin; row < end; ++row) {
        rotate_row(rows + row * columns,
                   {cosines + row * num_pairs, sines + row * num_pairs, num_pairs}, heads,
                   angles.pairs, scratch.data());
      }
    });
  });
}

// In one launch.
[[maybe_unused]] void rotate_by_kernel(const at::Tensor& qkv, const RotaryAngles& angles,
                                       const Heads& heads) {
  const auto narrow = [](int64_t size) { return static_cast<uint32_t>(size); };
  dispatch_kernel(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_beside(qkv,
                  RotaryKernel<T>{.qkv = place_of<T>(qkv),
                                  .cosines = source_of<float>(angles.cosines),
                                  .sines = source_of<float>(angles.sines),
                                  .num_rows = narrow(qkv.size(0)),
                                  .columns = narrow(qkv.size(1)),
                                  .num_heads = narrow(heads.num_heads + heads.num_key_value_heads),
                                  .head_dim = narrow(heads.head_dim),
                                  .num_pairs = narrow(angles.cosines.size(1)),
                                  .is_halves = angles.pairs == RopeOptions::Pairs::kHalves});
  });
}

void rotate_in_place(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  if (qkv.is_cpu()) {
    rotate_on_cpu(qkv, angles, heads);
  } else if constexpr (kHasKernels) {
    rotate_by_kernel(qkv, angles, heads);
  }
  if (angles.query_factors.defined()) {
    const at::NoGradGuard no_graph;
    qkv.narrow(1, 0, heads.query_columns()).mul_(angles.query_factors.unsqueeze(1));
  }
}

at::Tensor rotate_elsewhere(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  const int64_t rotated = heads.first_value_column(), num_pairs = angles.cosines.size(1);
  const bool is_halves = angles.pairs == RopeOptions::Pairs::kHalves;
  const at::Tensor both = qkv.narrow(1, 0, rotated).unflatten(1, {-1, heads.head_dim});
  const at::Tensor part = both.narrow(2, 0, 2 * num_pairs);
  const auto pair = is_halves ? part.chunk(2, 2) : part.unflatten(2, {num_pairs, 2}).unbind(3);
  const at::Tensor c = angles.cosines.unsqueeze(1), s = angles.sines.unsqueeze(1);
  const std::vector<at::Tensor> turned = {pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s};
  const at::Tensor whole = is_halves ? at::cat(turned, 2) : at::stack(turned, 3).flatten(2);
  const at::Tensor rest = both.narrow(2, 2 * num_pairs, heads.head_dim - 2 * num_pairs);
  at::Tensor heads_turned = at::cat({whole.to(qkv.scalar_type()), rest}, 2);
  if (angles.query_factors.defined()) {
    const at::Tensor queries = heads_turned.narrow(1, 0, heads.num_heads);
    const at::Tensor keys = heads_turned.narrow(1, heads.num_heads, heads.num_key_value_heads);
    const at::Tensor factors = angles.query_factors.view({-1, 1, 1});
    heads_turned = at::cat({(queries * factors).to(qkv.scalar_type()), keys}, 1);
  }
  return at::cat({heads_turned.flatten(1), qkv.narrow(1, rotated, qkv.size(1) - rotated)}, 1);
}

}  // namespace

at::Tensor rotary_frequencies(const RopeOptions& options, int64_t head_dim) {
  const int64_t size = options.num_rotated > 0 ? options.num_rotated : head_dim;
  const at::Tensor exponents = at::arange(0, size, 2, at::kLong).to(at::kFloat) / size;
  const at::Tensor periods = at::pow(options.theta, exponents);  // Over 2 pi, in tokens.
  const at::Tensor frequencies = 1.0 / periods;
  switch (options.scaling) {
    case RopeOptions::Scaling::kLinear: return frequencies / options.factor;
    case RopeOptions::Scaling::kLlama3: return stretch_llama3(frequencies, options);
    case RopeOptions::Scaling::kYarn: return stretch_yarn(periods, options, size);
    case RopeOptions::Scaling::kLongRope: return stretch_long(periods, options);
    case RopeOptions::Scaling::kNone: break;
  }
  return frequencies;
}

Rotary::Rotary(RopeOptions options, int64_t head_dim)
    : options_(std::move(options)), frequencies_(rotary_frequencies(options_, head_dim)) {}

RotaryAngles Rotary::angles(const at::Tensor& positions, int64_t largest, at::ScalarType dtype) {
  const int64_t needed = 1 + largest;
  const bool is_short = options_.scaling == RopeOptions::Scaling::kLongRope && !options_.is_long;
  if (is_short && needed > options_.original_max_positions) {
    throw std::invalid_argument("positions were chosen for shorter contexts");
  }
  if (dtype != dtype_ || table_.cosines.size(0) < needed ||
      table_.cosines.device() != positions.device()) {
    frequencies_ = frequencies_.to(positions.device());
    extend(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(needed))), dtype);
  }
  const auto at_positions = [&](const at::Tensor& table) {
    return table.defined() ? table.index_select(0, positions) : table;
  };
  return {at_positions(table_.cosines), at_positions(table_.sines),
          at_positions(table_.query_factors), options_.pairs};
}

void Rotary::extend(int64_t num_positions, at::ScalarType dtype) {
  const at::Tensor positions =
      at::arange(num_positions, frequencies_.options().dtype(at::kLong)).to(at::kFloat);
  const at::Tensor angles = positions.unsqueeze(1) * frequencies_;
  const auto rounded = [&](const at::Tensor& numbers) {
    return (numbers * options_.attention_factor).to(dtype).to(at::kFloat);
  };
  table_ = {rounded(angles.cos()), rounded(angles.sin()), {}, options_.pairs};
  if (options_.query_growth > 0.0) {
    const at::Tensor contexts =
        (positions / static_cast<double>(options_.original_max_positions)).floor();
    const at::Tensor factors = 1.0 + options_.query_growth * (1.0 + contexts).log();
    table_.query_factors = factors.to(dtype).to(at::kFloat);
  }
  dtype_ = dtype;
}

at::Tensor rotate(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads) {
  if (!angles.cosines.defined()) return qkv;
  if (!qkv.is_cpu() && !kHasKernels) return rotate_elsewhere(qkv, angles, heads);
  rotate_in_place(qkv, angles, heads);
  // The gradient turns back. It comes from the attention alone, so it too is overwritten.
  return with_backward(qkv.detach(), {qkv},
                       [angles, heads](const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         RotaryAngles back = angles;
                         back.sines = angles.sines.neg();
                         const at::Tensor turned = gradient.contiguous();
                         rotate_in_place(turned, back, heads);
                         return {turned};
                       });
}

}  // namespace temper
