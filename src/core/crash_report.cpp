// SPDX-License-Identifier: Apache-2.0
#include "core/crash_report.h"

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "core/launched_rank.h"

namespace temper {
namespace {

constexpr size_t kStackBytes = 65'536;  // A stack that overflowed cannot hold its own report.
constexpr int kMostFrames = 64;

volatile std::sig_atomic_t crash_rank = 0;
std::array<char, kStackBytes> report_stack;

// snprintf and backtrace are not promised to be safe here, but the process is lost anyway; the
// alarm ends it if they hang.
extern "C" void report_crash(int number) {
  ::alarm(5);
  std::array<char, 160> line{};
  std::array<char, 64> host{};
  ::gethostname(host.data(), host.size() - 1);
  const int length = std::snprintf(
      line.data(), line.size(), "rank=%d crash signal=%d name=\"%s\" node=%s process=%d stack:\n",
      static_cast<int>(crash_rank), number, ::strsignal(number), host.data(),
      static_cast<int>(::getpid()));
  if (::write(STDERR_FILENO, line.data(), static_cast<size_t>(length)) < 0) return;
  std::array<void*, kMostFrames> frames{};
  ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), kMostFrames), STDERR_FILENO);
  ::raise(number);  // Its default action is back.
}

}  // namespace

void install_crash_report() {
  crash_rank = launched_rank();
  std::array<void*, 1> frame{};
  ::backtrace(frame.data(), 1);  // Loads its library now, not in the crash.
  stack_t stack{};
  stack.ss_sp = report_stack.data();
  stack.ss_size = report_stack.size();
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = report_crash;
  action.sa_flags = static_cast<int>(SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    sigaction(number, &action, nullptr);
  }
}

}  // namespace temper
