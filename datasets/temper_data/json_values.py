# SPDX-License-Identifier: Apache-2.0
"""Cuts a file of JSON objects into them: one after another or in one array, on any lines."""

import re
from collections.abc import Iterator

from .errors import RecordRefusal

IN_STRING = re.compile(rb'"|\\.?', re.DOTALL)
IN_VALUE = re.compile(rb'["{}\[\]\n]')
BETWEEN = re.compile(rb'["{}\[\]\n]|\xef\xbb\xbf|[^\s,]')
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # where a file begins, and where one was put behind another


class JsonCutter:
    """Finds where objects begin and end; whether they are valid is for who parses them."""

    def __init__(self, max_bytes: int, too_large: RecordRefusal):
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._line = 1
        self._depth = 0  # open brackets
        self._base = 0  # of them around the objects: 1 inside an array, else 0
        self._in_string = False
        self._escaped = False  # The next byte is one that a backslash stands before.
        self._begin = 1  # line of the open value
        self._parts: list[bytes] = []
        self._held = 0
        self._stray = 0  # line of the first text between objects
        self._carry = b""  # the beginning of a byte order mark

    def cut(self, data: bytes) -> Iterator[tuple[int, bytes | RecordRefusal]]:
        """The objects that end in the next piece of the file, with the lines they begin at."""
        data, self._carry = self._carry + data, b""
        position = start = 0
        if self._escaped:
            position, self._escaped = 1, False
        while match := self._pattern().search(data, position):
            mark, position = match[0], match.end()
            if self._in_string:
                self._in_string = mark != b'"'
                self._escaped = mark == b"\\"
            elif mark == b"\n":
                self._line += 1
            elif mark in (b"{", b"["):
                if self._opens_value(mark):
                    start = match.start()
            elif mark in (b"}", b"]"):
                if self._closes_value():
                    self._hold(data[start:position])
                    yield self._take()
            elif self._depth > self._base:
                self._in_string = True
            elif BYTE_ORDER_MARK.startswith(data[match.start() : match.start() + 3]):
                self._carry = data[match.start() :] if mark != BYTE_ORDER_MARK else b""
                position = max(position, match.start() + 3)
            else:
                self._stray = self._stray or self._line
        if self._depth > self._base:
            self._hold(data[start:])

    def finish(self) -> Iterator[tuple[int, RecordRefusal]]:
        """What is wrong with the end of the file."""
        if self._depth > self._base:
            yield self._begin, RecordRefusal("invalid JSON", "the file ends inside a record")
        elif self._depth:
            yield self._line, RecordRefusal("invalid JSON", "the file ends inside its array")
        if self._stray or self._carry:
            self._stray = self._stray or self._line
            yield self._stray, RecordRefusal("invalid JSON", "text between the records")

    def _pattern(self) -> re.Pattern:
        if self._in_string:
            return IN_STRING
        return IN_VALUE if self._depth > self._base else BETWEEN

    def _opens_value(self, mark: bytes) -> bool:
        """Counts an opening bracket; True if a value begins with it."""
        self._depth += 1
        if self._depth == 1 and mark == b"[":
            self._base = 1
            return False
        if self._depth == self._base + 1:
            self._begin = self._line
            return True
        return False

    def _closes_value(self) -> bool:
        """Counts a closing bracket; True if a value ends with it."""
        if self._depth == 0:
            self._stray = self._stray or self._line
            return False
        self._depth -= 1
        if self._depth < self._base:
            self._base = 0
            return False
        return self._depth == self._base

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._held <= self._max_bytes:
            self._parts.append(part)

    def _take(self) -> tuple[int, bytes | RecordRefusal]:
        data = b"".join(self._parts) if self._held <= self._max_bytes else self._too_large
        self._parts, self._held = [], 0
        return self._begin, data
