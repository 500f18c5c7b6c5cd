# SPDX-License-Identifier: Apache-2.0
"""The layout of files of conversations, guessed from their first records where none is given."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product

from .columns import COLUMNS, rename
from .errors import DataError, RecordRefusal, printable
from .recipe import InputFile, Source
from .records import read_batches

NUM_RECORDS = 20  # looked at of each file; arbitrary
LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat")
QUESTIONS = ("question", "query", "problem", "prompt", "instruction", "input", "user")
ANSWERS = ("answer", "response", "output", "solution", "assistant")
OUTPUTS = ("output", "response")  # Of an instruction.

# A layout, and its columns with the names that the records have for them: what a record may be.
Guess = tuple[str, tuple[tuple[str, str], ...]]


def guess_layouts(files: list[InputFile], max_bytes: int) -> list[InputFile]:
    """The files, those of kind sft without a layout with the one that their records fit.

    A file without a readable record takes the layout of the file before it: its records will be
    dropped, and counted. Raises DataError where records fit no layout, or more than one.
    """
    found: list[InputFile] = []
    for file in files:
        if file.source.format == "auto":
            source = guess_source(file, max_bytes)
            if source is None:
                source = replace(file.source, format="messages", field="messages")
                if found and found[-1].source.path == source.path:
                    source = found[-1].source
            file = replace(file, source=source)
        found.append(file)
    return found


def guess_source(file: InputFile, max_bytes: int) -> Source | None:
    """The source with the layout that this file has; None if no record can be read."""
    records = list(islice(first_records(file, max_bytes), NUM_RECORDS))
    if not records:
        return None
    fits = [fitting(record, file.source) for record in records]
    told = [fit for fit in fits if fit]  # A record that fits nothing is dropped later.
    if not told:
        raise none_fits(file, records)
    common = [guess for guess in told[0] if all(guess in fit for fit in told)]
    if len(common) != 1:
        raise many_fit(file, common or [guess for fit in told for guess in fit])
    return with_guess(file.source, *common[0])


def with_guess(source: Source, layout: str, columns: tuple[tuple[str, str], ...]) -> Source:
    """The source with the layout; its names of columns are those that the files have."""
    guessed = {target: source.columns.get(name, name) for target, name in columns}
    used = {name for _, name in columns}
    others = {target: name for target, name in source.columns.items() if target not in used}
    renamed = {target: name for target, name in guessed.items() if target != name}
    lists = [target for target in guessed if target in ("messages", "conversations")]
    return replace(source, format=layout, field="".join(lists), columns=others | renamed)


def first_records(file: InputFile, max_bytes: int) -> Iterator[dict]:
    """The objects among the first records, with the recipe's names of columns."""
    for batch in islice(read_batches([file], max_bytes, []), 1):
        for _, data in batch.records:
            try:
                record = json.loads(data) if isinstance(data, bytes) else None
                if isinstance(record, dict):
                    yield rename(record, file.source.columns)
            except (ValueError, RecursionError, RecordRefusal):
                continue


def fitting(record: dict, source: Source) -> list[Guess]:
    """Every layout that the record may be."""
    guesses: list[Guess] = []
    for name in [source.field] if source.field else LISTS:
        layout = kind_of_list(record.get(name))
        if layout:
            guesses.append((layout, ((COLUMNS[layout][0], name),)))
    if source.field:
        return guesses
    if is_preference(record):
        guesses.append(("preference", ()))
    elif holds(record, "prompt", "completion", (str, list)):
        guesses.append(("prompt_completion", ()))
    elif any(holds(record, "instruction", output) for output in OUTPUTS):
        about = [("input", "context")] if "context" in record and "input" not in record else []
        guesses += [
            ("instruction", (("instruction", "instruction"), ("output", output), *about))
            for output in OUTPUTS
            if holds(record, "instruction", output)
        ]
    else:
        guesses += [
            ("question_answer", (("question", question), ("answer", answer)))
            for question, answer in product(QUESTIONS, ANSWERS)
            if holds(record, question, answer)
        ]
    return guesses


def kind_of_list(turns) -> str | None:
    """The layout of which this is the list of messages."""
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, dict) and "role" in first:
        return "messages"
    return "sharegpt" if isinstance(first, dict) and "from" in first else None


def is_preference(record: dict) -> bool:
    chosen = record.get("chosen")
    return kind_of_list(chosen) == "messages" or holds(record, "prompt", "chosen", (str, list))


def holds(record: dict, first: str, second: str, kinds=str) -> bool:
    return isinstance(record.get(first), kinds) and isinstance(record.get(second), kinds)


def none_fits(file: InputFile, records: list[dict]) -> DataError:
    keys = Counter(key for record in records for key in record)
    names = ", ".join(printable(key) for key in islice(keys, 20)) or "none"
    remedy = (
        "name the columns that hold question and answer in this source, for instance "
        "format: question_answer with columns: {question: NAME, answer: NAME}"
    )
    if "text" in keys:
        remedy += "; plain text is for kind pretrain"
    return DataError(
        f"{file.path}: its first records are no conversations of a known layout; "
        f"their columns: {names}",
        remedy,
    )


def many_fit(file: InputFile, guesses: list[Guess]) -> DataError:
    shown = list(dict.fromkeys(describe_guess(guess) for guess in guesses))
    return DataError(
        f"{file.path}: its first records fit more than one layout: {'; '.join(shown)}",
        f"set format: {guesses[0][0]}, or another of them, in this source, and name its columns "
        "under columns if they are called otherwise",
    )


def describe_guess(guess: Guess) -> str:
    layout, columns = guess
    names = ", ".join(f"{target}: {name}" for target, name in columns if target != name)
    return f"{layout} with columns {{{names}}}" if names else layout


def list_guesses(given: list[InputFile], found: list[InputFile]) -> list[dict]:
    """What was guessed, for people: each layout of each source, with its columns and files."""
    guesses: dict[str, dict] = {}
    for before, after in zip(given, found, strict=True):
        if before.source.format != "auto":
            continue
        source = after.source
        entry = {"path": source.path, "format": source.format, "columns": source.columns}
        entry = guesses.setdefault(json.dumps(entry, sort_keys=True), entry | {"files": 0})
        entry["files"] += 1
    return list(guesses.values())


def describe_guesses(guesses: list[dict]) -> list[str]:
    return [
        f"layout: {printable(guess['path'])} is "
        + describe_guess((guess["format"], tuple(guess["columns"].items())))
        + f", guessed from the first records of {guess['files']} file{'s' * (guess['files'] > 1)}"
        for guess in guesses
    ]
