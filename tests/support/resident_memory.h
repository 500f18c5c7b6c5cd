// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

namespace temper::testing {

/// What this process has in memory of files that are mapped into it, in bytes.
inline int64_t resident_file_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return std::stoll(line.substr(8)) * 1024;
  }
  throw std::runtime_error("/proc/self/status has no RssFile");
}

}  // namespace temper::testing
