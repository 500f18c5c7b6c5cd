// SPDX-License-Identifier: Apache-2.0
#include "config/warnings.h"

#include <algorithm>
#include <stdexcept>

#include "core/concat.h"

namespace temper {

const WarningKind& warning_kind(std::string_view name) {
  const auto* found = std::ranges::find(kWarningKinds, name, &WarningKind::name);
  if (found == kWarningKinds.end()) throw std::invalid_argument(concat("no warning ", name));
  return *found;
}

double highest_usual_rate(MethodOptions::Kind method, int64_t num_parameters) {
  const auto* bound = std::ranges::find(kRateBounds, method, &RateBound::method);
  if (bound == kRateBounds.end()) throw std::invalid_argument("a method without a bound of rates");
  return num_parameters >= kLargeModel ? bound->large_models : bound->small_models;
}

std::string warning_names() {
  std::vector<std::string> names;
  for (const WarningKind& kind : kWarningKinds) names.emplace_back(kind.name);
  return joined(names);
}

std::string warning_of(const RunConfig& config, std::string_view name, const std::string& text) {
  if (std::ranges::find(config.silence, name) != config.silence.end()) return {};
  const std::string reason = warning_kind(name).reason;
  return concat(name, ": ", text, reason.empty() ? "" : "; ", reason, " (silence: [", name, "])");
}

}  // namespace temper
