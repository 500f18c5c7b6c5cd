// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace temper {

/// Keys and values of the tokens a block has seen so far, for generation.
///
/// Their memory doubles whenever it is full, so that a token is copied about once more, however
/// many follow it.
/// Shapes: [num_tokens, num_key_value_heads, head_dim], the keys after the rotation.
class KeyValueCache {
 public:
  bool is_empty() const { return num_tokens_ == 0; }

  /// Views that hold until the next `append`.
  at::Tensor keys() const { return keys_.narrow(0, 0, num_tokens_); }
  at::Tensor values() const { return values_.narrow(0, 0, num_tokens_); }

  void append(const at::Tensor& keys, const at::Tensor& values);

  int64_t num_moved_tokens() const { return num_moved_tokens_; }  ///< To larger memory, so far.

 private:
  void grow(int64_t num_tokens, const at::Tensor& beside);

  at::Tensor keys_, values_;  // [capacity, num_key_value_heads, head_dim]
  int64_t num_tokens_ = 0;
  int64_t num_moved_tokens_ = 0;
};

/// Those of one sequence. Shapes: [layer].
using KeyValueCaches = std::vector<KeyValueCache>;

}  // namespace temper
