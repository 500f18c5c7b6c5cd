# SPDX-License-Identifier: Apache-2.0
"""Reads typed values from a strict YAML tree and collects all problems instead of stopping."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .errors import DataError, is_unicode, printable
from .yaml_tree import Listing, Mapping, Scalar, override, read_tree

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
Options = TypeVar("Options")


@dataclass
class Section:
    """A map of the recipe. Each read marks its key as known; `finish` reports the others."""

    tree: Mapping
    problems: list[str]
    prefix: str = ""
    known: list[str] = field(default_factory=list)

    def text(self, key: str, default: str | None = None, choices: tuple[str, ...] = ()) -> str:
        """A string; without a default the key is required."""
        scalar = self._scalar(key, default is None)
        if scalar is None:
            return default or ""
        if choices and scalar.text not in choices:
            self._complain(key, scalar, f"one of: {', '.join(choices)}")
        if not is_unicode(scalar.text):
            self._complain(key, scalar, "text of whole characters, in UTF-8")
        return scalar.text

    def path(self, key: str) -> str:
        """A required name of a file or folder, of any bytes that the system allows."""
        scalar = self._scalar(key, True)
        if scalar is None:
            return ""
        if not scalar.text or "\0" in scalar.text:
            self._complain(key, scalar, "a path")
        return scalar.text

    def integer(self, key: str, default: int, minimum: int, maximum: int = 1 << 40) -> int:
        scalar = self._scalar(key, False)
        if scalar is None:
            return default
        if not scalar.quoted and INTEGER.fullmatch(scalar.text):
            if minimum <= int(scalar.text) <= maximum:
                return int(scalar.text)
        self._complain(key, scalar, f"a whole number from {minimum} to {maximum}")
        return default

    def fraction(self, key: str, default: float) -> float:
        return self.number(key, default, 0, 1)

    def number(self, key: str, default: float, minimum: float, maximum: float) -> float:
        scalar = self._scalar(key, False)
        if scalar is None:
            return default
        if not scalar.quoted and NUMBER.fullmatch(scalar.text):
            if minimum <= float(scalar.text) <= maximum:
                return float(scalar.text)
        self._complain(key, scalar, f"a number from {minimum} to {maximum}")
        return default

    def texts(
        self, key: str, default: tuple[str, ...] = (), choices: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """A list of strings that are not empty."""
        self.known.append(key)
        value = self.tree.items.get(key)
        if value is None:
            return default
        if not isinstance(value, Listing):
            self._complain(key, value, "a list, such as [a, b]")
            return default
        for number, item in enumerate(value.items):
            name = f"{key}.{number}"
            if not isinstance(item, Scalar) or not item.text or not is_unicode(item.text):
                self._complain(name, item, "a text")
            elif choices and item.text not in choices:
                self._complain(name, item, f"one of: {', '.join(choices)}")
        return tuple(item.text for item in value.items if isinstance(item, Scalar))

    def boolean(self, key: str, default: bool) -> bool:
        scalar = self._scalar(key, False)
        if scalar is None:
            return default
        if scalar.quoted or scalar.text not in ("true", "false"):
            self._complain(key, scalar, "true or false")
        return scalar.text == "true"

    def has(self, key: str) -> bool:
        return key in self.tree.items

    def section(self, key: str) -> "Section":
        """The map under `key`; an empty one if it is absent."""
        self.known.append(key)
        value = self.tree.items.get(key, Mapping())
        if not isinstance(value, Mapping):
            self._complain(key, value, "a map of keys")
            value = Mapping()
        return Section(value, self.problems, f"{self.prefix}{key}.")

    def sections(self, key: str) -> list["Section"]:
        """The maps of the list under `key`, which is required and not empty."""
        self.known.append(key)
        value = self.tree.items.get(key)
        if not isinstance(value, Listing) or not value.items:
            self._complain(key, value, "a list with at least one entry")
            return []
        found = []
        for number, item in enumerate(value.items):
            if isinstance(item, Mapping):
                found.append(Section(item, self.problems, f"{self.prefix}{key}.{number}."))
            else:
                self._complain(f"{key}.{number}", item, "a map of keys")
        return found

    def finish(self) -> None:
        """Reports keys that nobody asked for, with the nearest that exists."""
        for key, value in self.tree.items.items():
            if key in self.known:
                continue
            near = difflib.get_close_matches(key, self.known, 1, 0.6)
            wanted = f"did you mean {near[0]}?" if near else f"one of: {', '.join(self.known)}"
            self.problems.append(
                f"{self.prefix}{key} ({value.place}) is not an option\n  try: {wanted}"
            )

    def reject(self, key: str, problem: str, remedy: str) -> None:
        """Reports a problem that the caller found with the value of `key`."""
        value = self.tree.items.get(key)
        place = f" ({value.place})" if value is not None else ""
        self.problems.append(f"{self.prefix}{key}{place} {problem}\n  try: {remedy}")

    def _scalar(self, key: str, required: bool) -> Scalar | None:
        self.known.append(key)
        value = self.tree.items.get(key)
        if value is None:
            if required:
                self.reject(key, "is missing", "add it")
            return None
        if not isinstance(value, Scalar):
            self._complain(key, value, "a single value")
            return None
        return value

    def _complain(self, key: str, value, wanted: str) -> None:
        if value is None:
            self.problems.append(f"{self.prefix}{key} is missing\n  try: set it to {wanted}")
            return
        found = f"'{printable(value.text)}'" if isinstance(value, Scalar) else "a list or map"
        self.problems.append(
            f"{self.prefix}{key} ({value.place}) is {found}\n  try: set it to {wanted}"
        )


def read_sections(
    path: Path, assignments: list[str], parse: Callable[[Section], Options], remedy: str
) -> Options:
    """Reads a file and applies `key=value`. Raises DataError with every problem."""
    tree = read_tree(path)
    for assignment in assignments:
        override(tree, assignment)
    problems: list[str] = []
    options = parse(Section(tree, problems))
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise DataError(f"{path}: {count}\n" + "\n".join(problems), remedy)
    return options
