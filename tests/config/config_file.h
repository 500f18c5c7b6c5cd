// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"

namespace temper::testing {

/// A configuration file that lives as long as this object.
class ConfigFile {
 public:
  explicit ConfigFile(std::string_view content) {
    std::string name = (std::filesystem::temp_directory_path() / "temper_config_XXXXXX").string();
    const int descriptor = ::mkstemp(name.data());
    if (descriptor < 0) throw std::runtime_error("no temporary file");
    ::close(descriptor);
    path_ = name;
    std::ofstream(path_, std::ios::binary) << content;
  }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  ~ConfigFile() { std::filesystem::remove(path_); }

  const std::string& path() const { return path_; }

  /// All problems of the file, as one text, with CONFIG in the place of its path.
  std::string problems(const std::vector<std::string>& overrides = {}) const {
    std::vector<Problem> found = read_run_config(path_, overrides).problems;
    for (Problem& problem : found) problem.what.replace(0, path_.size(), "CONFIG");
    return to_text(found);
  }

 private:
  std::string path_;
};

/// A whole configuration without any problem.
inline const std::string kValid =
    "run:\n"
    "  folder: runs/test\n"
    "model:\n"
    "  path: model\n"
    "data:\n"
    "  train:\n"
    "    - path: shard.h5\n"
    "  global_batch: 8\n"
    "  micro_batch: 2\n"
    "train:\n"
    "  max_steps: 10\n";

}  // namespace temper::testing
