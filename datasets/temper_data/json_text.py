# SPDX-License-Identifier: Apache-2.0
"""JSON as this program writes it, for people and for others' programs."""

import json
from pathlib import Path

from .atomic_file import write_text


def to_json(value, indent: int | None = None, sort_keys: bool = True) -> str:
    """JSON that UTF-8 can hold: half a surrogate pair, as of a file's name that is no UTF-8, is
    written as an escape, from which JSON's readers make the same again."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, value, sort_keys: bool = True) -> None:
    """Publishes `value` as a file; not sorted where others' files keep an order of their own."""
    write_text(path, to_json(value, 2, sort_keys) + "\n")
