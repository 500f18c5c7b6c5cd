# SPDX-License-Identifier: Apache-2.0
"""The sections on how much there is: key figures, lengths of documents, and full rows."""

from ..packed_rows import Fill
from ..shard_lengths import Distribution
from .collect import Split
from .markup import Html, Section, bar, facts, number, percent, plural, section, table, tag


def describe_overview(splits: list[Split], report: dict) -> Html:
    figures = []
    for split in splits:
        lengths = split.lengths
        trained = lengths.targets / lengths.tokens
        figures.append(
            tag("div", tag("h3", split.name), facts([
                ("documents", number(lengths.documents)),
                ("tokens", number(lengths.tokens)),
                ("targets", [number(lengths.targets), tag("small", percent(trained))]),
            ]))
        )  # fmt: skip
    dropped = report.get("dropped")
    if dropped is not None:
        count = ("records", number(sum(dropped.values())))
        figures.append(tag("div", tag("h3", "dropped"), facts([count])))
    return tag("div", figures, class_="figures")


def describe_identity(splits: list[Split], report: dict) -> Section:
    """By what a shard is known, for those who compare."""
    pairs = [("kind", splits[0].header["kind"]), ("vocabulary", number_of(splits, "vocab_size"))]
    pairs += [("tokenizer", splits[0].header["tokenizer_sha256"])]
    if splits[0].header["chat_template_sha256"]:
        pairs += [("chat template", splits[0].header["chat_template_sha256"])]
    pairs += [(f"{split.name} fingerprint", split.header["fingerprint"]) for split in splits]
    pairs += [("made by", report["program"])] if "program" in report else []
    return section("identity", "Identity", facts(pairs))


def number_of(splits: list[Split], name: str) -> str:
    return number(splits[0].header[name])


def describe_lengths(splits: list[Split]) -> Section:
    parts = []
    for split in splits:
        lengths = split.lengths
        parts += [tag("h3", split.name), histogram(lengths.lengths, "Tokens per document")]
        if lengths.kind == "sft":
            parts.append(histogram(lengths.trained, "Targets per document"))
    lead = "Each bar counts the documents from one length up to the next."
    charts = tag("div", parts, class_="charts")
    return section("lengths", "Lengths", tag("p", lead, class_="lead"), charts)


def histogram(values: Distribution, caption: str) -> Html:
    buckets = values.buckets()
    most = max(count for _, _, count in buckets)
    rows = [[span(low, high), number(count), bar(count / most)] for low, high, count in buckets]
    return table(caption, tag("small", values.summary()), ["length", "documents", ""], rows, "nnb")


def span(low: int, high: int) -> str:
    return number(low) if low == high else f"{number(low)}\u2013{number(high)}"


def describe_rows(splits: list[Split]) -> Section:
    packed = splits[0].lengths.kind == "sft"
    lead = (
        "Conversations are packed whole, the longest first, each into the row with the least room "
        "that fits it. What is longer than a row is cut, and left out if no target remains."
        if packed
        else "Text is cut wherever a row is full, so only the last row has room left."
    )
    tables = [rows_of(split.name, split.lengths.fills(), packed) for split in splits]
    return section("rows", "Rows of a batch", tag("p", lead, class_="lead"), tables)


def rows_of(name: str, fills: list[Fill], packed: bool) -> Html:
    heads = ["tokens in a row", "rows", *["cut", "left out"] * packed, "filled", ""]
    rows = []
    for fill in fills:
        lost = [number(fill.cut), number(fill.without_target)] * packed
        row = [number(fill.sequence_length), number(fill.rows), *lost]
        rows.append([*row, percent(fill.share), bar(fill.share)])
    return table(f"Rows of {name}", None, heads, rows, "nn" + "nn" * packed + "nb")
