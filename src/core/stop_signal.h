// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/error.h"

namespace temper {

/// From now on SIGTERM, SIGUSR1 and SIGUSR2 only ask for a stop: the training loop finishes the
/// step or the evaluation's micro-batch under way, saves, and ends with ExitCode::kResume. One that
/// came before is forgotten.
void install_stop_signals();

/// The signal that asked for a stop, or 0.
int stop_signal();

/// A signal asked for a stop while this process only waited, say for storage: nothing is lost, and
/// the same command does the same later.
class StopRequest : public Error {
 public:
  StopRequest(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kResume, problem, remedy) {}
};

/// What a wait calls now and then. `waited_for` completes "a signal asked for a stop while waiting
/// for ...". Throws: StopRequest if a signal has asked for a stop.
void end_wait_if_asked(const std::string& waited_for);

/// Throws StopRequest, for ranks that wait together and one of which got the signal.
[[noreturn]] void end_wait(const std::string& waited_for);

}  // namespace temper
