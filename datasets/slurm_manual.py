#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Extracts Slurm's manual from Debian's slurm-wlm-doc as text for training.

    slurm_manual.py <folder with the unpacked package> <output folder>

Writes pages.jsonl, one page per line ({"page", "text"}), for continual pretraining, and
options.jsonl, one conversation per line ({"messages", "option", "group", "names"}), for SFT.
`group` is the same for all options that share their name or their answer, so that a hold-out by
group keeps each answer on one side. `names` are the texts by which a question may name its option,
the whole one first.
"""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path

from temper_data.atomic_file import write_text
from temper_data.errors import DataError
from temper_data.manual_options import (
    COMMANDS,
    Option,
    find_options,
    normalise_answer,
    questions,
)
from temper_data.manual_page import Block, page_text, parse_page

HTML_FOLDER = "usr/share/doc/slurm-wlm/html"
MIN_PAGE = 400  # characters; shorter ones are lists of links
PHRASINGS_PER_OPTION = 2
NO_DOCUMENTATION = {
    "configurator", "configurator.easy", "contributor", "disclaimer", "documentation", "download",
    "mail", "man_index", "meetings", "publications", "slurm_ug_agenda", "team", "testimonials",
    "tutorials",
}  # fmt: skip


def read_pages(folder: Path) -> dict[str, list[Block]]:
    """Page name to blocks, by name. Raises DataError if the manual is not there."""
    paths = sorted((folder / HTML_FOLDER).glob("*.html"))
    if not paths:
        raise DataError(
            f"{folder / HTML_FOLDER} holds no HTML pages",
            "unpack Debian's slurm-wlm-doc there: dpkg-deb -x slurm-wlm-doc_*.deb FOLDER",
        )
    pages = {}
    for path in paths:
        blocks = parse_page(path.read_text(encoding="utf-8", errors="replace"))
        if path.stem not in NO_DOCUMENTATION and len(page_text(blocks)) >= MIN_PAGE:
            pages[path.stem] = blocks
    return pages


def is_manual_page(page: str) -> bool:
    """Whether definitions on this page are options of a command or of a configuration file."""
    return page in COMMANDS or page.endswith(".conf")


def group_options(options: list[Option]) -> list[str]:
    """A group name per option: those with an equal name or an equal answer share one."""
    first: dict[str, int] = {}
    parent = list(range(len(options)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for number, option in enumerate(options):
        name = option.short.lstrip("-").lower().replace("_", "-")
        name = re.sub(r"^(sbatch|salloc|slurm|srun|scrontab)-(?=.)", "", name)
        for key in (f"name {name}", f"answer {normalise_answer(option)}"):
            other = root(first.setdefault(key, number))
            parent[max(root(number), other)] = min(root(number), other)
    heads = [options[root(number)] for number in range(len(options))]
    return [f"{head.page} {head.short}" for head in heads]


def conversations(options: list[Option]) -> list[dict]:
    """Chat records, two phrasings for each option."""
    names = Counter((option.page, option.name) for option in options)
    records, asked = [], set()
    for option, group in zip(options, group_options(options), strict=True):
        ambiguous = names[option.page, option.name] > 1
        for question in questions(option, ambiguous, PHRASINGS_PER_OPTION):
            if question in asked:  # The page defines the name twice; one answer is enough.
                continue
            asked.add(question)
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": option.answer},
            ]
            path = " ".join([option.page, *option.parents, option.name])
            record = {"messages": messages, "option": path, "group": group}
            records.append(record | {"names": [option.name, option.short]})
    return records


def write_lines(path: Path, records: list[dict]) -> None:
    write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def extract(source: Path, output: Path) -> str:
    """Writes both files and says what is in them. Raises DataError."""
    pages = read_pages(source)
    texts = {page: page_text(blocks) for page, blocks in pages.items()}
    options = [
        option
        for page, blocks in pages.items()
        if is_manual_page(page)
        for option in find_options(page, blocks)
    ]
    records = conversations(options)
    output.mkdir(parents=True, exist_ok=True)
    write_lines(output / "pages.jsonl", [{"page": p, "text": t} for p, t in texts.items()])
    write_lines(output / "options.jsonl", records)
    size = sum(len(text) for text in texts.values())
    groups = len({record["group"] for record in records})
    return (
        f"{output}: {len(texts)} pages with {size} characters; {len(options)} options in "
        f"{groups} groups, {len(records)} conversations"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the unpacked slurm-wlm-doc")
    parser.add_argument("output", type=Path, help="folder for pages.jsonl and options.jsonl")
    arguments = parser.parse_args()
    try:
        print(extract(arguments.source, arguments.output))
    except (DataError, OSError) as error:
        print(f"slurm_manual: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
