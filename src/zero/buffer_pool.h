// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <utility>

namespace temper {

/// Flat buffers that are used again, so that a step in the steady state allocates nothing. One may
/// be a little larger than asked: a head's then serves an embedding.
class BufferPool {
 public:
  explicit BufferPool(at::Device device) : device_(device) {}

  /// A buffer with unknown content. Shapes: [num_elements].
  at::Tensor take(int64_t num_elements, at::ScalarType dtype);

  /// Gives a buffer back. Nobody else may use it any more.
  void put(at::Tensor buffer);

  int64_t owned_bytes() const { return owned_bytes_; }  ///< Lent or free.

 private:
  using Kind = std::pair<at::ScalarType, int64_t>;  // With the number of elements.

  at::Device device_;
  std::multimap<Kind, at::Tensor> free_;
  int64_t owned_bytes_ = 0;
};

}  // namespace temper
