# SPDX-License-Identifier: Apache-2.0
"""Gives classes their shares of the training tokens, and says what came of it.

What a class has too much of is left out, in the order of a hash of the documents' tokens, so that
the choice depends on neither their order nor the number of processes.
"""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from .balance import Balance, shares_of, times_each, wanted_tokens
from .document_spool import DocumentSpool
from .errors import printable
from .recipe import Recipe

BEYOND_SHARE = "more than its class's share"
MAX_STATED = 50  # classes of a source that a shard names
TOLERANCE = 0.01  # of a class's share, that it may miss without a note


class BalancedClasses:
    """Looks through the documents of a finished spool, those of one source, or of all, at once."""

    def __init__(self, spool: DocumentSpool, recipe: Recipe):
        self.spool = spool
        self.names = list(spool.classes)
        self.groups = recipe.balanced_groups()
        self.report: list[dict] = []

    def balance(self, training: np.ndarray) -> np.ndarray:
        """How many times each document is there. Fills `report`.

        Shapes: training bool [documents]; result int64 [documents].
        """
        rows, times = self.spool.documents, training.astype(np.int64)
        for name, options, paths in self.groups:
            numbers = [n for n, path in enumerate(self.spool.sources) if path in paths]
            chosen = np.flatnonzero(training & np.isin(rows["source"], numbers))
            if options.by and len(chosen):
                self._balance(name, options, chosen, times)
        return times

    def _balance(self, group: str, options: Balance, chosen, times: np.ndarray) -> None:
        rows = self.spool.documents
        names, of_class = np.unique(rows["class"][chosen], return_inverse=True)
        lengths, digests = rows["tokens"][chosen].astype(np.int64), rows["digest"][chosen]
        tokens = np.bincount(of_class, lengths).astype(np.int64)
        wanted = wanted_tokens(tokens, options)
        made = np.zeros(len(names), np.int64)
        for place, most in enumerate(wanted.tolist()):
            own = np.flatnonzero(of_class == place)
            found = times_each(lengths[own], digests[own], most)
            times[chosen[own]] = found
            made[place] = (found * lengths[own]).sum()
        named = [self.names[name] for name in names.tolist()]
        self.report.append(outcome(group, options, named, tokens, made))

    def left_out(self, training: np.ndarray, times: np.ndarray) -> Iterator[tuple[int, str]]:
        """The documents that fall, ascending, each with its class."""
        for number in np.flatnonzero(training & (times == 0)).tolist():
            name = self.names[self.spool.documents["class"][number]]
            yield number, f"class {printable(name)}"


def outcome(group: str, options: Balance, names: list[str], tokens, made) -> dict:
    """What the report says of a source, or of all.

    Shapes: tokens before and made, int64 [classes].
    """
    asked, found = shares_of(tokens, options.temperature), made / max(1, made.sum())
    classes = [
        {
            "class": name,
            "tokens": int(tokens[place]),
            "tokens_made": int(made[place]),
            "asked": round(float(asked[place]), 6),
            "share": round(float(found[place]), 6),
        }
        for place, name in enumerate(names)
    ]
    classes.sort(key=lambda item: (-item["tokens"], item["class"]))
    return {"source": group, **asdict(options), "classes": classes}


def shares_in(report: list[dict]) -> list[dict]:
    """What a shard says of it: the shares of the largest classes of each source."""
    return [
        {
            "source": entry["source"],
            "by": entry["by"],
            "shares": {item["class"]: item["share"] for item in entry["classes"][:MAX_STATED]},
        }
        for entry in report
    ]


def describe_balance(report: list[dict], most: int = 12) -> list[str]:
    """What was asked and what came of it, in lines."""
    lines = []
    for entry in report:
        classes = entry["classes"]
        shown = [
            f"{printable(item['class'])} {100 * item['share']:.1f} % "
            f"of {100 * item['asked']:.1f} % asked"
            for item in classes[:most]
        ]
        more = f", and {len(classes) - most} more" * (len(classes) > most)
        before, after = (sum(item[key] for item in classes) for key in ("tokens", "tokens_made"))
        lines.append(
            f"balance of {entry['source']} by {entry['by']}: {', '.join(shown)}{more}; {after} of "
            f"{before} tokens"
        )
    return lines


def notes_on_balance(report: list[dict]) -> list[str]:
    """Where the smallest class takes much of the rest away, and where a share was missed."""
    notes = []
    for entry in report:
        found = [*note_on_loss(entry), *note_on_misses(entry["classes"])]
        notes += [f"balance of {entry['source']}: {note}" for note in found]
    return notes


def note_on_loss(entry: dict) -> list[str]:
    classes = entry["classes"]
    before, after = (sum(item[key] for item in classes) for key in ("tokens", "tokens_made"))
    if after >= (1 - TOLERANCE) * before:
        return []
    least = min(classes, key=lambda item: item["tokens"] / item["asked"])
    return [
        f"{100 * after / before:.0f} % of the tokens stay, since class {printable(least['class'])} "
        f"has {least['tokens']} for {100 * least['asked']:.1f} %; balance.epochs above "
        f"{entry['epochs']} lets its documents be there more often, and a balance.temperature "
        "nearer to 1 asks for less of it"
    ]


def note_on_misses(classes: list[dict]) -> list[str]:
    def miss(item: dict) -> float:
        return abs(item["share"] - item["asked"]) / item["asked"]

    count = sum(miss(item) > TOLERANCE for item in classes)
    if not count:
        return []
    worst = max(classes, key=miss)
    return [
        f"classes that miss their share by more than {100 * TOLERANCE:.0f} % of it: {count}, most "
        f"of all {printable(worst['class'])} with {100 * worst['share']:.2f} % for "
        f"{100 * worst['asked']:.2f} %; their documents are too long for so few tokens"
    ]
