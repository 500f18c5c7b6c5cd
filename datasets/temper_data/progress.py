# SPDX-License-Identifier: Apache-2.0
"""Says how far a long task is: one redrawn line on a terminal, whole lines in a file."""

import sys
import time
from typing import TextIO

TERMINAL_SECONDS = 0.2
FILE_SECONDS = 10.0


class Progress:
    """Measures by source bytes, which are known beforehand."""

    def __init__(self, total_bytes: int, stream: TextIO = sys.stderr):
        self.total_bytes = total_bytes
        self._done_bytes = 0
        self.documents = self.tokens = 0  # so far
        self._stream = stream
        self._redraws = stream.isatty()
        self._started = self._shown = time.monotonic()
        self._width = 0

    def restarted(self, total_bytes: int) -> "Progress":
        """Of another pass over so many bytes, shown in the same place."""
        return Progress(total_bytes, self._stream)

    def share(self) -> float:
        """Of the source bytes that are done."""
        return self._done_bytes / max(1, self.total_bytes)

    def advance(self, source_bytes: int, documents: int, tokens: int) -> None:
        """So many source bytes, and the documents and tokens that came of them, are done."""
        self._done_bytes += source_bytes
        self.documents += documents
        self.tokens += tokens
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._redraws else FILE_SECONDS):
            return
        self._shown = now
        self._show(self._line(now - self._started))

    def finish(self) -> None:
        """Leaves the redrawn line clean."""
        if self._redraws and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def _line(self, seconds: float) -> str:
        share = self.share()
        left = seconds * (1 - share) / share if share > 0 else 0
        return (
            f"{100 * share:5.1f} % of {self.total_bytes / 1e6:.1f} MB, {self.documents} documents, "
            f"{self.tokens} tokens, {self.tokens / max(seconds, 1e-9):.0f} tokens/s, "
            f"{clock_time(left)} left"
        )

    def _show(self, line: str) -> None:
        if self._redraws:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = max(self._width, len(line))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def clock_time(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
