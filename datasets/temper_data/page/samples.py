# SPDX-License-Identifier: Apache-2.0
"""Documents with every token and its borders visible, and targets coloured."""

from itertools import groupby

from ..errors import printable
from ..token_pieces import Piece
from ..visible_text import segments
from .collect import Sample, Split
from .markup import Html, Section, escape, number, plural, section, tag

LEGEND = """\
A line stands before each token. Context is what the model reads, and a target what it learns to
write. Where a character is made of several tokens, it stands in the last of them, and the others
show their bytes."""


def describe_samples(splits: list[Split], room: int) -> Section:
    """The section of all samples, of which those are left out that `room` bytes do not hold."""
    shown, left_out, size = [], 0, 0
    for sample in (sample for split in splits for sample in split.samples):
        made = describe_sample(sample)
        more = len(made.encode("utf-8"))
        if size + more > room:
            left_out += 1
            continue
        size += more
        shown.append(made)
    total = sum(split.lengths.documents for split in splits)
    counted = f"{plural(len(shown), 'document')} of {number(total)}, at equal distances."
    note = f" {plural(left_out, 'more')} would be too long for this page." if left_out else ""
    return section(
        "samples", "Samples", tag("p", counted + note, class_="lead"), describe_legend(), shown
    )


def describe_legend() -> Html:
    examples = [
        ("context", Html("<span><i>a token</i></span>")),
        ("target", Html("<mark><i>a token</i></mark>")),
        ("special token", Html("<span><i><b>&lt;|name|&gt;</b></i></span>")),
        ("bytes of a character", Html("<span><i><s>E2 80</s></i></span>")),
        ("blank, line break, tab", Html(
            '<span><i><u> </u><u class="n"></u><u class="t">\t</u></i></span>'
        )),
        ("character that shows nothing", Html("<span><i><s>ZWSP</s></i></span>")),
    ]  # fmt: skip
    keys = [
        tag("div", tag("dt", tag("span", shown, class_="tokens")), tag("dd", meaning))
        for meaning, shown in examples
    ]
    switch = tag("label", Html('<input type="checkbox" id="ids">'), " token ids")
    return tag("div", tag("p", LEGEND), tag("dl", keys, class_="legend"), tag("p", switch))


def describe_sample(sample: Sample) -> Html:
    name = f"{sample.split}-{sample.number}"
    pieces = sample.beginning + sample.end
    targets = sum(piece.is_target for piece in pieces)
    counts = f"{plural(sample.length, 'token')}, {plural(targets, 'target')}"
    if sample.left_out:
        counts = f"{plural(sample.length, 'token')}, of which {number(len(pieces))} are shown"
    title = f"{sample.split} {number(sample.number)}"
    heading = tag("h3", title, tag("small", f", {counts}"), id=name)
    tokens = [tag("div", runs(sample.beginning), class_="tokens")]
    if sample.left_out:
        gap = f"{plural(sample.left_out, 'token')} not shown"
        tokens += [tag("p", gap, class_="gap"), tag("div", runs(sample.end), class_="tokens")]
    return tag("article", heading, tokens, class_="find", aria_labelledby=name)


def runs(pieces: list[Piece]) -> Html:
    """Targets in a row are one marked run, which a screen reader can announce."""
    made = []
    for is_target, run in groupby(pieces, lambda piece: piece.is_target):
        name = "mark" if is_target else "span"
        made.append(f"<{name}>{''.join(token(piece) for piece in run)}</{name}>")
    return Html("".join(made))


def token(piece: Piece) -> str:
    return f"<i data-i={piece.id}>{''.join(part(*item) for item in piece.parts)}</i>"


def part(kind: str, text: str) -> str:
    if kind == "special":
        return f"<b>{escape(printable(text))}</b>"
    if kind == "bytes":
        return f"<s>{text or 'empty'}</s>"
    if kind == "unknown":
        return f"<s>no token {text}</s>"
    return "".join(segment(*item) for item in segments(text))


def segment(kind: str, text: str) -> str:
    """The search finds the text as it is: marks for what is not seen come from the style sheet."""
    if kind == "space":
        return f"<u>{text}</u>"
    if kind == "newline":
        return '<u class="n">\n</u>'
    if kind == "tab":
        return '<u class="t">\t</u>'
    if kind == "hidden":
        return f"<s>{escape(text)}</s>"
    if kind == "mark":
        return f'<u class="m"></u>{escape(text)}'
    return escape(text)
