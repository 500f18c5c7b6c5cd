// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace temper {

/// Flat buffers that are used again, so that a step in the steady state allocates nothing.
class BufferPool {
 public:
  BufferPool(at::ScalarType dtype, at::Device device) : dtype_(dtype), device_(device) {}

  /// A buffer with unknown content. Shapes: [num_elements].
  at::Tensor take(int64_t num_elements);

  /// Gives a buffer back. Nobody else may use it any more.
  void put(at::Tensor buffer);

 private:
  at::ScalarType dtype_;
  at::Device device_;
  std::map<int64_t, std::vector<at::Tensor>> free_;  // By number of elements.
};

}  // namespace temper
