// SPDX-License-Identifier: Apache-2.0
#include "core/energy_counter.h"

#include <fstream>
#include <string>
#include <system_error>

namespace temper {
namespace {
namespace fs = std::filesystem;

constexpr double kJoulesPerMicrojoule = 1e-6;

template <typename T>
std::optional<T> read(const fs::path& file) {
  std::ifstream text(file);
  T value{};
  return text >> value ? std::optional<T>(value) : std::nullopt;
}

}  // namespace

// A package's zone has those of its parts in it, which are not counted twice.
EnergyCounter::EnergyCounter(const fs::path& powercap) {
  std::error_code none;
  for (const fs::directory_entry& zone : fs::directory_iterator(powercap, none)) {
    const auto name = read<std::string>(zone.path() / "name");
    if (!name || !name->starts_with("package-")) continue;
    const auto last = read<int64_t>(zone.path() / "energy_uj");
    const auto wraps_at = read<int64_t>(zone.path() / "max_energy_range_uj");
    if (last && wraps_at) packages_.push_back({zone.path() / "energy_uj", *wraps_at, *last});
  }
}

std::optional<double> EnergyCounter::take_joules() {
  if (packages_.empty()) return {};
  int64_t microjoules = 0;
  for (Package& package : packages_) {
    const auto now = read<int64_t>(package.counter);
    if (!now) return {};
    microjoules += *now - package.last + (*now < package.last ? package.wraps_at : 0);
    package.last = *now;
  }
  return kJoulesPerMicrojoule * static_cast<double>(microjoules);
}

}  // namespace temper
