# SPDX-License-Identifier: Apache-2.0
"""What the filters did: counts, shares and examples, gathered by record, batch and preparation."""

from collections import Counter
from dataclasses import dataclass, field

from ..errors import RecordRefusal, printable

MAX_SHOWN = 160  # characters of a text in an example; arbitrary
MAX_LINES = 20  # of those that many documents have
REPEATED_LINES = "repeated lines removed"
MAX_EXAMPLES = 10  # for each filter; the counts are always exact


class FilterRefusal(RecordRefusal):
    """A record that a filter drops, with the beginning of the text that fell."""

    def __init__(self, reason: str, why: str, text: str = ""):
        super().__init__(reason, f"{why}: {shorten(text)}" if text else why)


@dataclass
class Findings:
    """Of one record, of one batch, or of all that was prepared."""

    examined: int = 0  # records that reached the filters
    dropped: Counter = field(default_factory=Counter)  # [reason] records
    texts: Counter = field(default_factory=Counter)  # [change] texts in which something was found
    changes: Counter = field(default_factory=Counter)  # [change] places in these texts
    examples: dict[str, list[str]] = field(default_factory=dict)  # [reason or change]
    lines: dict[str, int] = field(default_factory=dict)  # [removed line] documents that have it

    def is_empty(self) -> bool:
        """Whether there is nothing to say, as of most records."""
        return not self.dropped and not self.texts

    def add_change(self, name: str, changes: int, example: str = "") -> None:
        """Counts one text with so many changes."""
        self.texts[name] += 1
        self.changes[name] += changes
        if example:
            self.add_example(name, example)

    def add_lines(self, lines: dict[str, int]) -> None:
        """Lines that many documents have; remembers those that most have."""
        if not lines:
            return
        shown = self.lines | {shorten(line): count for line, count in lines.items()}
        most = sorted(shown.items(), key=lambda item: (-item[1], item[0]))[:MAX_LINES]
        self.lines = dict(most)

    def add_example(self, name: str, example: str) -> None:
        listed = self.examples.setdefault(name, [])
        if len(listed) < MAX_EXAMPLES:
            listed.append(example)

    def add(self, other: "Findings", place: str = "") -> None:
        """Adds what another part found; `place` is put before its examples."""
        self.examined += other.examined
        if other.is_empty():
            return
        self.add_lines(other.lines)
        self.dropped.update(other.dropped)
        self.texts.update(other.texts)
        self.changes.update(other.changes)
        for name, listed in other.examples.items():
            for example in listed:
                self.add_example(name, f"{place}: {example}" if place else example)

    def report(self) -> dict:
        """As JSON values: what was dropped and changed by each filter, with its share."""
        dropped = {name: {"documents": count} for name, count in self.dropped.items()}
        changed = {
            name: {"texts": count, "changes": self.changes[name]}
            for name, count in self.texts.items()
        }
        for name, entry in dropped.items():
            entry["share"] = round(entry["documents"] / self.examined, 6)
        for name, entry in (dropped | changed).items():
            entry["examples"] = self.examples.get(name, [])
        report = {"examined": self.examined, "dropped": dropped, "found": changed}
        if self.lines:
            entry = changed[REPEATED_LINES]
            entry["share"] = round(entry["texts"] / self.examined, 6)
            entry["lines"] = [{"line": line, "documents": n} for line, n in self.lines.items()]
        return report

    def notes(self) -> list[str]:
        """One line for each kind of change, for the summary."""
        return [
            f"filters: {name}: {self.changes[name]} in {count} texts"
            for name, count in sorted(self.texts.items())
        ]


def shorten(text: str) -> str:
    """The beginning of a text, on one line."""
    return printable(" ".join(text[: 2 * MAX_SHOWN].split()), MAX_SHOWN)


def show_change(before: str, after: str) -> str:
    """The first place at which two texts differ, as it was and as it is."""
    pairs = enumerate(zip(before, after, strict=False))
    at = next((i for i, (old, new) in pairs if old != new), min(len(before), len(after)))
    begin = max(0, at - 20)
    parts = [printable(text[begin : begin + MAX_SHOWN // 2]) for text in (before, after)]
    return " -> ".join(f'"{part}"' for part in parts)
