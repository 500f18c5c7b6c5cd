# SPDX-License-Identifier: Apache-2.0
"""The files that a source's path names: one file, a folder with all that is data in it, a pattern.

A folder may be one of the library datasets (`save_to_disk`, or its cache), whose own notes say
which of its files are data.
"""

import glob
import json
import os
import re
from dataclasses import dataclass, field

from .errors import DataError

ROWS_NAME = re.compile(r"\.(jsonl|ndjson|jsonlines|json|parquet|arrow)(\.(gz|xz|zst))?$", re.I)
TEXT_NAME = re.compile(r"\.(txt|md)(\.(gz|xz|zst))?$", re.I)
CARD_NAME = re.compile(r"readme\.(md|txt)$", re.I)
STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
NOTES = (STATE, INFO, SPLITS, "dataset_infos.json")  # what the library datasets writes beside data
CACHE_NAME = re.compile(r"(cache|tmp)-?[^/]*\.arrow$")  # what its map() and shuffle() leave there
MAX_SHOWN = 5


@dataclass
class Listing:
    """Of a folder: its data, and the files that are none by their names."""

    names: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def matching(path: str, layout: str) -> Listing:
    """The files that `path` of a source with format `layout` names, in a fixed order."""
    if os.path.isfile(path):
        return Listing([path])
    if os.path.isdir(path):
        listing = list_folder(path, layout)
        if not listing.names:
            wanted = "no file of text (.txt, .md)" if layout == "text" else "no data file"
            remedy = "name a file or a pattern, such as " + os.path.join(path, "**/*.jsonl")
            raise DataError(f"{path} holds {wanted}", remedy)
        return listing
    names = sorted(glob.glob(path, recursive=True), key=os.fsencode)
    names = [name for name in names if os.path.isfile(name) and not is_note(name)]
    if not names:
        raise DataError(
            f"no file matches {path} (from {os.getcwd()})",
            "correct the path of this source; ** matches any depth of folders, "
            "and a pattern must write [[] for a [ in a name",
        )
    return Listing(names)


def note_on_folder(path: str, left_out: list[str]) -> list[str]:
    """What the summary says of the files in a folder that are left out."""
    if not left_out:
        return []
    shown = ", ".join(os.path.relpath(name, path) for name in left_out[:MAX_SHOWN])
    more = f" and {len(left_out) - MAX_SHOWN} more" if len(left_out) > MAX_SHOWN else ""
    return [f"left out of {path}, by their names: {shown}{more}"]


def is_note(name: str) -> bool:
    """Whether a file is one that the library datasets keeps beside its data."""
    return os.path.basename(name) in NOTES and bool(
        glob.glob(glob.escape(os.path.dirname(name) or ".") + "/*.arrow")
    )


def list_folder(folder: str, layout: str) -> Listing:
    """All data at any depth. Names that begin with "." or "_" are hidden, as everywhere."""
    listing, visited = Listing(), set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}", "make the folder readable")

    for inner, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if "_delta_log" in folders:
            remedy = "export its newest version, for instance with deltalake: to_pandas().to_json"
            raise DataError(f"{inner} is a Delta table, which keeps rows it has deleted", remedy)
        if os.path.realpath(inner) in visited:  # by a link to a folder above
            folders.clear()
            continue
        visited.add(os.path.realpath(inner))
        folders[:] = filter(is_shown, sorted(folders))
        shown = sorted(filter(is_shown, names), key=os.fsencode)
        chosen = data_of_folder(inner, shown, layout)
        listing.names += [os.path.join(inner, name) for name in chosen]
        others = [name for name in shown if name not in {*chosen, *NOTES}]
        listing.left_out += [os.path.join(inner, name) for name in others]
    leave_out_card(folder, listing)
    listing.names.sort(key=os.fsencode)
    listing.left_out.sort(key=os.fsencode)
    return listing


def is_shown(name: str) -> bool:
    return not name.startswith((".", "_"))


def data_of_folder(folder: str, names: list[str], layout: str) -> list[str]:
    """Those of the files directly in a folder that are data. Raises DataError."""
    if SPLITS in names:
        refuse_splits(folder, read_note(folder, SPLITS).get("splits"), "/")
    if layout == "text":
        return list(filter(TEXT_NAME.search, names))
    if STATE in names and "_data_files" in (state := read_note(folder, STATE)):
        return files_of_state(folder, state, names)
    chosen = [
        name
        for name in names
        if ROWS_NAME.search(name) and name not in NOTES
        or layout == "auto" and TEXT_NAME.search(name)
    ]
    if INFO in names and any(name.endswith(".arrow") for name in chosen):
        refuse_splits(folder, read_note(folder, INFO).get("splits"), "/*-")
        chosen = [name for name in chosen if not CACHE_NAME.match(name)]
    return chosen


def files_of_state(folder: str, state: dict, names: list[str]) -> list[str]:
    """What a saved dataset says are its files."""
    remedy = "save the dataset again, or copy the folder again"
    try:
        listed = [item["filename"] for item in state["_data_files"]]
        missing = [name for name in listed if name not in names]
    except (TypeError, KeyError):
        raise DataError(f"{os.path.join(folder, STATE)} lists no files", remedy) from None
    if missing:
        raise DataError(f"{folder} lacks {missing[0]}, which its {STATE} lists", remedy)
    return listed


def refuse_splits(folder: str, splits, joint: str) -> None:
    """Raises DataError for several splits: what is kept for testing must not be trained."""
    if isinstance(splits, (list, dict)) and len(splits) > 1:
        names = [str(name) for name in splits]
        end = "*.arrow" if joint == "/*-" else ""
        remedy = f"name the one that is meant, such as {folder}{joint}{names[0]}{end}"
        raise DataError(f"{folder} holds several splits: {', '.join(names)}", remedy)


def read_note(folder: str, name: str) -> dict:
    """A file of the library datasets as an object; empty if it is none."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def leave_out_card(folder: str, listing: Listing) -> None:
    """Takes the README of a folder of rows, which tells about them, out of its data."""
    if not any(map(ROWS_NAME.search, listing.names)):
        return
    cards = [
        name
        for name in listing.names
        if os.path.dirname(name) == folder.rstrip("/") and CARD_NAME.match(os.path.basename(name))
    ]
    listing.names = [name for name in listing.names if name not in cards]
    listing.left_out += cards
