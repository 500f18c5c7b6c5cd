#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Extracts the Jargon File from Debian's jargon-text: general English prose, public domain.

    general_text.py <folder with the unpacked package> <output folder>

Writes general.jsonl ({"text"}), one document of some thousand characters per line. Used to see
what a model forgets while it learns another domain, or mixed in so that it forgets less.
"""

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from temper_data.atomic_file import write_text
from temper_data.errors import DataError

SOURCE = "usr/share/doc/jargon-text/jargon.txt.gz"
FIRST_HEADING = "Chapter 1."  # What is before is a table of contents.
DOCUMENT_CHARACTERS = 3000
LIST_LENGTH = 4  # So many short lines in a row are an index.
BOX_DRAWING = re.compile("[\u2500-\u257f]")


def read_source(folder: Path) -> str:
    """The file from its first chapter on. Raises DataError."""
    try:
        with gzip.open(folder / SOURCE, "rt", encoding="utf-8") as file:
            text = file.read().replace("\xa0", " ")
    except FileNotFoundError as error:
        raise DataError(
            f"{folder / SOURCE} does not exist",
            "unpack Debian's jargon-text there: dpkg-deb -x jargon-text_*.deb FOLDER",
        ) from error
    begin = text.find(f"\n{FIRST_HEADING}")
    if begin < 0:
        raise DataError(
            f"{folder / SOURCE} has no line that begins with '{FIRST_HEADING}'",
            "use the package jargon-text 4.4.7",
        )
    return text[begin:]


def paragraphs(text: str) -> Iterator[str]:
    """Unwrapped paragraphs; what is indented deeper than its first line keeps its lines."""
    for chunk in re.split(r"\n\s*\n", text):
        lines = chunk.strip("\n").split("\n")
        if BOX_DRAWING.search(chunk) or not chunk.strip():
            continue
        margin = min(len(line) - len(line.lstrip()) for line in lines)
        even = all(not line[margin:].startswith(" ") for line in lines)
        joined = (" " if even else "\n").join(line[margin:].rstrip() for line in lines)
        yield re.sub(r"\{([^{}]*)\}", r"\1", joined)


def is_prose(paragraph: str) -> bool:
    return len(paragraph) > 60 or paragraph.rstrip()[-1] in ".!?:”)"


def without_indexes(parts: list[str]) -> list[str]:
    """Drops runs of short lines, as indexes and tables of contents are."""
    kept: list[str] = []
    run: list[str] = []
    for part in [*parts, "."]:
        if not is_prose(part):
            run.append(part)
            continue
        kept += run if len(run) < LIST_LENGTH else []
        kept.append(part)
        run = []
    return kept[:-1]


def documents(parts: list[str]) -> Iterator[str]:
    """Paragraphs gathered to documents that begin at an entry or heading where there is one."""
    held: list[str] = []
    size = 0
    for part in parts:
        begins = part.startswith(":") or not is_prose(part)
        if size >= DOCUMENT_CHARACTERS and begins or size >= 2 * DOCUMENT_CHARACTERS:
            yield "\n\n".join(held) + "\n"
            held, size = [], 0
        held.append(part.removeprefix(":"))
        size += len(part)
    if held:
        yield "\n\n".join(held) + "\n"


def extract(source: Path, output: Path) -> str:
    """Writes general.jsonl and says what is in it. Raises DataError."""
    texts = list(documents(without_indexes(list(paragraphs(read_source(source))))))
    output.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    write_text(output / "general.jsonl", "".join(lines))
    return f"{output}: {len(texts)} documents with {sum(map(len, texts))} characters"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the unpacked jargon-text")
    parser.add_argument("output", type=Path, help="folder for general.jsonl")
    arguments = parser.parse_args()
    try:
        print(extract(arguments.source, arguments.output))
    except (DataError, OSError) as error:
        print(f"general_text: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
