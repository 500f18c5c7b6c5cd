# SPDX-License-Identifier: Apache-2.0
"""Documents in a terminal: every token with its borders, and targets told from context."""

import os
from dataclasses import dataclass
from itertools import groupby
from typing import TextIO

from .errors import printable
from .token_pieces import Piece
from .visible_text import DOTTED_CIRCLE, segments

RESET, DIM, BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
TARGET, SPECIAL = "\x1b[32m", "\x1b[35m"


@dataclass(frozen=True)
class Style:
    """How things are written: with colours or without, in Unicode or in ASCII."""

    is_coloured: bool
    is_unicode: bool

    @staticmethod
    def of(stream: TextIO) -> "Style":
        """As the stream can show. Source of NO_COLOR: https://no-color.org."""
        coloured = stream.isatty() and not os.environ.get("NO_COLOR")
        coloured = coloured and os.environ.get("TERM") != "dumb"
        try:
            "│⟦⟧‹›↵⇥·◌".encode(stream.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return Style(coloured, False)
        return Style(coloured, True)

    @property
    def border(self) -> str:
        return self.paint(DIM, "│" if self.is_unicode else "|")

    @property
    def target_marks(self) -> tuple[str, str]:
        """Around a run of targets; where there are colours these tell them."""
        if self.is_coloured:
            return "", ""
        return ("⟦", "⟧") if self.is_unicode else ("[[", "]]")

    @property
    def special_marks(self) -> tuple[str, str]:
        """Around a special token, which else looks like text that spells it."""
        if self.is_coloured:
            return "", ""
        return ("‹", "›") if self.is_unicode else ("<<", ">>")

    @property
    def signs(self) -> dict[str, str]:
        """For segments whose characters are not seen."""
        if self.is_unicode:
            return {"space": "·", "newline": "↵", "tab": "⇥", "mark": DOTTED_CIRCLE}
        return {"space": "_", "newline": "\\n", "tab": "\\t", "mark": ""}

    def paint(self, codes: str, text: str) -> str:
        return f"{codes}{text}{RESET}" if self.is_coloured and text else text

    def title(self, begin: str, pieces: list[Piece]) -> str:
        targets = sum(piece.is_target for piece in pieces)
        return self.paint(BOLD, f"{begin}{len(pieces)} tokens, {targets} targets")


def show_document(pieces: list[Piece], style: Style) -> str:
    """As running text. A border stands before each token; line breaks break the line, too."""
    made = []
    for is_target, run in groupby(pieces, lambda piece: piece.is_target):
        opening, closing = style.target_marks if is_target else ("", "")
        tokens = [style.border + show_token(piece, style, "\n") for piece in run]
        made.append(opening + "".join(tokens) + closing)
    return "".join(made)


def show_ids(pieces: list[Piece], style: Style) -> str:
    """One token a line: its place, its id, T for a target, and the token."""
    digits = len(str(max(piece.id for piece in pieces)))
    places = len(str(len(pieces) - 1))
    lines = []
    for place, piece in enumerate(pieces):
        numbers = f"{place:>{places}}  {piece.id:>{digits}}  {'T' if piece.is_target else ' '}"
        lines.append(f"{numbers}  {style.border}{show_token(piece, style, '')}{style.border}")
    return "\n".join(lines)


def show_token(piece: Piece, style: Style, line_end: str) -> str:
    """`line_end` follows the sign of a line break."""
    colour = TARGET if piece.is_target else ""
    return "".join(show_part(kind, text, style, (colour, line_end)) for kind, text in piece.parts)


def show_part(kind: str, text: str, style: Style, how: tuple[str, str]) -> str:
    colour, line_end = how
    if kind == "special":
        opening, closing = style.special_marks
        return style.paint(SPECIAL, f"{opening}{printable(text)}{closing}")
    if kind in ("bytes", "unknown"):
        name = "no token " if kind == "unknown" else ""
        return style.paint(colour + DIM, f"<{name}{text}>")
    made = []
    for segment, characters in segments(text):
        sign = style.signs.get(segment, "")
        if segment == "hidden":
            made.append(style.paint(colour + DIM, f"<{characters}>"))
        elif segment == "newline":
            made.append(style.paint(colour + DIM, sign) + line_end)
        elif segment in ("space", "tab"):
            made.append(style.paint(colour + DIM, sign))
        else:
            made.append(style.paint(colour, sign + characters))
    return "".join(made)
