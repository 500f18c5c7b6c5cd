// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "config/problem.h"

namespace temper {

/// Everything that checks found to be wrong.
class Findings {
 public:
  void add(const std::vector<Problem>& problems);

  /// Does a part of the checks. An Error that it throws becomes a problem; returns whether there
  /// was none.
  bool attempt(const std::function<void()>& part);

  const std::vector<Problem>& problems() const { return problems_; }

  /// Throws: Error with all problems and the exit code of the first, if there are any.
  void throw_if_any() const;

 private:
  std::vector<Problem> problems_;
};

}  // namespace temper
