// SPDX-License-Identifier: Apache-2.0
#include "app/findings.h"

#include <algorithm>

#include "core/error.h"

namespace temper {

void Findings::add(const std::vector<Problem>& problems) {
  problems_.insert(problems_.end(), problems.begin(), problems.end());
}

bool Findings::attempt(const std::function<void()>& part) {
  try {
    part();
    return true;
  } catch (const Error& error) {
    const Problem found{.what = error.problem(), .remedy = error.remedy(), .code = error.code()};
    // Several parts may stumble over the same file.
    const bool is_known =
        std::ranges::find(problems_, found.what, &Problem::what) != problems_.end();
    if (!is_known) problems_.push_back(found);
    return false;
  }
}

void Findings::throw_if_any() const {
  if (problems_.empty()) return;
  const Problem& first = problems_.front();
  if (problems_.size() == 1) throw Error(first.code, first.what, first.remedy);
  throw Error(first.code, to_text(problems_), "mend them all, then run temper check");
}

}  // namespace temper
