# SPDX-License-Identifier: Apache-2.0
"""The manual: its text, its passages, what an edit makes of it, and what it supports."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from temper_data.errors import DataError

from .options import ManualOptions
from .questions import Edit

HEADING_WORDS = 8  # A shorter paragraph without a full stop announces what follows.
SUPPORT_WORDS = 4
SUPPORTED_SHARE = 0.5
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Page:
    title: str
    text: str


class Manual:
    """Pages of text."""

    def __init__(self, pages: list[Page], words: int):
        self.pages, self.words = pages, words
        self.text = "\n\n".join(page.text for page in pages)
        self.passages = [passage for page in pages for passage in cut(page, words)]
        self._runs = set(runs(self.text))

    def edited(self, edits: list[Edit]) -> "Manual":
        """The same with the answers of all edits exchanged, each of which stands in it once."""
        new = {edit.question.answer: edit.new.answer for edit in edits}
        if not new:
            return self
        old = re.compile("|".join(map(re.escape, sorted(new, key=len, reverse=True))))
        pages = [Page(p.title, old.sub(lambda m: new[m.group()], p.text)) for p in self.pages]
        return Manual(pages, self.words)

    def support(self, answer: str) -> float:
        """The share of an answer's runs of four words that stand in the manual, in any case and
        whatever the punctuation; of a shorter answer, whether it stands there as a whole."""
        found = runs(answer)
        if found:
            return sum(run in self._runs for run in found) / len(found)
        words = " ".join(words_of(answer))
        return float(bool(words) and f" {words} " in f" {' '.join(words_of(self.text))} ")

    def supports(self, answer: str) -> bool:
        """The rule of the table: at least half of the runs stand in the manual."""
        return self.support(answer) >= SUPPORTED_SHARE


def read_manual(options: ManualOptions) -> Manual:
    """Raises DataError for what is no JSON line with a text."""
    pages = []
    try:
        lines = Path(options.path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{options.path}: {error}", "set manual.path to JSON lines") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            title = str(record[options.title]) if options.title else ""
            pages.append(Page(title, str(record[options.field])))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{options.path}:{number} is no JSON object with {options.field}"
                + (f" and {options.title}" if options.title else ""),
                "set manual.field and manual.title to fields that every line has",
            ) from error
    if not any(page.text.strip() for page in pages):
        raise DataError(f"{options.path} holds no text", "name the manual's text")
    return Manual(pages, options.words)


def cut(page: Page, most: int) -> list[str]:
    """Whole paragraphs, as many as have `most` words, each passage below the page's title.

    A heading goes to what it announces. A paragraph of more words is a passage of its own.
    """
    passages: list[list[str]] = []
    size, follows_heading = most + 1, False
    for paragraph in filter(None, map(str.strip, page.text.split("\n\n"))):
        count = len(paragraph.split())
        is_heading = count <= HEADING_WORDS and not paragraph.endswith((".", "!", "?", ":"))
        if size + count > most and not follows_heading:
            passages.append([])
            size = 0
        elif is_heading and size > most // 2:
            passages.append([])
            size = 0
        passages[-1].append(paragraph)
        size, follows_heading = size + count, is_heading
    head = [page.title] if page.title else []
    return ["\n\n".join([*head, *passage]) for passage in passages]


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def runs(text: str) -> list[tuple[str, ...]]:
    words = words_of(text)
    return list(zip(*(words[start:] for start in range(SUPPORT_WORDS)), strict=False))
