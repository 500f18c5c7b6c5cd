// SPDX-License-Identifier: Apache-2.0
#include "train/stop_signal.h"

#include <csignal>

namespace temper {
namespace {

volatile std::sig_atomic_t requested = 0;

extern "C" void remember_signal(int number) { requested = number; }

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = remember_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGTERM, SIGUSR1, SIGUSR2}) sigaction(number, &action, nullptr);
}

int stop_signal() { return requested; }

}  // namespace temper
