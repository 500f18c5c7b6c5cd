// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// From now on a crash (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) writes which rank crashed and its
/// stack to standard error; the process then ends by that signal, as without it.
void install_crash_report();

}  // namespace temper
