# SPDX-License-Identifier: Apache-2.0
"""Whose leave a source is used by: what a recipe states, and which licences it allows."""

from .errors import is_unicode, printable
from .section import Section

MAX_CHARACTERS = 500


def parse_statement(section: Section, key: str) -> str:
    """The source's `license` or `origin`: one line, that a table can hold; "" if not stated."""
    text = section.text(key, "")
    stated = section.has(key)
    if stated and is_unicode(text) and (not text.strip() or not is_line(text)):
        section.reject(
            key, f"is '{printable(text)}'",
            f"write one line of at most {MAX_CHARACTERS} characters, or leave it out",
        )  # fmt: skip
    return text.strip()


def is_line(text: str) -> bool:
    return text.isprintable() and len(text) <= MAX_CHARACTERS


def check_licenses(section: Section, sources: list[Section], stated: list[str]) -> tuple[str, ...]:
    """Reads `allow_licenses`, and refuses each source of another licence, or of none.

    `stated` has the licence of each source. Capitals do not count: SPDX identifiers have one
    meaning in either form.
    """
    allowed = section.texts("allow_licenses")
    if section.has("allow_licenses") and not allowed:
        section.reject("allow_licenses", "allows no licence", "name at least one, or remove it")
    if not allowed:
        return allowed
    listed = ", ".join(allowed)
    names = {name.casefold() for name in allowed}
    for source, license in zip(sources, stated, strict=True):
        if not license:
            source.reject("license", f"is missing, and allow_licenses is {listed}",
                          "state the source's licence, or remove the source")  # fmt: skip
        elif license.casefold() not in names:
            source.reject("license", f"is '{license}', and allow_licenses is {listed}",
                          "remove the source, or add its licence there")  # fmt: skip
    return allowed


def with_statements(described: list[dict], files: list) -> list[dict]:
    """What each file was, with what the recipe states of its source."""
    stated = {str(file.path): file.source for file in files}
    result = []
    for entry in described:
        source = stated[entry["file"]]
        own = {"license": source.license, "origin": source.origin}
        result.append(entry | {key: text for key, text in own.items() if text})
    return result


def note_on_licenses(sources) -> list[str]:
    """What is said where only some of a recipe's sources state their licence."""
    silent = [printable(source.path) for source in sources if not source.license]
    if not silent or len(silent) == len(sources):
        return []
    others = " and others" if len(silent) > 10 else ""
    return [f"no license is stated for {', '.join(silent[:10])}{others}"]
