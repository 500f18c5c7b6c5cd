# SPDX-License-Identifier: Apache-2.0
"""One HTML page of Slurm's manual as a list of text blocks, without navigation and boilerplate."""

import re
from dataclasses import dataclass
from html.parser import HTMLParser

BREAKING = {
    "p", "br", "div", "ul", "ol", "dl", "table", "tr", "center", "blockquote", "form", "hr", "html",
    "body", "caption",
}  # fmt: skip
HEADINGS = ("h1", "h2", "h3", "h4")
SKIPPED = {"script", "style", "head", "nav", "footer", "button", "select"}
BOILERPLATE = re.compile(r"Last modified .{0,40}|This document was created by.*|Index|Top")
CONTENT_BEGIN = re.compile(r'<div class="section">\s*<div class="container">')
CONTENT_END = "<!-- END .container -->"
UNWANTED_SECTIONS = {"COPYING", "SEE ALSO", "INDEX"}


@dataclass
class Block:
    """A piece of text. `kind`: h1..h4, text, item (of a list), term (of a definition), pre, row."""

    kind: str
    text: str
    depth: int = 0  # of definition lists around it


class PageParser(HTMLParser):
    """Collects blocks. HTML of man2html leaves most elements open, so only starts are trusted."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._kind = "text"
        self._parts: list[str] = []
        self._depth = 0
        self._skipping: list[str] = []
        self._cells = 0

    def handle_starttag(self, tag: str, attributes) -> None:
        if tag in SKIPPED:
            self._skipping.append(tag)
        elif tag in HEADINGS or tag == "pre":
            self._begin(tag)
        elif tag in ("dt", "li"):
            self._begin("term" if tag == "dt" else "item")
        elif tag == "dd":
            self._begin("text")
        elif tag in ("td", "th"):
            self._parts.append("" if self._kind != "row" or not self._cells else " | ")
            self._cells += 1
        elif tag in BREAKING and self._kind != "pre":
            # A paragraph or line break inside a list item belongs to the item.
            self._begin("row" if tag == "tr" else "text")
        elif tag == "br":
            self._parts.append("\n")
        self._depth += tag == "dl"

    def handle_endtag(self, tag: str) -> None:
        if self._skipping and tag == self._skipping[-1]:
            self._skipping.pop()
        elif tag in HEADINGS or tag in ("pre", "dt", "li", "tr", "table", "ul", "ol", "dl", "p"):
            self._begin("text")
        if tag == "dl":
            self._depth = max(0, self._depth - 1)

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._parts.append(data)

    def close(self) -> None:
        super().close()
        self._begin("text")

    def _begin(self, kind: str) -> None:
        """Ends the open block and opens one of `kind`."""
        text = "".join(self._parts)
        if self._kind == "pre":
            text = text.replace("\xa0", " ").rstrip().strip("\n")
        else:
            text = " ".join(text.split())
        if text.strip(" |") and not BOILERPLATE.fullmatch(text):
            self.blocks.append(Block(self._kind, text, self._depth))
        self._kind, self._parts, self._cells = kind, [], 0


def parse_page(html: str) -> list[Block]:
    """The blocks of a page's content; empty if the page has none."""
    begin = CONTENT_BEGIN.search(html)
    end = html.rfind(CONTENT_END)
    if begin is None or end < begin.end():
        return []
    parser = PageParser()
    parser.feed(cut_man2html_frame(html[begin.end() : end]))
    parser.close()
    return without_sections(parser.blocks, UNWANTED_SECTIONS)


def cut_man2html_frame(html: str) -> str:
    """Removes the head line and the index that man2html adds to a manual page."""
    html = re.sub(r"(</H1>)\s*Section: .*?<A HREF=\"#index\">Index</A>", r"\1", html, flags=re.S)
    return re.sub(r"<HR>\s*<A NAME=\"index\">.*", "", html, flags=re.S)


def without_sections(blocks: list[Block], titles: set[str]) -> list[Block]:
    """Leaves out the sections under second-level headings named in `titles`."""
    kept, inside = [], False
    for block in blocks:
        if block.kind in ("h1", "h2"):
            inside = block.text.upper() in titles
        if not inside:
            kept.append(block)
    return kept


def page_text(blocks: list[Block]) -> str:
    """Plain text: a blank line between paragraphs, none within lists, tables and definitions."""
    lines: list[str] = []
    before = None
    for block in blocks:
        if before is not None and not is_tight(before, block):
            lines.append("")
        lines.append(f"- {block.text}" if block.kind == "item" else block.text)
        before = block
    return "\n".join(lines) + "\n"


def is_tight(before: Block, block: Block) -> bool:
    """Whether the two stand on consecutive lines."""
    if before.kind == "term":
        return block.kind in ("text", "pre", "term")
    return before.kind == block.kind and block.kind in ("item", "row")
