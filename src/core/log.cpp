// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"

#include <unistd.h>

#include <array>
#include <ctime>

#include "core/concat.h"

namespace temper {
namespace {

int log_rank = 0;
int log_world_size = 1;

std::string time_of_day() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 16> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%H:%M:%S", &local);
  return {text.data(), length};
}

// One write per line: lines of several ranks in one file never interleave within a line.
void write_line(const std::string& line) {
  const std::string whole = concat(time_of_day(), ' ', line, '\n');
  size_t done = 0;
  while (done < whole.size()) {
    const ssize_t count = ::write(STDERR_FILENO, whole.data() + done, whole.size() - done);
    if (count <= 0) return;  // Nowhere left to complain.
    done += static_cast<size_t>(count);
  }
}

}  // namespace

void set_log_rank(int rank, int world_size) {
  log_rank = rank;
  log_world_size = world_size;
}

void log_event(const std::string& line) {
  if (log_rank == 0) write_line(line);
}

void log_rank_event(const std::string& line) {
  write_line(log_world_size == 1 ? line : concat("rank=", log_rank, ' ', line));
}

}  // namespace temper
