// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdio>
#include <stdexcept>

namespace temper::testing {

/// The next fp32 numbers of standard input. Shapes: returns [size].
inline at::Tensor read_floats(int64_t size) {
  const at::Tensor tensor = at::empty({size}, at::kFloat);
  const auto count = static_cast<size_t>(size);
  if (std::fread(tensor.mutable_data_ptr(), sizeof(float), count, stdin) != count) {
    throw std::runtime_error("standard input is too short");
  }
  return tensor;
}

}  // namespace temper::testing
