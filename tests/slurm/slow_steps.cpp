// SPDX-License-Identifier: Apache-2.0
// To be preloaded: as long as a file `slow` lies beside the run's folder, each step takes as many
// seconds as it says, or more, since its line of metrics does; but not the first ones of a launch,
// whose number the file says, too. So a run comes soon to where a test disturbs it, the test has
// time for that on any machine, and a run that is left alone comes to its end soon.
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

namespace {

void pause_before(const char* path) {
  const std::filesystem::path file(path);
  if (file.filename() != "metrics.jsonl") return;
  static int num_steps = 0;
  double seconds = 0.0;
  int num_quick = 0;
  std::ifstream(file.parent_path() / ".." / "slow") >> seconds >> num_quick;
  if (++num_steps <= num_quick) return;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

}  // namespace

// As libstdc++ opens files.
extern "C" FILE* fopen64(const char* path, const char* mode) {
  static const auto next =
      reinterpret_cast<FILE* (*)(const char*, const char*)>(::dlsym(RTLD_NEXT, "fopen64"));
  pause_before(path);
  return next(path, mode);
}
