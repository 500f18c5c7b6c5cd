// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>

namespace temper::testing {

/// Seconds of processor time since it was made: what the machine does beside does not count.
class ProcessorTime {
 public:
  double seconds() const { return static_cast<double>(std::clock() - start_) / CLOCKS_PER_SEC; }

 private:
  std::clock_t start_ = std::clock();
};

/// Refusing a file takes at most a second; sanitizers take longer.
inline constexpr double kMostSeconds = 5.0;

}  // namespace temper::testing
