// SPDX-License-Identifier: Apache-2.0
#include "config/model_options.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <sstream>

namespace temper {
namespace {

// x86-64 with AVX-512 or AMX, and Arm.
constexpr std::array<std::string_view, 3> kFlags = {"avx512_bf16", "amx_bf16", "bf16"};

bool this_processor_has_bfloat16() {
  std::ifstream file("/proc/cpuinfo");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return has_bfloat16_instructions(text);
}

}  // namespace

ComputeDtype compute_dtype_of(const ModelOptions& options) {
  switch (options.dtype) {
    case ModelOptions::Dtype::kFloat32: return ComputeDtype::kFloat32;
    case ModelOptions::Dtype::kBfloat16: return ComputeDtype::kBfloat16;
    case ModelOptions::Dtype::kAuto: break;
  }
  const bool is_gpu = options.device == ModelOptions::Device::kCuda;
  return is_gpu || this_processor_has_bfloat16() ? ComputeDtype::kBfloat16 : ComputeDtype::kFloat32;
}

std::string name_of(ComputeDtype dtype) {
  return dtype == ComputeDtype::kBfloat16 ? "bfloat16" : "float32";
}

bool has_bfloat16_instructions(std::string_view cpuinfo) {
  std::istringstream lines{std::string(cpuinfo)};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line);
    return std::any_of(std::istream_iterator<std::string>(words), {}, [](const std::string& word) {
      return std::find(kFlags.begin(), kFlags.end(), word) != kFlags.end();
    });
  }
  return false;
}

}  // namespace temper
