// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace temper {

/// The numbers as an int64 tensor on a device. The host does not wait for the copy.
/// Shapes: numbers [n]; returns [n].
/// Stream: the caller's current one, whose later work finds the numbers there.
at::Tensor on_device(const std::vector<int64_t>& numbers, at::Device device);

}  // namespace temper
