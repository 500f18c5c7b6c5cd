# SPDX-License-Identifier: Apache-2.0
"""Finds the tokenizer that made a shard, and what else is known of how it was made."""

import json
from pathlib import Path

from .errors import DataError, printable
from .joint_shards import JointShards
from .model_tokenizer import ModelTokenizer, load_model_tokenizer


def find_model(shards: JointShards, folder: Path | None) -> ModelTokenizer:
    """The one in `folder`, else in the folder that a report beside the shard names.

    Raises DataError where it is another tokenizer than the shard's.
    """
    named = folder or folder_of_report(shards.paths[0].parent)
    if named is None:
        raise DataError(
            f"no model is known: beside {shards.paths[0]} is no report.json that names one",
            "name the model's folder with --model",
        )
    if folder is None and not named.is_dir():
        raise DataError(
            f"{shards.paths[0].parent}/report.json names the model {printable(str(named))}, "
            "which is not here",
            "name the model's folder with --model",
        )
    model = load_model_tokenizer(named)
    if model.sha256 != shards.header["tokenizer_sha256"]:
        raise DataError(
            f"{named}/tokenizer.json is another tokenizer than that of {shards.paths[0]}: "
            f"its SHA-256 is {model.sha256[:16]}..., the shard's "
            f"{shards.header['tokenizer_sha256'][:16]}...",
            "name the folder that the shard was prepared for with --model",
        )
    return model


def folder_of_report(folder: Path) -> Path | None:
    """The model's folder, as it was called where the preparation ran."""
    try:
        name = json.loads((folder / "report.json").read_text(encoding="utf-8"))["model"]
        return Path(name) if isinstance(name, str) and name else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def known_of(shards: JointShards) -> dict:
    """What a shard says of its origin, in the form of report.json; empty if it says nothing."""
    try:
        origin = json.loads(shards.header["origin"])
    except (ValueError, RecursionError):
        return {}
    if not isinstance(origin, dict):
        return {}
    types = {"program": str, "recipe": dict, "sources": list, "sources_total": int,
             "dropped": dict}  # fmt: skip
    known = {key: value for key, value in origin.items() if isinstance(value, types.get(key, ()))}
    if not all(isinstance(count, int) for count in known.get("dropped", {}).values()):
        del known["dropped"]
    known["sources"] = [entry for entry in known.get("sources", []) if is_source(entry)]
    return known


def is_source(entry) -> bool:
    if not isinstance(entry, dict):
        return False
    return isinstance(entry.get("file"), str) and isinstance(entry.get("bytes"), int)


def describe_origin(shards: JointShards) -> list[str]:
    """The same as lines."""
    known = known_of(shards)
    lines = [f"made by {printable(known['program'])}"] if "program" in known else []
    files = known.get("sources", [])
    lines += [f"from {printable(entry['file'])}" for entry in files[:5]]
    more = known.get("sources_total", len(files)) - len(files[:5])
    if more > 0:
        lines.append(f"from {more} more files")
    dropped = known.get("dropped", {})
    lines += [f"dropped: {count} {printable(name)}" for name, count in sorted(dropped.items())]
    return lines
