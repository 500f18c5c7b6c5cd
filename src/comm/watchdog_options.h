// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// How long ranks may be out of reach, or all of them without progress. 0: for ever.
struct WatchdogOptions {
  double silence_seconds = 60.0;   ///< A rank sends a sign of life each second.
  double stall_seconds = 1'800.0;  ///< No rank began or ended a collective: longer than any load.
  int most_watched_by_one = 256;   ///< With more ranks, leaders of groups watch for rank 0.
};

}  // namespace temper
