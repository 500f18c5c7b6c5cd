# SPDX-License-Identifier: Apache-2.0
"""Decides whether an earlier preparation still holds, so that it need not run again."""

import hashlib
import json
import os
from pathlib import Path

from .balanced_classes import describe_balance
from .preparation import PROGRAM, REPORT, Preparation
from .shard_set import existing_shards, files_of


def up_to_date(preparation: Preparation) -> bool:
    """Whether the output was made by this recipe from these very sources and is complete."""
    report = read_report(preparation.output / REPORT)
    if report.get("recipe_fingerprint") != preparation.fingerprint() or not report.get("shards"):
        return False
    made = (preparation.output / REPORT).stat().st_mtime_ns
    try:
        for file in files_in(report):
            path = preparation.output / file["file"]
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                return False
        if strangers(preparation.output, report):
            return False
        summarise(report)  # It will be shown, so it has to be whole.
        return all(is_unchanged(Path(source["file"]), source, made) for source in report["sources"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return False  # A report that somebody wrote into says nothing.


def is_unchanged(path: Path, source: dict, made: int) -> bool:
    """A file untouched since `made` (ns) is not read again; any other must have the same hash."""
    status = os.stat(path)
    if status.st_size != source["bytes"]:
        return False
    if max(status.st_ctime_ns, status.st_mtime_ns) < made:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == source["sha256"]


def read_report(path: Path) -> dict:
    """The report as an object; empty if it is missing or unreadable."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def foreign_output(preparation: Preparation) -> list[str]:
    """Names in the output folder that a run would replace though another recipe made them.

    What this recipe made with another version of this program is not foreign.
    """
    report = read_report(preparation.output / REPORT)
    if report.get("recipe_fingerprint") == preparation.fingerprint():
        return strangers(preparation.output, report) if report.get("shards") else []
    recipe = json.loads(json.dumps(preparation.recipe.identity()))
    if report.get("program") != PROGRAM and report.get("recipe") == recipe:
        return []
    names = existing_shards(preparation.output)
    return names + [REPORT] * (bool(names) and bool(report))


def files_in(report: dict) -> list[dict]:
    """The entries of all shard files that a report lists."""
    return [file for shard in report["shards"].values() for file in files_of(shard)]


def strangers(output: Path, report: dict) -> list[str]:
    """Shards in the folder that the report does not list: a pattern would take them for its own."""
    try:
        listed = {file["file"] for file in files_in(report)}
    except (KeyError, TypeError, AttributeError):
        return []
    return [name for name in existing_shards(output) if name not in listed]


def summarise(report: dict) -> str:
    """What was made and what was left out, as lines."""
    lines = []
    for name, shard in sorted(report["shards"].items(), reverse=True):
        lengths = shard["tokens_per_document"]
        lines.append(
            f"{name}: {shard['documents']} documents, {shard['tokens']} tokens{in_files(shard)}, "
            f"{shard['targets']} targets, {lengths['median']} tokens in the median document, "
            f"{lengths['max']} in the longest"
        )
    lines += describe_balance(report.get("balance", []))
    for reason, count in sorted(report["dropped"].items()):
        example = report["examples"].get(reason, [])
        first = f", first at {example[0]}" if example else ""
        lines.append(f"dropped: {count} {reason}{first}")
    return "\n".join(lines + [f"note: {note}" for note in report["notes"]])


def in_files(shard: dict) -> str:
    return f" in {len(shard['parts'])} files" if "parts" in shard else ""
