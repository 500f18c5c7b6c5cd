// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "app/findings.h"

namespace temper {

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
