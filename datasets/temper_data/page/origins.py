# SPDX-License-Identifier: Apache-2.0
"""The sections on what went in: sources with their shares, licences, layouts, the recipe."""

import json

from ..disk_space import size
from ..errors import printable
from .markup import (
    MAX_ROWS, Html, Section, bar, foreign, number, percent, plural, section, table, tag,
)  # fmt: skip

MAX_RECIPE = 20_000  # characters
OPTIONAL = (("documents", "documents"), ("tokens", "tokens"), ("targets", "targets"))
FROM = (("license", "licence"), ("origin", "origin"))


def describe_sources(report: dict) -> Section:
    """One row for each file, the first of them."""
    sources = [entry for entry in report.get("sources", []) if isinstance(entry, dict)]
    total = report.get("sources_total", len(sources))
    measure = "tokens" if all("tokens" in entry for entry in sources) else "bytes"
    whole = max(1, sum(entry.get(measure, 0) for entry in sources))
    counts = [(key, name) for key, name in OPTIONAL if any(key in entry for entry in sources)]
    texts = [(key, name) for key, name in FROM if any(entry.get(key) for entry in sources)]
    heads = ["file", *(name for _, name in counts), "size", f"share of {measure}", ""]
    rows = []
    for entry in sources[:MAX_ROWS]:
        share = entry.get(measure, 0) / whole
        cells = [number(entry[key]) if key in entry else "" for key, _ in counts]
        cells += [size(entry.get("bytes", 0)), percent(share), bar(share)]
        cells += [foreign(entry.get(key) or "not stated") for key, _ in texts]
        rows.append([foreign(entry.get("file", "")), *cells])
    kinds = "t" + "n" * (len(counts) + 2) + "b" + "t" * len(texts)
    lead = f"{plural(total, 'file')}, {size(sum(e.get('bytes', 0) for e in sources))}."
    if not texts:
        lead += " No licence or origin is stated."
    more = total - len(rows)
    return section(
        "sources", "Sources", tag("p", lead, class_="lead"),
        table("Files that were read", None, heads + [name for _, name in texts], rows, kinds),
        tag("p", f"And {plural(more, 'more file')}, listed in report.json.") if more > 0 else None,
        describe_layouts(report.get("layouts", [])),
    )  # fmt: skip


def describe_balance(report: dict) -> Section | None:
    """What share of a source's training tokens each class had, was to have, and has."""
    balances = report.get("balance")
    if not balances:
        return None
    heads = ["class", "tokens before", "tokens", "asked", "share", ""]
    tables = []
    for entry in balances[:MAX_ROWS]:
        rows = [
            [foreign(item["class"]), number(item["tokens"]), number(item["tokens_made"]),
             percent(item["asked"]), percent(item["share"]), bar(item["share"])]
            for item in entry["classes"][:MAX_ROWS]
        ]  # fmt: skip
        caption = printable(f"{entry['source']} by {entry['by']}")
        more = len(entry["classes"]) - len(rows)
        rest = tag("p", f"And {number(more)} more, listed in report.json.") if more > 0 else None
        tables += [table(caption, None, heads, rows, "tnnnnb"), rest]
    lead = "Classes of the training side, after all that was dropped for other reasons."
    return section("balance", "Balance", tag("p", lead, class_="lead"), tables)


def describe_layouts(layouts: list[dict]) -> Html | None:
    if not layouts:
        return None
    items = []
    for entry in layouts[:MAX_ROWS]:
        names = [f"{key} = {name}" for key, name in entry["columns"].items() if key != name]
        columns = f" with columns {', '.join(names)}" if names else ""
        items.append(tag("li", foreign(f"{entry['path']}: {entry['format']}{columns}")))
    return tag("div", tag("h3", "Layouts, guessed from the first records"), tag("ul", items))


def describe_notes(notes: list[str]) -> Section | None:
    if not notes:
        return None
    items = [tag("li", foreign(note)) for note in notes[:MAX_ROWS]]
    return section("notes", "Notes", tag("ul", items))


def describe_recipe(report: dict) -> Section | None:
    recipe = report.get("recipe")
    if not recipe:
        return None
    written = json.dumps(recipe, indent=2, sort_keys=True, ensure_ascii=False)
    lines = [printable(line, MAX_RECIPE) for line in written[:MAX_RECIPE].split("\n")]
    if len(written) > MAX_RECIPE:
        lines.append("... the rest is in report.json")
    shown = tag("pre", "\n".join(lines), tabindex="0")
    lead = "With the defaults of all keys that it does not name."
    opened = tag("details", tag("summary", "Show it"), shown)
    return section("recipe", "Recipe", tag("p", lead, class_="lead"), opened)
