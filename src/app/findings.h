// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
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

/// What `temper check` found: facts for people, and everything that is wrong.
class CheckReport : public Findings {
 public:
  /// A line of the summary.
  void add_fact(const std::string& topic, const std::string& text);

  /// The facts to standard output with `ok`, or the problems to standard error. Returns the exit
  /// code: that of the first problem.
  int print() const;

 private:
  std::string facts_;
};

}  // namespace temper
