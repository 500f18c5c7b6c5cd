// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "app/commands.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/peft/merge.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {

int run_merge(const std::vector<std::string>& paths, bool undoes) {
  const size_t num_wanted = undoes ? 2 : 3;
  if (paths.size() != num_wanted) {
    throw ConfigError(concat("temper merge got ", paths.size(), " paths, wanted ", num_wanted),
                      "write temper merge BASE ADAPTER DESTINATION, or temper merge --undo MERGED "
                      "DESTINATION");
  }
  require_new_folder(paths.back());
  if (undoes) {
    restore_base(paths[0], paths[1]);
    std::printf("restored base of=%s to=%s\n", paths[0].c_str(), paths[1].c_str());
    return 0;
  }
  const ModelFolder base(paths[0]);
  merge_adapter(base, AdapterFolder(paths[1], base), paths[2]);
  std::printf("merged=%s adapter=%s to=%s\n", paths[0].c_str(), paths[1].c_str(), paths[2].c_str());
  return 0;
}

}  // namespace temper
