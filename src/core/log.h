// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace temper {

/// Tells the log which rank this process is; until then it is rank 0 of 1.
void set_log_rank(int rank, int world_size);

/// One event, one whole line, written by rank 0 alone: `12:03:44 event key=value ...`.
void log_event(const std::string& line);

/// Whether rank 0's log is a terminal, where a person sees how far things are.
bool shows_status();

/// Draws a line on the terminal in place of the one drawn before. An event begins on a fresh line.
void show_status(const std::string& line);

/// The line that is drawn stays as it is, or goes.
void keep_status();
void clear_status();

/// One event that concerns this rank alone, written by whichever rank has it, with its number.
void log_rank_event(const std::string& line);

}  // namespace temper
