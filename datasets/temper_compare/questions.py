# SPDX-License-Identifier: Apache-2.0
"""What is asked: held-out conversations, some about what the manual does not know, some edited."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from temper_data.conversations import read_conversation
from temper_data.documents import read_object
from temper_data.errors import DataError, RecordRefusal
from temper_data.message_parts import text_of
from temper_data.preparation import Preparation
from temper_data.recipe import load_recipe
from temper_data.records import read_batches
from temper_data.shard_file import ShardFile

from .options import QuestionOptions

POOL = 4  # times as many conversations as are edited, of which pairs of one length are taken
PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


@dataclass(frozen=True)
class Question:
    """A conversation up to its last question, and the answer."""

    messages: tuple[dict, ...]
    variables: dict  # for the template
    answer: str
    context_ids: tuple[int, ...]  # of the messages, as training renders them
    answer_ids: tuple[int, ...]  # what training learns of the answer, its end included
    names: tuple[str, ...]  # texts that name what is asked, as the record lists them

    @property
    def text(self) -> str:
        return text_of(self.messages[-1])

    def asking(self, text: str) -> "Question":
        """The same with another last question, of which no right answer is known."""
        messages = (*self.messages[:-1], self.messages[-1] | {"content": text})
        return replace(self, messages=messages, answer="", context_ids=(), answer_ids=())


@dataclass(frozen=True)
class Edit:
    """A trained conversation whose answer becomes another one."""

    question: Question  # with the old answer
    new: Question  # whose answer becomes the right one
    taught: tuple[Question, ...]  # other questions for the same answer; itself if there are none


class QuestionSet:
    """The conversations of a recipe, by the side of its hold-out that they are on."""

    def __init__(self, options: QuestionOptions):
        self.options = options
        recipe = load_recipe(Path(options.recipe), [])
        if recipe.kind != "sft":
            raise DataError(f"{options.recipe} is of kind {recipe.kind}", "name one of kind sft")
        self.preparation = Preparation(recipe)
        self.model = self.preparation.model
        held_out, trained = self._documents("holdout"), self._documents("train")
        self.held_out, self.examples = [], []
        for ids, question in self._conversations():
            if ids in held_out:
                self.held_out.append(question)
            elif ids in trained:
                self.examples.append(question)

    def asked(self) -> list[Question]:
        """Held-out questions with short answers, one for each answer, in an order by hash.

        Raises DataError if there are too few.
        """
        short = [q for q in self.held_out if len(q.answer_ids) <= self.options.answer_tokens]
        found = list({q.answer: q for q in sorted(short, key=order)}.values())
        if len(found) < self.options.count:
            raise DataError(
                f"questions.count is {self.options.count}, but the hold-out of "
                f"{self.options.recipe} has {len(found)} different answers of at most "
                f"{self.options.answer_tokens} tokens",
                "ask fewer, raise questions.answer_tokens, or hold out more",
            )
        return found[: self.options.count]

    def unanswerable(self, manual: str) -> list[Question]:
        """Held-out questions, about names that do not occur in the manual. Raises DataError."""
        known = manual.lower()
        pool = [q.names[-1] for q in sorted(self.examples, key=order) if q.names]
        found = []
        for number, question in enumerate(sorted(self.held_out, key=order)):
            if len(found) == self.options.unanswerable:
                break
            name = next((name for name in question.names if name in question.text), "")
            others = pool[number:] + pool[:number]
            made = (invent(question.names[-1], other) for other in others) if name else ()
            fresh = next((m for m in made if m and m.lower() not in known), None)
            if fresh:
                found.append(question.asking(question.text.replace(name, fresh)))
        if len(found) < self.options.unanswerable:
            raise DataError(
                f"questions.unanswerable is {self.options.unanswerable}, but only {len(found)} "
                f"held-out questions contain a name that their field {self.options.names} lists",
                "ask fewer, or name the field",
            )
        return found

    def edits(self, manual: str) -> list[Edit]:
        """Trained conversations that exchange their answers in pairs. Raises DataError.

        Each answer stands in the manual once, so that the edit can be made there too, and pairs
        have answers of about one length, so that neither is more probable for that.
        """
        most, wanted = self.options.answer_tokens, self.options.edited
        of_answer: dict[str, list[Question]] = {}
        for question in sorted(self.examples, key=order):
            if len(question.answer_ids) <= most:
                of_answer.setdefault(question.answer, []).append(question)
        once = [group for answer, group in of_answer.items() if manual.count(answer) == 1]
        if len(once) < wanted:
            raise DataError(
                f"questions.edited is {wanted}, but only {len(once)} trained answers of at most "
                f"{most} tokens stand in the manual exactly once",
                "edit fewer, or name the manual that the answers are of",
            )
        near = sorted(once[: POOL * wanted], key=lambda group: len(group[0].answer_ids))
        pairs = list(zip(near[::2], near[1::2], strict=False))
        pairs.sort(key=lambda pair: len(pair[1][0].answer_ids) - len(pair[0][0].answer_ids))
        return [
            Edit(mine[-1], theirs[-1], tuple(mine[:-1] or mine))
            for pair in pairs[: wanted // 2]
            for mine, theirs in (pair, pair[::-1])
        ]

    def _documents(self, side: str) -> set[bytes]:
        """The tokens of each document of one side. Raises DataError if there is no such shard."""
        folder = Path(self.preparation.recipe.output)
        paths = sorted([*folder.glob(f"{side}.h5"), *folder.glob(f"{side}-*-of-*.h5")])
        if not paths:
            raise DataError(
                f"{folder} holds no {side}.h5",
                f"run datasets/prepare.py {self.options.recipe}, with holdout.fraction above 0",
            )
        found = set()
        for path in paths:
            with ShardFile(path) as shard:
                ends = shard.offsets(0, shard.num_documents + 1)
                tokens = shard.tokens(0, shard.num_tokens).astype(np.uint32)
                found |= {part.tobytes() for part in np.split(tokens, ends[1:-1])}
        return found

    def _conversations(self) -> Iterator[tuple[bytes, Question]]:
        """All that can be read of the sources, with the bytes of their tokens."""
        recipe, maker = self.preparation.recipe, self.preparation.maker
        for batch in read_batches(self.preparation.files, recipe.max_record_bytes, []):
            for _, data in batch.records:
                try:
                    record = read_object(data)
                    conversation = read_conversation(record, batch.source, recipe)
                    conversation = maker.filters.conversation(conversation)
                    document = maker.encode_conversation(conversation)
                except RecordRefusal:
                    continue
                ids = document.ids.astype(np.uint32)
                begin, end = last_run(document.mask)
                last = conversation.trained_turns[-1]
                names = record.get(self.options.names) or []
                yield ids.tobytes(), Question(
                    tuple(conversation.messages[:last]), conversation.variables,
                    text_of(conversation.messages[last]), tuple(ids[:begin].tolist()),
                    tuple(ids[begin:end].tolist()), tuple(map(str, names)),
                )  # fmt: skip
            maker.filters.take()


def order(question: Question) -> bytes:
    """An order that depends on nothing but the question and its answer."""
    return hashlib.sha256(f"{question.text}\0{question.answer}".encode()).digest()


def last_run(mask: np.ndarray) -> tuple[int, int]:
    """Begin and end of the last targets that follow each other."""
    end = int(np.flatnonzero(mask)[-1]) + 1
    before = np.flatnonzero(mask[:end] == 0)
    return (int(before[-1]) + 1 if len(before) else 0), end


def invent(name: str, other: str) -> str | None:
    """`name` with its last word exchanged for the last one of `other`; None if that is the same."""
    mine, theirs = list(PIECE.finditer(name)), PIECE.findall(other)
    if not mine or not theirs or theirs[-1].lower() == mine[-1].group().lower():
        return None
    begin, end = mine[-1].span()
    return name[:begin] + theirs[-1] + name[end:]
