// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/read_tensor.h"

#include <ATen/ops/empty.h>

namespace temper {

at::Tensor read_tensor(const SafetensorsFolder::Place& place) {
  at::Tensor values = at::empty(place.tensor->shape, at::kFloat);
  const auto count = static_cast<size_t>(values.numel());
  place.file->read_floats(*place.tensor, {0, values.numel()},
                          {values.mutable_data_ptr<float>(), count});
  return values;
}

}  // namespace temper
