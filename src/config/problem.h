// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/exit_code.h"
#include "core/message_text.h"

namespace temper {

/// One thing that a user has to mend.
struct Problem {
  std::string what;
  std::string remedy;
  std::vector<std::string> keys = {};  ///< The options concerned, such as "train.epochs".
  ExitCode code = ExitCode::kConfiguration;
};

/// All problems as lines of text, `what` and below it `  try: remedy`; the first 40 if there are
/// more.
std::string to_text(const std::vector<Problem>& problems);

/// Throws: ConfigError with all problems, if there are any.
void throw_if_any(const std::vector<Problem>& problems);

/// The candidate that `name` is most likely a misspelling of; empty if none is near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

/// "a, b, c".
std::string joined(const std::vector<std::string>& parts);

}  // namespace temper
