// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "io/safetensors_folder.h"

namespace temper {

/// A whole tensor of a file as fp32, in its shape. Throws: the Error of the file.
at::Tensor read_tensor(const SafetensorsFolder::Place& place);

}  // namespace temper
