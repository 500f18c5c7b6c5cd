// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// From now on SIGTERM, SIGUSR1 and SIGUSR2 only ask for a stop: the training loop finishes the
/// step or the evaluation's micro-batch under way, saves, and ends with ExitCode::kResume.
void install_stop_signals();

/// The signal that asked for a stop, or 0.
int stop_signal();

}  // namespace temper
