// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/range.h"
#include "io/dtype.h"
#include "io/json.h"

namespace temper {

/// One tensor of a safetensors file.
struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  ///< Empty: a scalar. A 0 in it: no elements.
  Range bytes;                 ///< Where its data lies, from the beginning of the file.

  int64_t num_elements() const;
};

/// What the header of a safetensors file says.
struct SafetensorsHeader {
  static constexpr int64_t kPrefixBytes = 8;           ///< The length of the JSON, little-endian.
  static constexpr int64_t kMaxJsonBytes = 100000000;  ///< The reference implementation's limit.

  std::vector<SafetensorsTensor> tensors;  ///< In the order of their data.
  std::map<std::string, std::string> metadata;
};

/// The length of the JSON, from the file's first 8 bytes.
/// Throws: the Error of `origin.purpose` if it is too big or does not fit into the file.
int64_t safetensors_json_bytes(std::string_view prefix, int64_t file_bytes,
                               const JsonOrigin& origin);

/// Parses the JSON of a file of `file_bytes` bytes and makes all checks of the reference
/// implementation: the data of all tensors covers the rest of the file without hole or overlap, and
/// each has the size that its shape and dtype ask for.
/// Throws: the Error of `origin.purpose`.
SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t file_bytes,
                                           const JsonOrigin& origin);

}  // namespace temper
