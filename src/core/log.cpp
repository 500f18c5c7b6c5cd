// SPDX-License-Identifier: Apache-2.0
#include "core/log.h"

#include <unistd.h>

#include <array>
#include <ctime>
#include <mutex>
#include <string_view>

#include "core/concat.h"

namespace temper {
namespace {

int log_rank = 0;
int log_world_size = 1;
bool is_status_drawn = false;
std::mutex terminal;  // Events may come from any thread.
constexpr const char* kEraseLine = "\r\033[K";

std::string time_of_day() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 16> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%H:%M:%S", &local);
  return {text.data(), length};
}

void write(std::string_view whole) {
  size_t done = 0;
  while (done < whole.size()) {
    const ssize_t count = ::write(STDERR_FILENO, whole.data() + done, whole.size() - done);
    if (count <= 0) return;  // Nowhere left to complain.
    done += static_cast<size_t>(count);
  }
}

// One write per line: lines of several ranks in one file never interleave within a line.
void write_line(const std::string& line) {
  const std::scoped_lock lock(terminal);
  write(concat(is_status_drawn ? "\n" : "", time_of_day(), ' ', line, '\n'));
  is_status_drawn = false;
}

void end_status(const char* how) {
  const std::scoped_lock lock(terminal);
  if (is_status_drawn) write(how);
  is_status_drawn = false;
}

}  // namespace

void set_log_rank(int rank, int world_size) {
  log_rank = rank;
  log_world_size = world_size;
}

bool shows_status() { return log_rank == 0 && ::isatty(STDERR_FILENO) == 1; }

void show_status(const std::string& line) {
  const std::scoped_lock lock(terminal);
  write(kEraseLine + line);
  is_status_drawn = true;
}

void keep_status() { end_status("\n"); }
void clear_status() { end_status(kEraseLine); }

void log_event(const std::string& line) {
  if (log_rank == 0) write_line(line);
}

void log_rank_event(const std::string& line) {
  write_line(log_world_size == 1 ? line : concat("rank=", log_rank, ' ', line));
}

}  // namespace temper
