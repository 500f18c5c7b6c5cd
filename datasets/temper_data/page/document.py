# SPDX-License-Identifier: Apache-2.0
"""Puts the page together. Nothing in it depends on the time or the machine."""

from pathlib import Path

from .collect import Split
from .extent import (
    describe_identity, describe_lengths, describe_overview, describe_rows,
)  # fmt: skip
from .frame import Frame, page_header, read
from .losses import describe_copies, describe_decontamination, describe_dropped, describe_duplicates
from .losses import describe_filters
from .markup import Section, section, tag
from .origins import describe_balance, describe_notes, describe_recipe, describe_sources
from .samples import describe_samples

FRAME = Frame(
    title="What the model will see",
    style=read(Path(__file__).parent / "page.css"),
    search_label="Search samples and what was dropped",
)
KINDS = {"sft": "Conversations", "pretrain": "Text"}
MAX_BYTES = 2_000_000
OWN_BYTES = 30_000  # for style, script, head and contents
TOO_LONG = "This is too long for one page; it is in report.json."


def make_page(splits: list[Split], report: dict) -> str:
    """The whole file. `report` is report.json, or what is known of it."""
    kept = sum(split.lengths.documents for split in splits)
    made = [
        describe_lengths(splits),
        describe_rows(splits),
        describe_sources(report) if report.get("sources") else None,
        describe_balance(report),
        describe_dropped(report, kept) if "dropped" in report else None,
        describe_filters(report),
        describe_copies(report),
        describe_duplicates(report),
        describe_decontamination(report),
        describe_notes(report.get("notes", [])),
        describe_identity(splits, report),
        describe_recipe(report),
    ]
    others = [part for part in made if part]
    samples = describe_samples(splits, fit(others, MAX_BYTES - OWN_BYTES))
    kicker = f"{KINDS[splits[0].lengths.kind]} prepared for training"
    header = page_header(kicker, FRAME.title, describe_overview(splits, report))
    return FRAME.page(header, [samples, *others])


def fit(sections: list[Section], room: int) -> int:
    """Replaces sections that are too long by a note, in place; returns how many bytes are left."""
    for place, made in enumerate(sections):
        if made.size() > room:
            sections[place] = section(made.name, made.title, tag("p", TOO_LONG))
        room -= sections[place].size()
    return room
