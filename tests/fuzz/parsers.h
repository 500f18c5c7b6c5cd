// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/temporary_folder.h"

namespace temper {

using Seeds = std::vector<std::string>;

/// A parser as a fuzz target. Whatever the bytes: it returns what they say, or throws one of
/// temper's own errors. What it returns is written and read again where there is a writer, and must
/// come out the same: nothing is lost in silence.
struct Parser {
  std::string_view name;
  std::function<void(const std::string& bytes)> parse;
  std::function<Seeds()> seeds;
};

/// Of the files that hold numbers, and that a run leaves behind.
std::vector<Parser> data_parsers();

/// Of what says how a model, an adapter or a run is to be.
std::vector<Parser> configuration_parsers();

/// Where parsers that open files find them.
inline const TemporaryFolder& folder() {
  static const TemporaryFolder folder;
  return folder;
}

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace temper
