# SPDX-License-Identifier: Apache-2.0
"""The recipe: what to prepare, from what, for which model."""

import os
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

from .balance import Balance, parse_options
from .columns import parse_columns
from .conversation_options import ConversationOptions, parse_conversation_options
from .errors import DataError
from .file_kind import FileKind, recognise
from .filters.options import FilterOptions, parse_filters
from .licences import check_licenses, parse_statement
from .section import Section, read_sections
from .source_paths import matching, note_on_folder

FORMATS = {
    "pretrain": ("auto", "text", "jsonl"),
    "sft": (
        "auto", "messages", "sharegpt", "instruction", "prompt_completion", "question_answer",
        "preference",
    ),
}  # fmt: skip
ALL_SOURCES = "all sources"  # in messages
DEFAULT_FIELDS = {"jsonl": "text", "messages": "messages", "sharegpt": "conversations"}


@dataclass(frozen=True)
class Source:
    """Files that are read alike."""

    path: str  # a file name or glob pattern
    format: str  # "auto": text or jsonl by name, a layout of conversations by content
    field: str  # JSON field that holds the text or the list of messages; "" if there is none
    separator: str | None  # text: the line between documents; None: a file is one document
    columns: dict[str, str] = field(default_factory=dict)  # the layout's name to the source's own
    license: str = ""  # as the recipe states it; "": it does not
    origin: str = ""  # where it comes from; the same
    balance: Balance = Balance()  # of the classes of its records


@dataclass(frozen=True)
class InputFile:
    """One file of a source, whose format is no longer "auto"."""

    source: Source
    path: Path
    kind: FileKind


@dataclass(frozen=True)
class NearDuplicates:
    """Which documents count as nearly the same, and what becomes of them."""

    action: str  # "off", "report" (keeps all, on one side of the hold-out) or "drop" (keeps one)
    threshold: float  # Jaccard similarity of their n-grams
    ngram: int  # words; characters in scripts without spaces


@dataclass(frozen=True)
class Overlap:
    """What must not be in the training side."""

    evaluation: tuple[str, ...]  # files, or patterns, of evaluation sets
    holdout: bool  # also what the recipe itself holds out
    words: int  # in a row, that count as an overlap
    characters: int  # the same in scripts without spaces


@dataclass(frozen=True)
class LengthOutlierOptions:
    """Documents of a length unlike that of their source's others; see length_outliers.py."""

    action: str = "off"  # "off", "report" (keeps them) or "drop"
    deviations: float = 3.5  # of logarithms from their median, that are still usual


# Keys that an identity has only where they say something: without them the recipe is the one that
# it was before there were such keys.
UNSAID = {
    "license": "", "origin": "", "balance": asdict(Balance()),
    "allow_licenses": (), "shard_tokens": 0, "on_error": "count",
}  # fmt: skip


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
    too_long: str  # "drop", "cut" (text: the first max_tokens; sft: whole turns), "split" (text)
    deduplicate: bool
    near: NearDuplicates
    overlap: Overlap
    eos_token: str  # pretrain: token after each document; "": the tokenizer's own
    system: str  # sft: system message of conversations that have none; "": none
    date: str  # sft: the day that the template's strftime_now() tells
    conversations: ConversationOptions  # sft: how they are rendered, and what of them is learnt
    max_record_bytes: int  # longest line, or file that is one document
    seconds_per_document: int  # for rendering and tokenising
    workers: int  # processes; 0: one per core. Does not change the result
    filters: FilterOptions = FilterOptions()
    allow_licenses: tuple[str, ...] = ()  # that sources may have; (): any, or none
    shard_tokens: int = 0  # cuts a split into files of at most so many; 0: one file
    on_error: str = "count"  # what becomes of a bad record: it is left out, or "stop" ends all
    length_outliers: LengthOutlierOptions = LengthOutlierOptions()
    page: bool = True  # whether report.html is written
    balance: Balance = Balance()  # of the classes of all sources together

    def identity(self) -> dict:
        """What the result depends on, as JSON values."""
        values = asdict(self)
        for key in ("model", "output", "workers", "page"):  # The tokenizer has its own hash.
            del values[key]
        values["sources"] = tuple(map(without_defaults, values["sources"]))
        return without_defaults(values)

    def compares_documents(self) -> bool:
        """Whether documents wait until all are read, since what becomes of one hangs on others."""
        return self.balances() or self.length_outliers.action != "off" or self.compares_texts()

    def balances(self) -> bool:
        return any(options.by for _, options, _ in self.balanced_groups())

    def balance_of(self, source: Source) -> Balance:
        return self.balance if self.balance.by else source.balance

    def balanced_groups(self) -> list[tuple[str, Balance, list[str]]]:
        """Sources whose classes share tokens with each other: a name, how, and the paths."""
        if self.balance.by:
            return [(ALL_SOURCES, self.balance, [source.path for source in self.sources])]
        return [(source.path, source.balance, [source.path]) for source in self.sources]

    def compares_texts(self) -> bool:
        return self.near.action != "off" or bool(self.overlap.evaluation) or self.overlap.holdout


def load_recipe(path: Path, assignments: list[str]) -> Recipe:
    """Reads a recipe and applies `key=value` overrides. Raises DataError with every problem."""
    return read_sections(path, assignments, parse_recipe, "correct the recipe")


def without_defaults(values: dict) -> dict:
    """The values of a recipe, or of one of its sources, but for those of `UNSAID`."""
    return {k: v for k, v in values.items() if k not in UNSAID or v != UNSAID[k]}


def parse_recipe(section: Section) -> Recipe:
    kind = section.text("kind", choices=tuple(FORMATS))
    parts = section.sections("sources")
    sources = tuple(parse_source(item, kind) for item in parts)
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
        too_long=section.text("too_long", "drop", ("drop", "cut", "split")),
        deduplicate=section.boolean("deduplicate", True),
        near=parse_near(section.section("near_duplicates")),
        overlap=parse_overlap(section.section("decontaminate")),
        eos_token=section.text("eos_token", ""),
        system=section.text("system", ""),
        date=section.text("date", ""),
        conversations=parse_conversation_options(section, kind),
        max_record_bytes=section.integer("max_record_bytes", 16 << 20, 1, 1 << 31),
        seconds_per_document=section.integer("seconds_per_document", 10, 1, 86400),
        workers=section.integer("workers", 0, 0, 4096),
        filters=parse_filters(section.section("filters"), kind),
        allow_licenses=check_licenses(section, parts, [source.license for source in sources]),
        shard_tokens=section.integer("shard_tokens", 0, 0),
        on_error=section.text("on_error", "count", ("count", "stop")),
        length_outliers=parse_length_outliers(section.section("length_outliers")),
        page=section.boolean("page", True),
        balance=parse_balance(section, sources),
    )
    holdout.finish()
    check_across(section, recipe)
    section.finish()
    return recipe


def parse_near(section: Section) -> NearDuplicates:
    near = NearDuplicates(
        action=section.text("action", "off", ("off", "report", "drop")),
        threshold=section.fraction("threshold", 0.8),
        ngram=section.integer("ngram", 5, 1, 100),
    )
    if near.threshold < 0.3:
        section.reject("threshold", "is below 0.3: texts of one topic are that alike", "set 0.8")
    section.finish()
    return near


def parse_length_outliers(section: Section) -> LengthOutlierOptions:
    options = LengthOutlierOptions(
        action=section.text("action", "off", ("off", "report", "drop")),
        deviations=section.number("deviations", 3.5, 1, 100),
    )
    section.finish()
    return options


def parse_overlap(section: Section) -> Overlap:
    overlap = Overlap(
        evaluation=section.texts("evaluation"),
        holdout=section.boolean("holdout", False),
        words=section.integer("words", 13, 5, 100),
        characters=section.integer("characters", 20, 8, 200),
    )
    section.finish()
    return overlap


def parse_source(section: Section, kind: str) -> Source:
    path = section.path("path")
    choices = FORMATS.get(kind, sum(FORMATS.values(), ()))
    layout = section.text("format", "auto", choices)
    name, separator = "", None
    if layout in DEFAULT_FIELDS or layout == "auto":
        name = section.text("field", DEFAULT_FIELDS.get(layout, "" if kind == "sft" else "text"))
    if layout in ("text", "auto") and kind != "sft" and section.has("separator"):
        separator = section.text("separator")
    if layout == "auto" and section.has("field") and separator is not None:
        section.reject("separator", "is for text, and field for jsonl", "remove one, or set format")
    columns = parse_columns(section, layout, kind)
    statements = (parse_statement(section, "license"), parse_statement(section, "origin"))
    source = Source(path, layout, name, separator, columns, *statements)
    source = replace(source, balance=parse_balance(section, (source,)))
    section.finish()
    return source


def parse_balance(section: Section, sources: tuple[Source, ...]) -> Balance:
    """The map `balance` of one source, or of a recipe for all of them."""
    balance = parse_options(section)
    if balance.by and any(s.format == "text" or s.separator is not None for s in sources):
        section.reject("balance", "is for records, and plain text has no fields", "remove it")
    if balance.by and any(source.balance.by for source in sources):
        section.reject("balance", "is there for all sources and for one of them", "remove one")
    return balance


def check_across(section: Section, recipe: Recipe) -> None:
    """Rules that concern more than one key."""
    if recipe.max_tokens == 1:
        section.reject("max_tokens", "leaves no token to predict", "set it to 2 or more, or 0")
    if recipe.kind == "sft" and recipe.eos_token:
        section.reject("eos_token", "is for kind pretrain: a template ends turns", "remove it")
    if recipe.too_long == "split" and recipe.kind == "sft":
        section.reject("too_long", "is split, which is for text", "set it to cut: at a turn's end")
    if recipe.too_long == "split" and not recipe.max_tokens:
        section.reject("too_long", "is split, but max_tokens allows any length", "set max_tokens")
    if recipe.kind == "pretrain":
        for key in ("system", "date"):
            if getattr(recipe, key):
                section.reject(key, "is for kind sft", "remove it")
    if recipe.overlap.holdout and recipe.holdout_fraction == 0:
        section.reject("decontaminate", "names the hold-out, but there is none",
                       "set holdout.fraction, or decontaminate.holdout: false")  # fmt: skip
    if recipe.balances() and recipe.holdout_fraction == 1:
        section.reject("holdout", "takes all, but balance is for the training side",
                       "set holdout.fraction below 1, or remove balance")  # fmt: skip
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


def find_files(recipe: Recipe) -> tuple[list[InputFile], list[str]]:
    """All files of all sources: sources in the recipe's order, files of one by name; and notes on
    what is left out of folders.

    Raises DataError if a path matches nothing, or a file is named twice or of another kind.
    """
    found: list[InputFile] = []
    notes: list[str] = []
    seen: set[str] = set()
    for source in recipe.sources:
        listing = matching(source.path, source.format)
        notes += note_on_folder(source.path, listing.left_out)
        for name in listing.names:
            if os.path.realpath(name) in seen:
                raise DataError(f"{name} is named by two sources", "list each file once")
            seen.add(os.path.realpath(name))
            found.append(resolve(recipe, source, Path(name)))
    return found, notes


def resolve(recipe: Recipe, source: Source, path: Path) -> InputFile:
    if recipe.kind == "sft":  # A layout that is not given is guessed later, from the records.
        return InputFile(source, path, recognise(path, "jsonl"))
    kind = recognise(path, source.format)
    if kind.format == "text" and recipe.holdout_by != "document":
        raise DataError(
            f"the hold-out goes by {recipe.holdout_by}, but {path} is plain text without fields",
            "set holdout.by: document, or name only JSON files",
        )
    classes = recipe.balance_of(source).by
    if kind.format == "text" and classes:
        raise DataError(
            f"{source.path} is balanced by {classes}, but {path} is plain text without fields",
            "name only files of records, or remove balance",
        )
    return InputFile(replace(source, format=kind.format), path, kind)
