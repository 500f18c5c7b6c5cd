#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows what is in token shards, as the model sees it.

    show SHARD...               what the shards hold, as a summary
    show SHARD... N...          documents N, counted from 0, with every token visible
    show --ids SHARD... N...    the same, one token a line with its id
    show --html SHARD...        a page for the browser, shard.html or what -o names

SHARD is a file, or a pattern in quotes, and several are one set whose documents are numbered
through. The tokenizer is that of --model FOLDER, else of the folder that report.json beside the
shard names.
"""

import argparse
import glob
import os
import re
import sys
from pathlib import Path

from temper_data.atomic_file import write_text
from temper_data.errors import DataError, printable
from temper_data.joint_shards import JointShards
from temper_data.page.collect import collect
from temper_data.page.document import make_page
from temper_data.shard_model import find_model, known_of
from temper_data.shard_summary import summarise
from temper_data.terminal import Style, show_document, show_ids
from temper_data.token_pieces import TokenBytes, pieces_of

NUM_SAMPLES = 32


def parse_names(names: list[str]) -> tuple[list[Path], list[int]]:
    """Shards, then numbers of documents. Raises DataError."""
    is_number = [re.fullmatch(r"[-+]?[0-9]+", name) is not None for name in names]
    first = is_number.index(True) if True in is_number else len(names)
    for name in names[first:]:
        if not re.fullmatch(r"\+?[0-9]+", name):
            raise DataError(
                f"'{printable(name)}' is no number of a document",
                "name shards first, then documents, which are counted from 0",
            )
    paths = [path for name in names[:first] for path in find_shards(name)]
    if not paths:
        raise DataError("no shard is named", "name one, such as prepared/train.h5")
    return list(dict.fromkeys(paths)), [int(name) for name in names[first:]]


def find_shards(name: str) -> list[Path]:
    """A file of this name, or all that the pattern matches, by name. Raises DataError."""
    if os.path.isdir(name):
        raise DataError(
            f"{printable(name)} is a folder", f"name its shards: '{printable(name)}/train*.h5'"
        )
    if os.path.exists(name):
        return [Path(name)]
    found = sorted(glob.glob(name, recursive=True))
    if not found:
        raise DataError(f"there is no {printable(name)}", "check the name, and the quotes")
    return [Path(path) for path in found]


def check_numbers(numbers: list[int], shards: JointShards) -> None:
    for number in numbers:
        if number >= shards.num_documents:
            raise DataError(
                f"there is no document {number}: the shards hold {shards.num_documents}",
                f"name one from 0 to {shards.num_documents - 1}",
            )


def show(arguments: argparse.Namespace) -> None:
    """Raises DataError."""
    paths, numbers = parse_names(arguments.names)
    if arguments.html and numbers:
        raise DataError("a page shows documents of its own choice", "leave the numbers out")
    if arguments.output and not arguments.html:
        raise DataError("-o is for a page", "add --html")
    with JointShards(paths) as shards:
        check_numbers(numbers, shards)
        if not numbers and not arguments.html:
            print(summarise(shards))
            return
        model = find_model(shards, arguments.model)
        vocabulary = TokenBytes(model)
        if arguments.html:
            output = arguments.output or Path("shard.html")
            split = collect(paths[0].stem, shards, vocabulary, NUM_SAMPLES)
            write_text(output, make_page([split], known_of(shards)))
            print(f"{printable(str(output))} written")
            return
        style = Style.of(sys.stdout)
        for number in numbers:
            ids, mask, _ = shards.document(number)
            pieces = pieces_of(ids, mask, vocabulary)
            print(style.title(f"document {number} of {shards.num_documents}: ", pieces))
            print(show_ids(pieces, style) if arguments.ids else show_document(pieces, style))


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="SHARD|N", help="shards, then documents")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="with the tokenizer")
    parser.add_argument("--ids", action="store_true", help="one token a line, with its id")
    parser.add_argument("--html", action="store_true", help="write a page for the browser")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="the page's name")
    return parser.parse_intermixed_args(words)


def main(words: list[str]) -> int:
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        show(parse_arguments(words))
        sys.stdout.flush()
    except DataError as error:
        print(f"show: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # As when `head` has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"show: {error}\n  try: check disk space and permissions", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
