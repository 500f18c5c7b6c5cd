// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace temper {

/// What a node's processors use, by the counters of its packages (RAPL), as Linux shows them.
/// Source: Linux, Documentation/power/powercap/powercap.rst.
class EnergyCounter {
 public:
  explicit EnergyCounter(const std::filesystem::path& powercap = "/sys/class/powercap");

  /// In joules, since the last call, or since this was made. Nothing where the node has no such
  /// counters or lets only root read them. A counter that has wrapped around once is understood.
  std::optional<double> take_joules();

 private:
  struct Package {
    std::filesystem::path counter;
    int64_t wraps_at;  // In microjoules, as what follows.
    int64_t last;
  };

  std::vector<Package> packages_;
};

}  // namespace temper
