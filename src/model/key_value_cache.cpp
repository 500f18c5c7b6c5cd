// SPDX-License-Identifier: Apache-2.0
#include "model/key_value_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace temper {

void KeyValueCache::append(const at::Tensor& keys, const at::Tensor& values) {
  const int64_t count = keys.size(0);
  if (!keys_.defined() || num_tokens_ + count > keys_.size(0)) grow(num_tokens_ + count, keys);
  keys_.narrow(0, num_tokens_, count).copy_(keys);
  values_.narrow(0, num_tokens_, count).copy_(values);
  num_tokens_ += count;
}

void KeyValueCache::grow(int64_t num_tokens, const at::Tensor& beside) {
  constexpr int64_t kFewestTokens = 64;
  const int64_t capacity = std::max({kFewestTokens, num_tokens, 2 * num_tokens_});
  for (at::Tensor* tensor : {&keys_, &values_}) {
    at::Tensor larger = at::empty({capacity, beside.size(1), beside.size(2)}, beside.options());
    if (tensor->defined()) {
      larger.narrow(0, 0, num_tokens_).copy_(tensor->narrow(0, 0, num_tokens_));
    }
    *tensor = std::move(larger);
  }
  num_moved_tokens_ += num_tokens_;
}

}  // namespace temper
