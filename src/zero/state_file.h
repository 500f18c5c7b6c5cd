// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

namespace temper {

/// Tensors in a file on a local disk, mapped into memory: for state that is touched once a step,
/// part by part, and need not lie in memory in between.
///
/// The file has no name, so that processes share a folder and a killed one leaves nothing: its
/// space is free when the process is gone. All of it is taken at the beginning.
class StateFile {
 public:
  /// Throws: LaunchError if the folder is none, cannot be written to, lies in memory or on a
  ///   network file system, or has not so much space.
  StateFile(const std::filesystem::path& folder, int64_t num_bytes);
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;
  ~StateFile();

  /// What the file takes for a tensor: it begins on a page's border.
  static int64_t bytes_of(int64_t num_elements, at::ScalarType dtype);

  /// Whether a tensor lies in it.
  bool has(const at::Tensor& tensor) const;

  /// A tensor of zeros in the file; it must not be used when this is gone.
  /// Throws: std::logic_error if that is more than was asked for at the beginning.
  at::Tensor take(int64_t num_elements, at::ScalarType dtype);

  /// Gives the memory of a part back; what was written to it stays, and comes back with the next
  /// use. Whole pages inside the part only.
  void release(const at::Tensor& part) const;

 private:
  int64_t num_bytes_;
  int64_t num_taken_ = 0;
  std::byte* data_ = nullptr;
};

}  // namespace temper
