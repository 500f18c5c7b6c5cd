# SPDX-License-Identifier: Apache-2.0
"""What a source file is: by its name where names are clear, by its first bytes where not."""

import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .compression import PACKINGS, Unpacker, packing_of
from .errors import DataError

HEAD_BYTES = 1 << 16
TAIL_BYTES = 8
PACKED_NAME = re.compile(r"\.(gz|xz|zst)$", re.I)
COLUMNS_NAME = re.compile(r"\.(parquet|arrow)$", re.I)
JSON_NAME = re.compile(r"\.(jsonl|ndjson|jsonlines|json)$", re.I)
TABLE_NAME = re.compile(r"\.(csv|tsv)$", re.I)
UNPACK = "unpack it first"
CONVERT = "convert it, for instance with pandas: to_json(..., orient='records', lines=True)"
LEAVE_OUT = "leave it out of this source's path"
ENCODE = "convert it to UTF-8, for instance with iconv"
KEEP_TEXT = ", or format: text to learn them as they are"
ARRAY_OF_OBJECTS = re.compile(rb'\s*\[\s*\{\s*"')
FOREIGN = {  # First bytes to what such a file is and what to do.
    b"BZh": ("compressed with bzip2", UNPACK),
    b"\x04\x22\x4d\x18": ("compressed with lz4", UNPACK),
    b"PK\x03\x04": ("a zip archive", UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", UNPACK),
    b"PARE": ("an encrypted Parquet file", CONVERT),
    b"FEA1": ("a Feather file of version 1", CONVERT),
    b"version https://git-lfs": ("a Git LFS pointer to a file", "fetch the file: git lfs pull"),
    b"SQLite format 3": ("an SQLite database", CONVERT),
    b"%PDF": ("a PDF document", "extract its text first"),
    b"\xff\xfe": ("in UTF-16", ENCODE),
    b"\xfe\xff": ("in UTF-16", ENCODE),
}
# First bytes of a file of columns to its container, what such a file is, and how it ends.
COLUMNS = {
    b"PAR1": ("parquet", "a Parquet file", b"PAR1"),
    b"ARROW1": ("arrow file", "an Arrow file", b"ARROW1"),
    # As datasets.save_to_disk writes it.
    b"\xff\xff\xff\xff": ("arrow stream", "an Arrow stream", b"\xff\xff\xff\xff\0\0\0\0"),
}


@dataclass(frozen=True)
class FileKind:
    """How a source file is cut into records."""

    format: str
    packing: str = ""  # a key of PACKINGS; "": not compressed
    by_line: bool = False  # JSON: one value a line; else values lie anywhere, also in one array
    columns: str = ""  # "parquet", "arrow file" or "arrow stream"; "": text or JSON


def recognise(path: Path, wanted: str) -> FileKind:
    """The kind of a file of a source whose format is `wanted`, or "auto" (text or jsonl).

    Goes by content first. Raises DataError for a file that holds something else, or something that
    may be either.
    """
    head, packing = read_head(path)
    for magic, (what, remedy) in FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {what}, not text", remedy)
    if packing and packing_of(head):
        raise DataError(f"{path} is compressed twice", "unpack it once")
    for magic, container in COLUMNS.items():
        if head.startswith(magic):
            return columns_kind(path, wanted, packing, container)
    name = PACKED_NAME.sub("", path.name)
    if head and COLUMNS_NAME.search(name):
        what = COLUMNS_NAME.search(name)[1].lower()
        remedy = "copy it again; if it is JSON or text, name it so (.jsonl, .txt)"
        raise DataError(f"{path} begins otherwise than a {what} file does", remedy)
    has_rows = JSON_NAME.search(name) or COLUMNS_NAME.search(name)
    found = wanted if wanted != "auto" else "jsonl" if has_rows else "text"
    if found == "text":
        require_text(path, head)
    if wanted != "text" and TABLE_NAME.search(name):
        remedy = CONVERT + KEEP_TEXT * (wanted == "auto")
        raise DataError(f"{path} is a table by its name, not JSON or text", remedy)
    if wanted == "auto":
        require_clear(path, name, head, found)
    return FileKind(found, packing, by_line=found == "text" or has_lines(head))


def columns_kind(path: Path, wanted: str, packing: str, container: tuple) -> FileKind:
    """The kind of a file of columns, whose rows are read like JSON objects."""
    columns, what, end = container
    if packing:
        raise DataError(f"{path} is {what} compressed with {packing}", UNPACK)
    if wanted == "text":
        remedy = "set format: jsonl, and field to the column that holds the text"
        raise DataError(f"{path} is {what}, not text", remedy)
    with open(path, "rb") as file:
        file.seek(-min(TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        tail = file.read()
    if not tail.endswith(end):
        remedy = "copy it again, or write it again: who made it may have been interrupted"
        raise DataError(f"{path} is {what} without its end: it was cut off", remedy)
    return FileKind("jsonl" if wanted == "auto" else wanted, columns=columns)


def read_head(path: Path) -> tuple[bytes, str]:
    """The first bytes, unpacked, and how the file is compressed."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            packing = packing_of(head)
            if not packing:
                return head, ""
            file.seek(0)
            unpacked = Unpacker(file, PACKINGS[packing], str(path))
            return io.BufferedReader(unpacked).read(HEAD_BYTES), packing
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "make the file readable") from error


def require_text(path: Path, head: bytes) -> None:
    if b"\0" in head:
        what = "a tar archive" if head[257:262] == b"ustar" else "a binary file"
        raise DataError(f"{path} is {what}, not text", UNPACK if "tar" in what else LEAVE_OUT)


def require_clear(path: Path, name: str, head: bytes, found: str) -> None:
    """Raises DataError where a person must say what the file shall be."""
    choose = f"set format: jsonl in this source for the records of such files{KEEP_TEXT}"
    first = head.strip().split(b"\n")[0]
    if found == "text" and (is_object(first) or ARRAY_OF_OBJECTS.match(head)):
        raise DataError(f"{path} holds JSON, but its name says text", choose)
    if name.lower().endswith(".json") and head.lstrip().startswith(b"{") and not has_lines(head):
        raise DataError(f"{path} is one JSON object, not a list of records", choose)


def has_lines(head: bytes) -> bool:
    """Whether each line is a record of its own, as far as the first line tells.

    Not so in an array, nor where the first line ends in the middle of a value. A line in the midst
    of which the JSON is wrong counts as a record, which will be dropped.
    """
    text = head.decode("utf-8-sig", "replace").lstrip()
    if text.startswith("["):
        return False
    line, newline, _ = text.partition("\n")
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return not newline or error.pos < len(line.rstrip())
    except RecursionError:
        pass
    return True


def is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
