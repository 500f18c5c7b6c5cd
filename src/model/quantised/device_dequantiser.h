// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/quantised/four_bit_format.h"

namespace temper {

/// What `dequantise` and `dequantise_absmax` do on a CPU, in the same bits, by operations of
/// LibTorch on any device: each product and sum is an operation of its own, so none is fused.
class DeviceDequantiser {
 public:
  /// Throws: std::invalid_argument, where there is no such format.
  DeviceDequantiser(const FourBitFormat& format, at::Device device);

  /// Writes value * absmax. A few million elements at a time are held in fp32, and an index of
  /// half their bytes.
  /// Shapes: codes uint8 [n / 2], absmax fp32 [n / block_size], out [n] of fp32 or bf16; whole
  /// blocks, on the device.
  /// Throws: std::invalid_argument, for other shapes.
  void dequantise(const at::Tensor& codes, const at::Tensor& absmax, const at::Tensor& out) const;

  /// The blocks' scales, of double quantisation.
  /// Shapes: codes uint8 [n], absmax fp32 [ceil(n / 256)]; result fp32 [n].
  /// Throws: std::invalid_argument, for other shapes.
  at::Tensor dequantise_absmax(const at::Tensor& codes, const at::Tensor& absmax,
                               float offset) const;

  /// The value of each code of a scale. Shapes: [256] fp32.
  const at::Tensor& scale_values() const { return scales_; }

 private:
  FourBitFormat format_;
  at::Tensor pairs_;   // [256, 2]: the values of a byte's two codes.
  at::Tensor scales_;  // [256]: the value of each code of a scale.
};

}  // namespace temper
