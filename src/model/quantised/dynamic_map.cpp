// SPDX-License-Identifier: Apache-2.0
// Compiled without contraction into fused multiply-adds: see CMakeLists.txt.
#include "model/quantised/dynamic_map.h"

#include <ATen/ops/linspace.h>

#include <algorithm>
#include <cmath>

namespace temper {
namespace {

// Every step is in fp32, as in bitsandbytes.
std::array<float, 256> make_map(MapSign sign) {
  const bool is_signed = sign == MapSign::kSigned;
  std::array<float, 256> values{0.0F, 1.0F};
  size_t count = 2;
  for (int exponent = 0; exponent < 7; ++exponent) {
    const int64_t num_means = int64_t{is_signed ? 1 : 2} << exponent;
    const at::Tensor borders = at::linspace(0.1, 1, num_means + 1, at::kFloat);
    const auto magnitude = static_cast<float>(std::pow(10.0, exponent - 6));
    const float* const border = borders.const_data_ptr<float>();
    for (int64_t i = 0; i < num_means; ++i) {
      const float value = magnitude * ((border[i] + border[i + 1]) / 2.0F);
      values[count++] = value;
      if (is_signed) values[count++] = -value;
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

const std::array<float, 256>& dynamic_map(MapSign sign) {
  static const std::array<float, 256> with_sign = make_map(MapSign::kSigned);
  static const std::array<float, 256> without = make_map(MapSign::kUnsigned);
  return sign == MapSign::kSigned ? with_sign : without;
}

}  // namespace temper
