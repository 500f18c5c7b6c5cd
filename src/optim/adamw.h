// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace temper {

/// What the moments are kept in from step to step; each step computes with them in fp32.
enum class MomentDtype {
  kFloat32,
  kBfloat16,  ///< Rounded up or down by chance, so that what is small against them adds up.
  kInt8,      ///< A code for each, and an fp32 scale for a block of 256.
};

struct AdamWOptions {
  double learning_rate = 2e-5;  ///< Peak, after warm-up.
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  ///< Decoupled; not applied to norms and biases.
  MomentDtype state_dtype = MomentDtype::kFloat32;
  std::string offload = {};  ///< A folder on each node's disk for what is updated, or none.
};

/// What one step applies to every parameter.
struct AdamWStep {
  int64_t step = 1;             ///< Counted from 1, for the bias correction.
  double learning_rate = 0.0;   ///< From the schedule.
  double gradient_scale = 1.0;  ///< Multiplies each gradient first: 1 / num_targets and clipping.
  double weight_decay = 0.0;    ///< Of this range.
};

/// What one step reads and writes.
///
/// Shapes: all [n], contiguous, fp32, on one device.
struct AdamWTensors {
  at::Tensor parameters;
  at::Tensor gradients;
  at::Tensor first_moment;
  at::Tensor second_moment;
  at::Tensor rounded = {};  ///< bf16: what the parameters become rounded to the nearest, or none.
};

/// Updates parameters and moments in place by one AdamW step, element by element.
///
/// The same bits however the range is cut and whatever the number of threads: no fused
/// multiply-adds, and vector and scalar code round alike.
/// Source: Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv:1711.05101,
///   algorithm 2, with the operations in the order of torch.optim.AdamW.
/// Throws: std::invalid_argument.
void adamw_update(const AdamWTensors& tensors, const AdamWOptions& options, const AdamWStep& step);

/// The same for arrays of n elements in memory, by the calling thread alone: for moments that are
/// in fp32 only meanwhile.
struct AdamWArrays {
  float* parameters;
  const float* gradients;
  float* first_moment;
  float* second_moment;
  at::BFloat16* rounded = nullptr;
};
void adamw_update(const AdamWArrays& arrays, int64_t n, const AdamWOptions& options,
                  const AdamWStep& step);

/// The same by LibTorch's operators, on any device: what `adamw_update` does off the CPU.
void adamw_update_by_operators(const AdamWTensors& tensors, const AdamWOptions& options,
                               const AdamWStep& step);

}  // namespace temper
