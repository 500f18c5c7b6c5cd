# SPDX-License-Identifier: Apache-2.0
"""Takes out what is left of HTML: tags, entities, scripts and style sheets."""

import html
import re

TAG_NAMES = (
    "a|abbr|article|aside|b|blockquote|body|br|button|caption|center|cite|code|dd|div|dl|dt|em"
    "|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|label|li"
    "|link|main|meta|nav|noscript|ol|option|p|pre|script|section|select|small|span|strong|style"
    "|sub|sup|table|tbody|td|tfoot|th|thead|title|tr|u|ul|video"
)
BLOCKS = re.compile(
    r"</?(?:article|br|dd|div|dl|dt|h[1-6]|hr|li|ol|p|section|table|tr|ul)\b", re.IGNORECASE
)
TAG = re.compile(rf"</?(?:{TAG_NAMES})(?:\s[^<>]{{0,2000}})?/?>|<!DOCTYPE[^<>]{{0,400}}>", re.I)
OPENING = re.compile(r"<(script|style)\b[^<>]{0,2000}>|<!--", re.IGNORECASE)
ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
# Lines that only programs and style sheets of pages have; prose never looks like this.
REMAINS = re.compile(
    r"""^[ \t]*(?:
      [.\#@]?[\w-]+(?:[ ,.>:\#]+[\w-]+){0,8}[ \t]*\{[^{}\n]{0,2000}:[^{}\n]{0,2000};?[ \t]*\}
      |(?:window|document|jQuery|\$)[.(][^\n]{0,2000};
      |(?:var|let|const)[ ]+[\w$]+[ ]*=[^\n]{0,2000};
      |\(?function[ ]*\w*\([^()\n]{0,200}\)[ ]*\{[^\n]{0,2000}\}[\s();]*
      )[ \t]*$\n?""",
    re.MULTILINE | re.VERBOSE,
)
BLANKS = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


def strip_markup(text: str) -> tuple[str, int]:
    """The text without markup, and how many pieces of it there were."""
    text, elements = remove_elements(text)
    text, tags = TAG.subn(separate, text)
    text, remains = REMAINS.subn("", text)
    text, entities = ENTITY.subn(lambda found: html.unescape(found.group()), text)
    changes = elements + tags + remains + entities
    return (BLANKS.sub("\n\n", text).strip("\n") if changes else text), changes


def separate(tag: re.Match) -> str:
    """What stands in a tag's place: a line break where pages show one."""
    return "\n" if BLOCKS.match(tag.group()) else ""


def remove_elements(text: str) -> tuple[str, int]:
    """Without scripts, style sheets and comments; those that are not closed stay, for the eye.

    Searches each end once, so that many that are not closed take no quadratic time.
    """
    parts, begin, changes = [], 0, 0
    missing: set[str] = set()
    position = 0
    folded = text.lower() if text.isascii() else fold_ascii(text)
    while found := OPENING.search(text, position):
        end_mark = f"</{found[1].lower()}>" if found[1] else "-->"
        end = -1 if end_mark in missing else folded.find(end_mark, found.end())
        if end < 0:
            missing.add(end_mark)
            position = found.end()
            continue
        parts.append(text[begin : found.start()])
        begin = position = end + len(end_mark)
        changes += 1
    return "".join(parts) + text[begin:], changes


def fold_ascii(text: str) -> str:
    """Lower case of the Latin letters alone, so that no position moves."""
    return text.translate({code: code + 32 for code in range(ord("A"), ord("Z") + 1)})
