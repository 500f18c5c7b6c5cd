// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/DeviceAccelerator.h>

namespace temper::testing {

/// What the tests of this folder run on: LibTorch's accelerator, which is the simulated device, or
/// a card in a build for GPUs.
inline at::Device accelerator() { return {at::getAccelerator(/*checked=*/true).value(), 0}; }

}  // namespace temper::testing
