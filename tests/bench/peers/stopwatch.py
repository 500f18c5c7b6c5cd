# SPDX-License-Identifier: Apache-2.0
"""Time since a moment, by the clock and of all processors."""

import resource
import time


class Stopwatch:
    def __init__(self) -> None:
        self._started, self._before = time.perf_counter(), cpu_seconds()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._started,
            "cpu_seconds": cpu_seconds() - self._before,
        }


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for, and they in turn."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)
