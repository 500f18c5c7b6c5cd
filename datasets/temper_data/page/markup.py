# SPDX-License-Identifier: Apache-2.0
"""HTML that is safe by construction: whatever is no `Html` is escaped."""

import html
from dataclasses import dataclass

from ..errors import printable

MAX_TEXT = 600  # characters of one text of the input; arbitrary
MAX_ROWS = 50  # of one table; the numbers above it are always of all


class Html(str):
    """Text that is HTML already."""


def escape(text: str) -> str:
    """Also half surrogate pairs, which UTF-8 cannot hold, become something visible."""
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(whole.replace("\0", "\ufffd"))


def render(child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, (list, tuple)):
        return "".join(render(item) for item in child)
    return escape(str(child))


def tag(name: str, *children, **attributes) -> Html:
    """An element; `class_` stands for class, and `_` within a name for `-`. None: no attribute."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{render(children)}</{name}>")


def foreign(text, limit: int = MAX_TEXT) -> Html:
    """A text of the input, on one line, whatever its direction of writing."""
    return tag("bdi", printable(str(text), limit))


def number(value: int) -> str:
    return f"{value:,}"


def percent(share: float) -> str:
    """With as many digits as tell a small share from none."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def plural(count: int, noun: str) -> str:
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Section:
    """A part of the page that its contents name."""

    name: str  # in addresses
    title: str
    body: Html

    def html(self) -> Html:
        heading = tag("h2", self.title, id=f"{self.name}-title")
        labelled = f"{self.name}-title"
        return tag("section", heading, self.body, id=self.name, aria_labelledby=labelled)

    def size(self) -> int:
        """Bytes."""
        return len(self.html().encode("utf-8"))


def section(name: str, title: str, *children) -> Section:
    return Section(name, title, Html(render(children)))


def facts(pairs: list[tuple]) -> Html:
    """Names and values."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs])


def table(
    caption: str, note: Html | None, heads: list[str], rows: list[list], columns: str
) -> Html:
    """`columns` has one letter for each column: n for numbers, t for text, b for bars."""
    classes = {"n": "number", "t": None, "b": "bars"}
    kinds = [classes[letter] for letter in columns]
    top = [tag("th", h, scope="col", class_=k) for h, k in zip(heads, kinds, strict=True)]
    body = []
    for row in rows:
        first, *others = row
        cells = [tag("th", first, scope="row", class_=kinds[0])]
        cells += [tag("td", v, class_=k) for v, k in zip(others, kinds[1:], strict=True)]
        body.append(tag("tr", cells))
    made = [tag("caption", caption, note), tag("thead", tag("tr", top)), tag("tbody", body)]
    region = {"tabindex": "0", "role": "region", "aria_label": caption}
    return tag("div", tag("table", made), class_="wide", **region)


def bar(share: float) -> Html:
    """A bar of a table; the number stands beside it."""
    width = f"{100 * min(1.0, max(0.0, share)):.2f}".rstrip("0").rstrip(".")
    return Html(
        '<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="1"/><rect width="{width}" height="1"/></svg>'
    )
