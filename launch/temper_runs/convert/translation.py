# SPDX-License-Identifier: Apache-2.0
"""What a translation has come to: our keys, and for each of theirs what became of it."""

import re
from dataclasses import dataclass, field

from temper_data.errors import DataError, printable


@dataclass
class Translation:
    """Work in progress. Each of their keys ends in `done` or in `left`, or in both by parts."""

    source: dict  # theirs, without what is null
    config: dict[str, object] = field(default_factory=dict)  # key.path: value
    recipe: dict[str, object] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)  # their key: ours
    left: dict[str, str] = field(default_factory=dict)  # their key: why
    notes: list[str] = field(default_factory=list)  # what is to be done by hand

    def put(self, key: str, ours: str, value) -> None:
        """`key` is theirs; "" for a default of theirs that the file does not write."""
        self.config[ours] = value
        if key:
            self.done[key] = ours

    def leave(self, key: str, why: str) -> None:
        if key in self.source:
            self.left[key] = why

    def has(self, key: str) -> bool:
        return key in self.source

    def number(self, key: str, default: float | None = None) -> float | None:
        """Raises DataError."""
        value = self.source.get(key, default)
        return None if value is None else to_number(key, value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Raises DataError."""
        return to_flag(key, self.source.get(key, default))

    def names(self, key: str) -> list[str]:
        """A list, or a text with commas."""
        value = self.source.get(key, [])
        items = value if isinstance(value, list) else str(value).split(",")
        return [str(item).strip() for item in items if str(item).strip()]


def to_number(key: str, value) -> float | int:
    """YAML's `1e-4` is a text to Python's reader. Raises DataError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?", value):
        return float(value)
    raise DataError(f"{key} is {printable(repr(value), 60)}, wanted a number", "correct the file")


def to_flag(key: str, value) -> bool:
    """Raises DataError."""
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise DataError(f"{key} is {printable(repr(value), 60)}, wanted true or false", "correct it")


def whole(value: float) -> float | int:
    """4, not 4.0, where that is the same."""
    return int(value) if float(value).is_integer() else value
