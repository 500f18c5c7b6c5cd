// SPDX-License-Identifier: Apache-2.0
// usage: pattern_probe < lines
//
// The first line has texts, apart by spaces, and each other one a pattern. Writes a line for each
// pattern: for each text 1 or 0 for whether it fits the whole, and the same for an end of the text;
// or the message that refuses the pattern.
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/adapter/module_pattern.h"

int main() {
  std::string line, text;
  std::getline(std::cin, line);
  std::istringstream words(line);
  std::vector<std::string> texts;
  while (words >> text) texts.push_back(text);
  while (std::getline(std::cin, line)) {
    try {
      const temper::ModulePattern pattern(line, "option");
      std::string found;
      for (const std::string& one : texts) found += pattern.fits(one) ? '1' : '0';
      for (const std::string& one : texts) found += pattern.fits_end_of(one) ? '1' : '0';
      std::cout << found << '\n';
    } catch (const temper::ConfigError& error) {
      std::cout << error.problem() << '\n';
    }
  }
  return 0;
}
