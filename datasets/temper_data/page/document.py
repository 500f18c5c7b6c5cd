# SPDX-License-Identifier: Apache-2.0
"""Puts the page together. Nothing in it depends on the time or the machine."""

import base64
import hashlib
from pathlib import Path

from .collect import Split
from .extent import (
    describe_identity, describe_lengths, describe_overview, describe_rows,
)  # fmt: skip
from .losses import describe_copies, describe_decontamination, describe_dropped, describe_duplicates
from .losses import describe_filters
from .markup import Html, Section, section, tag
from .origins import describe_balance, describe_notes, describe_recipe, describe_sources
from .samples import describe_samples

HERE = Path(__file__).parent
TITLE = "What the model will see"
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
    sections = [samples, *others]
    main = tag("main", [part.html() for part in sections], id="main")
    shown = (header(splits, report), tools(sections), main)
    return whole(head(TITLE, read("page.css"), read("page.js")), *shown)


def whole(head: Html, *shown: Html) -> str:
    """A file of the parts of its body."""
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", SKIP, *shown)}</html>\n'


def fit(sections: list[Section], room: int) -> int:
    """Replaces sections that are too long by a note, in place; returns how many bytes are left."""
    for place, made in enumerate(sections):
        if made.size() > room:
            sections[place] = section(made.name, made.title, tag("p", TOO_LONG))
        room -= sections[place].size()
    return room


SKIP = Html('<a class="skip" href="#main">Skip to the content</a>')


def head(title: str, style: str, script: str) -> Html:
    """Of a page that asks the network for nothing, and runs no other script."""
    allowed = f"style-src {hash_of(style)}; script-src {hash_of(script)}; img-src data:"
    policy = f"default-src 'none'; {allowed}"
    return Html(
        '<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{style}</style>"
        f'<script type="module">{script}</script></head>'
    )


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    """By which the browser tells the page's own style and script from any other."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def header(splits: list[Split], report: dict) -> Html:
    kind = {"sft": "Conversations", "pretrain": "Text"}[splits[0].lengths.kind]
    kicker = tag("p", f"{kind} prepared for training", class_="kicker")
    top = tag("div", kicker, colours(), class_="top")
    return tag("header", top, tag("h1", TITLE), describe_overview(splits, report))


def colours() -> Html:
    """The choice of the scheme, which the style sheet alone obeys."""
    choices = [
        Html(f'<label><input type="radio" name="scheme" value="{value}" id="{value}"{on}>'
             f"<span>{value}</span></label>")
        for value, on in (("auto", " checked"), ("light", ""), ("dark", ""))
    ]  # fmt: skip
    return tag("fieldset", tag("legend", "Colours"), choices)


def tools(sections: list[Section]) -> Html:
    """Contents and search."""
    search = Html(
        '<form role="search"><label for="find">Search samples and what was dropped</label>'
        '<input type="search" id="find" placeholder="Search" autocomplete="off" '
        'spellcheck="false" disabled><output id="found" for="find"></output></form>'
    )
    return tag("div", contents(sections), search, class_="tools")


def contents(sections: list[Section]) -> Html:
    links = []
    for made in sections:
        links.append(tag("li", tag("a", made.title, href=f"#{made.name}")))
    return tag("nav", tag("ul", links), aria_label="Contents")
