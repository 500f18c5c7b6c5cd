// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace temper {

/// What the weights are converted to for computing; the master weights are always fp32.
enum class ComputeDtype { kFloat32, kBfloat16 };

struct ModelOptions {
  enum class Dtype {
    kAuto,  ///< bfloat16 on a GPU or where the processor has instructions for it, else float32.
    kFloat32,
    kBfloat16,
  };
  enum class Device { kCpu, kCuda };
  /// What becomes of a token that turns in the data end with and that ends no text of the model.
  enum class EndOfTurn {
    kKeep,  ///< The result's end tokens are those of the model.
    kAdd,   ///< It becomes one of them, so that generation stops there.
  };

  std::string path;  ///< A Hugging Face model folder.
  Dtype dtype = Dtype::kAuto;
  Device device = Device::kCpu;
  EndOfTurn end_of_turn = EndOfTurn::kKeep;
};

/// What `auto` means on this machine; a login node may have another processor than a compute node.
ComputeDtype compute_dtype_of(const ModelOptions& options);

/// "float32" or "bfloat16".
std::string name_of(ComputeDtype dtype);

/// Whether a processor multiplies bfloat16 matrices in hardware, by the text of /proc/cpuinfo.
bool has_bfloat16_instructions(std::string_view cpuinfo);

}  // namespace temper
