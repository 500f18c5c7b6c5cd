# SPDX-License-Identifier: Apache-2.0
"""Text with what nobody sees made visible, for terminals and pages alike."""

import unicodedata

Segment = tuple[str, str]  # kind and text, see `segments`

ABBREVIATIONS = {
    "\0": "NUL", "\a": "BEL", "\b": "BS", "\v": "VT", "\f": "FF", "\r": "CR", "\x1b": "ESC",
    "\x7f": "DEL", "\x85": "NEL", "\xa0": "NBSP", "\xad": "SHY", "\u200b": "ZWSP",
    "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u200e": "LRM", "\u200f": "RLM", "\u2028": "LSEP",
    "\u2029": "PSEP", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO",
    "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI",
    "\u2069": "PDI", "\ufeff": "BOM",
}  # fmt: skip
# Characters of visible categories that show nothing: joiners, fillers, variation selectors, blanks.
BLANK = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800),
    (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
)  # fmt: skip
WIDE_SPACE = "\u3000"
DOTTED_CIRCLE = "\u25cc"  # what combining marks that stand alone are written on


def segments(text: str) -> list[Segment]:
    """The text of one token, piece by piece.

    Kinds: "text"; "space", one at an edge of the token or beside other white space; "newline";
    "tab"; "hidden", the name of a character that shows nothing or steers others; "mark", a
    combining mark at the very beginning, which would hide in the token before.
    """
    found: list[Segment] = []
    for place, character in enumerate(text):
        kind = kind_of(text, place)
        if kind == "hidden":
            character = name_of(character)
        if kind == "text" and found and found[-1][0] in ("text", "mark"):
            found[-1] = (found[-1][0], found[-1][1] + character)
        else:
            found.append((kind, character))
    return found


def kind_of(text: str, place: int) -> str:
    character = text[place]
    if character in " \n\t" + WIDE_SPACE:
        if character not in " " + WIDE_SPACE:
            return "newline" if character == "\n" else "tab"
        around = [text[at] for at in (place - 1, place + 1) if 0 <= at < len(text)]
        return "space" if len(around) < 2 or any(c.isspace() for c in around) else "text"
    category = unicodedata.category(character)
    if category[0] in "CZ" or any(low <= ord(character) <= high for low, high in BLANK):
        return "hidden"
    return "mark" if place == 0 and category in ("Mn", "Me") else "text"


def name_of(character: str) -> str:
    return ABBREVIATIONS.get(character) or f"U+{ord(character):04X}"
