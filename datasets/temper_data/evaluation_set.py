# SPDX-License-Identifier: Apache-2.0
"""Questions and answers of evaluation sets, in the layouts that they are published in."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from .documents import decode, parse_object
from .errors import RecordRefusal
from .overlap_index import Lengths, OverlapIndex, Whole
from .recipe import InputFile, Recipe, Source, resolve
from .records import read_batches
from .source_paths import matching
from .text_units import units_of

QUESTIONS = ("question", "prompt", "instruction", "problem", "query", "input", "text", "content")
ANSWERS = (
    "answer", "answers", "best_answer", "completion", "output", "response", "target", "solution",
    "canonical_solution", "chosen", "label",
)  # fmt: skip
SPEAKERS = {"assistant": ANSWERS[0], "gpt": ANSWERS[0], "model": ANSWERS[0]}


@dataclass
class Entry:
    """Texts of one record. All are looked for; the questions, if short, with their answers."""

    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class EvaluationSet:
    """The entries of the files that a recipe names, as an index. Raises DataError."""

    def __init__(self, recipe: Recipe):
        self.files = evaluation_files(recipe)
        self.places: list[str] = []
        self.too_short = 0  # entries of so few words that they are anywhere
        self.refused = 0  # records that cannot be read
        self.index = OverlapIndex(Lengths(recipe.overlap.words, recipe.overlap.characters))
        for batch in read_batches(self.files, recipe.max_record_bytes, []):
            for line, data in batch.records:
                try:
                    entry = read_entry(data, batch.source.format)
                except RecordRefusal:
                    self.refused += 1
                    continue
                self.places.append(batch.place(line))
                self.too_short += not add_entry(self.index, entry, len(self.places) - 1)
        self.index.finish()

    def digests(self) -> list[str]:
        """SHA-256 of each file: with others the shards may be others."""
        return [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in self.files]


def evaluation_files(recipe: Recipe) -> list[InputFile]:
    files = []
    for path in recipe.overlap.evaluation:
        source = Source(path, "auto", "text", "")
        files += [resolve_here(recipe, source, name) for name in matching(path, "auto").names]
    return files


def resolve_here(recipe: Recipe, source: Source, name: str) -> InputFile:
    """As for a source of texts, but that plain text needs no field for the hold-out."""
    return resolve(replace(recipe, kind="pretrain", holdout_by="document"), source, Path(name))


def read_entry(data: bytes | RecordRefusal, layout: str) -> Entry:
    """Raises RecordRefusal."""
    if isinstance(data, RecordRefusal):
        raise data
    text = decode(data)
    if layout == "text":
        return Entry(questions=[text])
    record, entry = parse_object(text), Entry()
    number, choices = record.get("answer"), record.get("choices")
    if isinstance(number, int) and isinstance(choices, list) and 0 <= number < len(choices):
        record = record | {"answer": choices[number]}
    collect(record, "", entry)
    return entry


def collect(value, name: str, entry: Entry) -> None:
    """Sorts all texts within `value` by the key that they are under."""
    if isinstance(value, dict):
        speaker = value.get("role", value.get("from"))
        said = value.get("content", value.get("value"))
        if isinstance(speaker, str) and said is not None:
            return collect(said, SPEAKERS.get(speaker, QUESTIONS[0]), entry)
        for key, item in value.items():
            collect(item, key if not name or key in QUESTIONS + ANSWERS else name, entry)
    elif isinstance(value, list):
        for item in value:
            collect(item, name, entry)
    elif isinstance(value, str) and value.strip():
        texts = entry.questions if name in QUESTIONS else entry.others
        (entry.answers if name in ANSWERS else texts).append(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and name in ANSWERS:
        entry.answers.append(str(value))


def add_entry(index: OverlapIndex, entry: Entry, number: int) -> bool:
    """Whether there was anything to look for."""
    answers = [units_of(text) for text in entry.answers]
    found = sum(index.add_runs(units, number) for units in answers)
    found += sum(index.add_runs(units_of(text), number) for text in entry.others)
    for question in map(units_of, entry.questions):
        runs = index.add_runs(question, number)
        found += runs
        if not runs:
            whole = Whole(number, question, answers)
            if whole.can_be_found():
                index.add_whole(whole)
                found += 1
    return found > 0
