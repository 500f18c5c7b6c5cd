// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <mutex>
#include <string>
#include <vector>

namespace temper::testing {

/// Copies that the host did not wait for. They may be made as late as when it next waits for the
/// device: until then what is copied must not change, and what was copied to the host is not there.
class LateCopies {
 public:
  static LateCopies& own();

  /// A copy from pinned memory. Shapes: source, of the host.
  void from_host(const at::Tensor& source);

  /// A copy of `contents` to pinned memory, which has no number until the host waits.
  void to_host(const at::Tensor& contents, const at::Tensor& destination);

  /// The host waits, and the wait is counted: all copies are over.
  /// Throws: std::logic_error, if something was changed while it was copied.
  void wait(const std::string& reason);

 private:
  struct Copy {
    at::Tensor from, to;  // Both of the host; for a copy from it, `to` is what it was then.
    bool is_to_host;
  };

  std::mutex mutex_;
  std::vector<Copy> copies_;
};

}  // namespace temper::testing
