# SPDX-License-Identifier: Apache-2.0
"""The one kind of error that a user can act on, and the refusal of a single record."""

MAX_QUOTED = 300  # characters of the input in one message; arbitrary


class DataError(Exception):
    """A failure of the user's input or machine: the problem, then what to try.

    Both are plain strings, so that the error survives the way back from a worker process.
    """

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  try: {self.remedy}"


class RecordRefusal(Exception):
    """A record that is dropped: `reason` is what is counted, `detail` says more."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = printable(detail)


def printable(text: str, limit: int = MAX_QUOTED) -> str:
    """`text` on one short line that every encoding of Unicode can hold: no half surrogate pairs,
    no line breaks, no control characters."""
    short = text if len(text) <= limit else text[:limit] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def is_unicode(text: str) -> bool:
    """Whether `text` has no half of a surrogate pair, which UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
        return True
    except UnicodeEncodeError:
        return False
