# SPDX-License-Identifier: Apache-2.0
"""What a source file is: by its name where names are clear, by its first bytes where not."""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError

HEAD_BYTES = 1 << 16
GZIP = b"\x1f\x8b"
JSON_NAME = re.compile(r"\.(jsonl|ndjson|jsonlines|json)$", re.I)
TABLE_NAME = re.compile(r"\.(csv|tsv)$", re.I)
UNPACK = "unpack it first"
CONVERT = "convert it, for instance with pandas: to_json(..., orient='records', lines=True)"
RENAME = "leave it out of this source's path"
ENCODE = "convert it to UTF-8, for instance with iconv"
KEEP_TEXT = ", or format: text to learn them as they are"
ARRAY_OF_OBJECTS = re.compile(rb'\s*\[\s*\{\s*"')
FOREIGN = {  # First bytes to what such a file is and what to do.
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", UNPACK),
    b"BZh": ("compressed with bzip2", UNPACK),
    b"\xfd7zXZ\0": ("compressed with xz", UNPACK),
    b"\x04\x22\x4d\x18": ("compressed with lz4", UNPACK),
    b"PK\x03\x04": ("a zip archive", UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", UNPACK),
    b"PAR1": ("a Parquet file", CONVERT),
    b"ARROW1": ("an Arrow file", CONVERT),
    b"\xff\xff\xff\xff": ("an Arrow stream", CONVERT),  # as datasets.save_to_disk writes it
    b"SQLite format 3": ("an SQLite database", CONVERT),
    b"%PDF": ("a PDF document", "extract its text first"),
    b"\xff\xfe": ("in UTF-16", ENCODE),
    b"\xfe\xff": ("in UTF-16", ENCODE),
}


@dataclass(frozen=True)
class FileKind:
    """How a source file is cut into records."""

    format: str
    gzipped: bool
    by_line: bool  # JSON: one value a line; else values lie anywhere, also in one array


def recognise(path: Path, wanted: str) -> FileKind:
    """The kind of a file of a source whose format is `wanted`, or "auto" (text or jsonl).

    Raises DataError for a file that holds something else, or something that may be either.
    """
    head, gzipped = read_head(path)
    for magic, (what, remedy) in FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {what}, not text", remedy)
    name = re.sub(r"\.gz$", "", path.name, flags=re.I)
    found = wanted if wanted != "auto" else "jsonl" if JSON_NAME.search(name) else "text"
    if found == "text":
        require_text(path, head)
    if wanted != "text" and TABLE_NAME.search(name):
        remedy = CONVERT + KEEP_TEXT * (wanted == "auto")
        raise DataError(f"{path} is a table by its name, not JSON or text", remedy)
    if wanted == "auto":
        require_clear(path, name, head, found)
    return FileKind(found, gzipped, by_line=found == "text" or has_lines(head))


def read_head(path: Path) -> tuple[bytes, bool]:
    """The first bytes, unpacked, and whether the file is compressed with gzip."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
        if not head.startswith(GZIP):
            return head, False
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES), True
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "make the file readable") from error
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file: {error}", "copy it again") from error


def require_text(path: Path, head: bytes) -> None:
    if b"\0" in head:
        what = "a tar archive" if head[257:262] == b"ustar" else "a binary file"
        raise DataError(f"{path} is {what}, not text", UNPACK if "tar" in what else RENAME)


def require_clear(path: Path, name: str, head: bytes, found: str) -> None:
    """Raises DataError where a person must say what the file shall be."""
    choose = f"set format: jsonl in this source for the records of such files{KEEP_TEXT}"
    first = head.strip().split(b"\n")[0]
    if found == "text" and (is_object(first) or ARRAY_OF_OBJECTS.match(head)):
        raise DataError(f"{path} holds JSON, but its name says text", choose)
    if name.lower().endswith(".json") and head.lstrip().startswith(b"{") and not has_lines(head):
        raise DataError(f"{path} is one JSON object, not a list of records", choose)


def has_lines(head: bytes) -> bool:
    """Whether each line is a JSON value, as far as the first one tells.

    An array begins with [, and a value that is spread over lines breaks off with its first one.
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
