// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace temper {

/// The bytes of a safetensors file: length, JSON, data.
inline std::string safetensors_bytes(const std::string& json, const std::string& data) {
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + json + data;
}

}  // namespace temper
