// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/initial_values.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "core/random.h"

namespace temper {
namespace {

// Box and Muller's transform of two uniform numbers.
double normal(uint64_t key, uint64_t index) {
  const double radius = std::sqrt(-2.0 * std::log1p(-random_uniform(key, 2 * index)));
  return radius * std::cos(2.0 * std::numbers::pi * random_uniform(key, 2 * index + 1));
}

}  // namespace

void fill_initial_values(const InitialValues& initial, uint64_t seed, std::string_view name,
                         Range range, std::span<float> values) {
  using Distribution = InitialValues::Distribution;
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

}  // namespace temper
