// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace temper {

/// A small file, whole.
struct TextFile {
  std::string path;  ///< Below the folder in question, with `/`.
  std::string text;
};

}  // namespace temper
