# SPDX-License-Identifier: Apache-2.0
"""The recipe: what to prepare, from what, for which model."""

import glob
import os
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from .errors import DataError
from .file_kind import FileKind, recognise
from .section import Section
from .yaml_tree import override, read_tree

FORMATS = {
    "pretrain": ("auto", "text", "jsonl"),
    "sft": ("messages", "sharegpt", "instruction", "prompt_completion"),
}
DEFAULT_FIELDS = {"jsonl": "text", "messages": "messages", "sharegpt": "conversations"}


@dataclass(frozen=True)
class Source:
    """Files that are read alike."""

    path: str  # a file name or glob pattern
    format: str  # "auto": text or jsonl, file by file
    field: str  # JSON field that holds the text or the list of messages; "" if there is none
    separator: str | None  # text: the line between documents; None: a file is one document


@dataclass(frozen=True)
class InputFile:
    """One file of a source, whose format is no longer "auto"."""

    source: Source
    path: Path
    kind: FileKind


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which bytes come out, and where. See configs/data/ for examples."""

    kind: str
    model: str
    output: str
    sources: tuple[Source, ...]
    holdout_fraction: float  # share of documents kept for evaluation; 1: all of them
    holdout_by: str  # "document", or the JSON field whose values stay on one side
    holdout_salt: str
    max_tokens: int  # longest document; 0: any length
    too_long: str  # "drop" or "cut" (keep the first max_tokens)
    deduplicate: bool
    eos_token: str  # pretrain: token after each document; "": the tokenizer's own
    system: str  # sft: system message of conversations that have none; "": none
    date: str  # sft: the day that the template's strftime_now() tells
    max_record_bytes: int  # longest line, or file that is one document
    seconds_per_document: int  # for rendering and tokenising
    workers: int  # processes; 0: one per core. Does not change the result

    def identity(self) -> dict:
        """What the result depends on, as JSON values."""
        values = asdict(self)
        for key in ("model", "output", "workers"):  # The tokenizer has its own hash.
            del values[key]
        return values


def load_recipe(path: Path, assignments: list[str]) -> Recipe:
    """Reads a recipe and applies `key=value` overrides. Raises DataError with every problem."""
    tree = read_tree(path)
    for assignment in assignments:
        override(tree, assignment)
    problems: list[str] = []
    recipe = parse_recipe(Section(tree, problems))
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise DataError(f"{path}: {count}\n" + "\n".join(problems), "correct the recipe")
    return recipe


def parse_recipe(section: Section) -> Recipe:
    kind = section.text("kind", choices=tuple(FORMATS))
    sources = tuple(parse_source(item, kind) for item in section.sections("sources"))
    holdout = section.section("holdout")
    recipe = Recipe(
        kind=kind,
        model=section.path("model"),
        output=section.path("output"),
        sources=sources,
        holdout_fraction=holdout.fraction("fraction", 0.0),
        holdout_by=holdout.text("by", "document"),
        holdout_salt=holdout.text("salt", ""),
        max_tokens=section.integer("max_tokens", 0, 0),
        too_long=section.text("too_long", "drop", ("drop", "cut")),
        deduplicate=section.boolean("deduplicate", True),
        eos_token=section.text("eos_token", ""),
        system=section.text("system", ""),
        date=section.text("date", ""),
        max_record_bytes=section.integer("max_record_bytes", 16 << 20, 1, 1 << 31),
        seconds_per_document=section.integer("seconds_per_document", 10, 1, 86400),
        workers=section.integer("workers", 0, 0, 4096),
    )
    holdout.finish()
    check_across(section, recipe)
    section.finish()
    return recipe


def parse_source(section: Section, kind: str) -> Source:
    path = section.path("path")
    choices = FORMATS.get(kind, sum(FORMATS.values(), ()))
    layout = section.text("format", "messages" if kind == "sft" else "auto", choices)
    field, separator = "", None
    if layout in DEFAULT_FIELDS or layout == "auto":
        field = section.text("field", DEFAULT_FIELDS.get(layout, "text"))
    if layout in ("text", "auto") and section.has("separator"):
        separator = section.text("separator")
    if layout == "auto" and section.has("field") and separator is not None:
        section.reject("separator", "is for text, and field for jsonl", "remove one, or set format")
    source = Source(path, layout, field, separator)
    section.finish()
    return source


def check_across(section: Section, recipe: Recipe) -> None:
    """Rules that concern more than one key."""
    if recipe.max_tokens == 1:
        section.reject("max_tokens", "leaves no token to predict", "set it to 2 or more, or 0")
    if recipe.kind == "sft" and recipe.eos_token:
        section.reject("eos_token", "is for kind pretrain: a template ends turns", "remove it")
    if recipe.kind == "pretrain":
        for key in ("system", "date"):
            if getattr(recipe, key):
                section.reject(key, "is for kind sft", "remove it")
    if recipe.date and not is_date(recipe.date):
        section.reject("date", f"is '{recipe.date}'", "write it as YYYY-MM-DD")
    plain = any(source.format == "text" for source in recipe.sources)  # Of "auto" see find_files.
    if plain and recipe.holdout_by != "document":
        section.reject("holdout", "goes by a field, but plain text has none", "set by: document")


def is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def find_files(recipe: Recipe) -> list[InputFile]:
    """All files of all sources: sources in the recipe's order, files of one by name.

    Raises DataError if a path matches nothing, or a file is named twice or of another kind.
    """
    found: list[InputFile] = []
    seen: set[str] = set()
    for source in recipe.sources:
        for name in matching(source.path):
            if os.path.realpath(name) in seen:
                raise DataError(f"{name} is named by two sources", "list each file once")
            seen.add(os.path.realpath(name))
            found.append(resolve(recipe, source, Path(name)))
    return found


def matching(path: str) -> list[str]:
    """The files that `path` names: itself if there is such a file, else what matches it."""
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder", f"name its files, for instance {path}/**/*.jsonl")
    names = sorted(glob.glob(path, recursive=True), key=os.fsencode)
    names = [name for name in names if os.path.isfile(name)]
    if not names:
        raise DataError(
            f"no file matches {path} (from {os.getcwd()})",
            "correct the path of this source; ** matches any depth of folders, "
            "and a pattern must write [[] for a [ in a name",
        )
    return names


def resolve(recipe: Recipe, source: Source, path: Path) -> InputFile:
    kind = recognise(path, source.format)
    if kind.format == "text" and recipe.holdout_by != "document":
        raise DataError(
            f"the hold-out goes by {recipe.holdout_by}, but {path} is plain text without fields",
            "set holdout.by: document, or name only JSON files",
        )
    return InputFile(replace(source, format=kind.format), path, kind)
