# SPDX-License-Identifier: Apache-2.0
"""Where texts that a model writes are to end, beside at its own tokens."""

from collections.abc import Sequence


def first_of(text: str, stops: Sequence[str]) -> int:
    """Where the first of these texts begins in `text`; -1 if none is there."""
    return min((place for stop in stops if stop and (place := text.find(stop)) >= 0), default=-1)


def cut_at(text: str, end: str, stops: Sequence[str]) -> tuple[str, str]:
    """The text before the first stop, and how it ends: as given, or by "stop"."""
    place = first_of(text, stops)
    return (text, end) if place < 0 else (text[:place], "stop")


def num_held(text: str, stops: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a stop that is still to come."""
    longest = max((len(stop) for stop in stops), default=0)
    for count in range(min(longest - 1, len(text)), 0, -1):
        if any(stop.startswith(text[-count:]) for stop in stops):
            return count
    return 0
