// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/dtype.h"
#include "io/safetensors_header.h"

namespace temper {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

/// Where everything lies in a safetensors file that is going to be written: many processes may
/// write their parts at once, one of them the header.
///
/// The tensors lie back to back in the order given, from a multiple of kDataAlignment on: the JSON
/// is padded with spaces, which the format allows.
class SafetensorsLayout {
 public:
  static constexpr int64_t kDataAlignment = 4096;

  /// Throws: std::invalid_argument for two tensors of one name, or one of no whole bytes.
  explicit SafetensorsLayout(std::vector<TensorSpec> specs);

  /// The file's first bytes, up to the data of the first tensor.
  const std::string& header() const { return header_; }

  /// In the order given, with the bytes of each in the file.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }

  /// Of all tensors' data.
  int64_t data_bytes() const { return file_bytes() - static_cast<int64_t>(header_.size()); }
  int64_t file_bytes() const { return file_bytes_; }

 private:
  std::vector<SafetensorsTensor> tensors_;
  std::string header_;
  int64_t file_bytes_ = 0;
};

}  // namespace temper
