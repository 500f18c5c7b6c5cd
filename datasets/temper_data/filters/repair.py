# SPDX-License-Identifier: Apache-2.0
"""Repairs what was damaged on the way: text decoded wrongly, and control characters."""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Terminal sequences, C0 without tab, line feed, form feed and return, DEL, C1 without NEXT LINE,
# and byte order marks. Joiners and marks of direction stay: Arabic, Persian, Indic scripts and
# emoji are written with them.
CONTROLS = "[\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufeff]"
ESCAPE = r"\x1b\[[0-9;?]{0,32}[A-Za-z]"
CONTROL = re.compile(f"{ESCAPE}|{CONTROLS}")
ANY_CONTROL = re.compile(CONTROLS)  # is found sooner than the sequences are
# A character of UTF-8 in another encoding is two or more of what these make of the upper bytes.
SINGLE_BYTE = ("latin-1", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "iso8859-2")
SINGLE_BYTE += ("mac_roman", "cp437")
BYTES = bytes(range(128, 256))
UPPER = "".join(sorted({c for name in SINGLE_BYTE for c in BYTES.decode(name, "ignore")}))
MOJIBAKE = re.compile(f"[{re.escape(UPPER)}]{{2}}")
CODE_LINE = re.compile(
    r"^[ \t]*(?:def |class \w+[(:{ ]|import [\w.]+|from [\w.]+ import |#include|#define|#!|//|/\*"
    r"|(?:var|let|const|int|void|public|private|static|return|function) |@\w+$)"
    r"|[;{}][ \t]*$|\)[ \t]*:[ \t]*$|=> |^[ \t]*[\w.]+ [+-]?= \S"
)
CODE_SHARE = 0.3  # of lines that look like code, in a text that does; arbitrary
SAMPLED_LINES = 200


def looks_like_code(text: str) -> bool:
    """Whether text is, or holds, a program. Judged by its first lines."""
    return "```" in text or has_code_lines(text.split("\n", SAMPLED_LINES)[:SAMPLED_LINES])


def has_code_lines(lines: list[str]) -> bool:
    """Whether many of the first lines look like code."""
    lines = [line for line in lines[:SAMPLED_LINES] if line.strip()]
    found = sum(CODE_LINE.search(line[:400]) is not None for line in lines)
    return found > CODE_SHARE * len(lines)


def may_be_mojibake(text: str) -> bool:
    """Quickly, and true of many texts that are none."""
    return not text.isascii() and MOJIBAKE.search(text) is not None


def fix_mojibake(text: str) -> tuple[str, int]:
    """The text as it was before it was decoded wrongly, and how many lines were.

    Goes line by line, since damaged and whole lines stand in one file where pages were joined.
    """
    from ftfy import fix_encoding  # Here, since most texts need none of it, and it takes its time.
    from ftfy.badness import is_bad
    from ftfy.fixes import fix_c1_controls

    lines = text.split("\n")
    changes = 0
    for number, line in enumerate(lines):
        if not may_be_mojibake(line) or not is_bad(line):
            continue
        fixed = fix_c1_controls(fix_encoding(line))
        if fixed != line:
            lines[number] = fixed
            changes += 1
    return ("\n".join(lines), changes) if changes else (text, 0)


def remove_control(text: str) -> tuple[str, int]:
    """The text without control characters, and how many there were."""
    return CONTROL.subn("", text) if ANY_CONTROL.search(text) else (text, 0)


def replacement_share(text: str) -> float:
    """Share of characters that stand for bytes which could not be decoded."""
    return text.count(REPLACEMENT) / max(1, len(text))
