// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace temper::testing {

/// What a program has asked of the simulated device so far, or between two points of it.
struct DeviceCounts {
  int64_t launches = 0;    ///< Kernels: operators that are neither views nor copies.
  int64_t copies_in = 0;   ///< From the host.
  int64_t copies_out = 0;  ///< To the host.
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  int64_t waits = 0;        ///< Times that the host has waited for the device.
  int64_t allocations = 0;  ///< Pieces of memory that no freed one could serve.
  std::map<std::string, int64_t> by_operator = {};  ///< Launches, and waits as "wait: ...".

  DeviceCounts since(const DeviceCounts& before) const;
};

/// Those of this process. May be called from any thread.
DeviceCounts device_counts();

/// How the backend counts.
void count_launch(const std::string& name);
void count_wait(const std::string& reason);
void count_copy_in(int64_t bytes);
void count_copy_out(int64_t bytes);
void count_allocation();

}  // namespace temper::testing
