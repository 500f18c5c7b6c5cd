# SPDX-License-Identifier: Apache-2.0
"""What every page has around its sections: one file, with a style and a script of its own, that
asks for nothing else."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from .markup import Html, Section, tag

HERE = Path(__file__).parent
SKIP = Html('<a class="skip" href="#main">Skip to the content</a>')


@dataclass(frozen=True)
class Frame:
    """A kind of page. Its style and script follow those of the frame."""

    title: str
    style: str
    script: str = ""
    search_label: str = ""  # empty: there is no search
    nouns: tuple[str, str] = ("sample", "example")  # what the search counts: articles, and others
    refresh_seconds: int = 0  # 0: the page stays as it is

    def page(self, header: Html, sections: list[Section]) -> str:
        """The whole file."""
        main = tag("main", [part.html() for part in sections], id="main")
        search = read(HERE / "frame.js") if self.search_label else ""
        shown = [header, self._tools(sections), main]
        return whole(self.title, self.style, search + self.script, shown, self.refresh_seconds)

    def _tools(self, sections: list[Section]) -> Html:
        """Contents and search."""
        links = []
        for made in sections:
            links.append(tag("li", tag("a", made.title, href=f"#{made.name}")))
        contents = tag("nav", tag("ul", links), aria_label="Contents")
        if not self.search_label:
            return tag("div", contents, class_="tools")
        search = Html(
            f'<form role="search"><label for="find">{self.search_label}</label>'
            '<input type="search" id="find" placeholder="Search" autocomplete="off" '
            f'spellcheck="false" data-nouns="{" ".join(self.nouns)}" disabled>'
            '<output id="found" for="find"></output></form>'
        )
        return tag("div", contents, search, class_="tools")


def whole(
    title: str, style: str, script: str, shown: list[Html], refresh_seconds: int = 0
) -> str:
    """A file of the parts of its body, with the frame's style before its own."""
    style = read(HERE / "frame.css") + style
    allowed = f"style-src {hash_of(style)}; script-src {hash_of(script)}; img-src data:"
    policy = f"default-src 'none'; {allowed}"
    again = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds else ""
    head = Html(
        '<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"{again}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{style}</style>"
        f'<script type="module">{script}</script></head>'
    )
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", SKIP, *shown)}</html>\n'


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    """By which the browser tells the page's own style and script from any other."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page_header(kicker: str, title: str, *overview: Html) -> Html:
    """What stands above the contents: what the page is of, and its key figures."""
    top = tag("div", tag("p", kicker, class_="kicker"), colours(), class_="top")
    return tag("header", top, tag("h1", title), *overview)


def colours() -> Html:
    """The choice of the scheme, which the style sheet alone obeys."""
    choices = [
        Html(f'<label><input type="radio" name="scheme" value="{value}" id="{value}"{on}>'
             f"<span>{value}</span></label>")
        for value, on in (("auto", " checked"), ("light", ""), ("dark", ""))
    ]  # fmt: skip
    return tag("fieldset", tag("legend", "Colours"), choices)
