# SPDX-License-Identifier: Apache-2.0
"""Files of one JSON object a line, which may be written at this moment. Needs Python alone."""

import json
from dataclasses import dataclass, field
from pathlib import Path

MAX_TOLD = 5  # numbers of lines in one message; arbitrary


@dataclass
class JsonLines:
    """The objects of a file, and the numbers of the lines that are none."""

    entries: list[dict] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)  # from 1

    def problem(self, name: str) -> str:
        """In words; empty if every line could be read."""
        if not self.torn:
            return ""
        shown = ", ".join(str(number) for number in self.torn[:MAX_TOLD])
        more = f" and {len(self.torn) - MAX_TOLD} more" if len(self.torn) > MAX_TOLD else ""
        lines = "line" if len(self.torn) == 1 else "lines"
        return f"{name}: {lines} {shown}{more} could not be read, and are left out"


def read_json_lines(path: Path) -> JsonLines:
    """A missing file has no lines. What a killed job left torn ends nothing. Raises OSError."""
    found = JsonLines()
    if not path.exists():
        return found
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            found.entries.append(entry)
        else:
            found.torn.append(number)
    return found
