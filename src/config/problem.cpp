// SPDX-License-Identifier: Apache-2.0
#include "config/problem.h"

#include <algorithm>
#include <utility>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr size_t kMostShown = 40;
constexpr size_t kLongestName = 64;  // Longer ones are no misspellings.

// The number of insertions, deletions, substitutions and swaps of neighbours between two names.
// Source: Damerau, "A technique for computer detection and correction of spelling errors", 1964, in
//   the form that edits no substring twice.
size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::vector<size_t>> cost(from.size() + 1, std::vector<size_t>(to.size() + 1));
  for (size_t i = 0; i <= from.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= to.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= from.size(); ++i) {
    for (size_t j = 1; j <= to.size(); ++j) {
      const size_t change = from[i - 1] == to[j - 1] ? 0 : 1;
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[from.size()][to.size()];
}

}  // namespace

std::string to_text(const std::vector<Problem>& problems) {
  std::string text;
  for (size_t i = 0; i < std::min(problems.size(), kMostShown); ++i) {
    if (i > 0) text += '\n';
    text += concat(problems[i].what, "\n  try: ", problems[i].remedy);
  }
  if (problems.size() > kMostShown) {
    text += concat("\nand ", problems.size() - kMostShown, " more problems");
  }
  return text;
}

void throw_if_any(const std::vector<Problem>& problems) {
  if (problems.empty()) return;
  if (problems.size() == 1) throw ConfigError(problems[0].what, problems[0].remedy);
  throw ConfigError(to_text(problems), "mend them all, then run temper check");
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  if (name.size() > kLongestName) return "";
  std::string nearest;
  size_t least = std::max<size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance >= least) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += text.empty() ? part : ", " + part;
  return text;
}

}  // namespace temper
