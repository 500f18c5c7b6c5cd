// SPDX-License-Identifier: Apache-2.0
#include "core/stop_signal.h"

#include <csignal>

namespace temper {
namespace {

volatile std::sig_atomic_t requested = 0;

extern "C" void remember_signal(int number) { requested = number; }

}  // namespace

void install_stop_signals() {
  requested = 0;
  struct sigaction action {};
  action.sa_handler = remember_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGTERM, SIGUSR1, SIGUSR2}) sigaction(number, &action, nullptr);
}

int stop_signal() { return requested; }

void end_wait_if_asked(const std::string& waited_for) {
  if (requested != 0) end_wait(waited_for);
}

void end_wait(const std::string& waited_for) {
  throw StopRequest("a signal asked for a stop while waiting for " + waited_for,
                    "start the same command again");
}

}  // namespace temper
