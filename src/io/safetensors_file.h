// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/file.h"
#include "io/safetensors_header.h"

namespace temper {

/// A safetensors file that is open for reading; the header is checked as a whole, the data is read
/// where and when asked. May be used from many threads.
///
/// Throws: the Error of `purpose`.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path path, FilePurpose purpose = FilePurpose::kModel);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  /// In the order of their data.
  const std::vector<SafetensorsTensor>& tensors() const { return header_.tensors; }

  /// nullptr if there is no such tensor.
  const SafetensorsTensor* find(std::string_view name) const;

  /// Fills `bytes` from byte `offset` of the file on.
  void read(int64_t offset, std::span<std::byte> bytes) const { file_.read(offset, bytes); }

  /// Copies any number of bytes to another file from `offset` on.
  void copy(Range bytes, const File& to, int64_t offset) const {
    copy_bytes(file_, bytes, to, offset);
  }

  /// Reads a part of a tensor as fp32, with a small buffer for other dtypes.
  /// Shapes: `elements` of the flat tensor, floats [elements.size()].
  void read_floats(const SafetensorsTensor& tensor, Range elements, std::span<float> floats) const;

 private:
  File file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, size_t> index_;  // Name to its place in header_.tensors.
};

}  // namespace temper
