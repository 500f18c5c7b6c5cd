# SPDX-License-Identifier: Apache-2.0
"""One comparison from its options to the rows of its table."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer

from .arms import Arm, Asked, Evaluation, State
from .manual import Manual, read_manual
from .options import WITH_RETRIEVAL, Options, Training
from .prompts import (
    Prompter, choose_nothing, nearest_examples, nearest_passages, random_examples, short_examples,
)  # fmt: skip
from .questions import Edit, Question, QuestionSet
from .table import Row, make_rows
from .temper_runs import Asking, Weights
from .training import Cost, EditShard, Trained, Trainer


@dataclass(frozen=True)
class Compared:
    """What came of it."""

    options: Options
    asked: Asked
    rows: list[Row]
    passages: int  # of the manual


class Comparison:
    """Reads everything first, so that what is wrong is said before anything runs."""

    def __init__(self, options: Options):
        """Raises DataError."""
        self.options = options
        self.questions = QuestionSet(options.questions)
        if load_model_tokenizer(Path(options.model)).sha256 != self.questions.model.sha256:
            raise DataError(
                f"{options.model} has another tokenizer than the shards of "
                f"{options.questions.recipe}",
                "name the model that the recipe names, or one trained from it",
            )
        self.manual = read_manual(options.manual)
        edits = self.questions.edits(self.manual.text)
        self.asked = Asked(
            self.questions.asked(), self.questions.unanswerable(self.manual.text), edits,
            options.questions.answer_tokens,
        )  # fmt: skip
        self.edited_manual = self.manual.edited(edits)
        self.trainer = Trainer(options)
        self.trainer.check()

    def run(self) -> Compared:
        """Trains and asks what is not done yet. Raises DataError."""
        with locked(self.options.folder):
            prompter = Prompter(self.questions.model, self.options.prompts.instruction)
            asking = Asking(self.options.ranks, self.options.dtype)
            evaluation = Evaluation(self.asked, prompter, asking, self.options.folder / "arms")
            results: dict[str, list[dict]] = {name: [] for name in self.options.arm_names()}
            for arm in self._arms():
                results[arm.name].append(evaluation.result(arm))
        decode = self.questions.model.tokenizer.decode
        rows = make_rows(list(results.values()), self.asked, self.manual, decode)
        return Compared(self.options, self.asked, rows, len(self.manual.passages))

    def _arms(self) -> Iterator[Arm]:
        """Each is made when those before it have been asked."""
        base = Weights(self.options.model)
        for name in self.options.arms:
            if name == "few-shot random":
                for seed in range(1, self.options.seeds + 1):
                    yield self._random(base, name, seed)
            else:
                yield self._untrained(base, name)
        edits = None
        for training in self.options.trainings:
            for seed in range(1, self.options.seeds + 1):
                trained = self.trainer.train(training, seed)
                if seed == 1 and self.asked.edits and edits is None:
                    folder = self.options.folder / "edited"
                    edits = EditShard(self.questions, self.asked.edits, folder)
                yield from self._trained(training, trained, seed, edits)

    def _random(self, base: Weights, name: str, seed: int) -> Arm:
        options = self.options.prompts
        examples = short_examples(self.questions.examples, options.shot_words)
        chooser = random_examples(examples, options.shots, seed)
        stored = bytes_of([examples[0]]) * options.shots
        state = State(base, chooser)
        return Arm(name, "in-context", seed, state, None, 0.0, Cost(stored_bytes=stored))

    def _untrained(self, base: Weights, name: str) -> Arm:
        options = self.options.prompts
        if name == "zero-shot":
            return Arm(name, "nothing", 1, State(base, choose_nothing), None, 0.0, Cost())
        if name == "few-shot nearest":
            examples = short_examples(self.questions.examples, options.shot_words)
            edited = short_examples(
                with_new_answers(self.questions.examples, self.asked.edits), options.shot_words
            )
            make = partial(nearest_examples, count=options.shots)
            now, after, seconds = timed(make, examples, edited)
            stored, family = bytes_of(examples), "in-context"
        else:
            make = partial(nearest_passages, options=options, is_dense=name == "dense retrieval")
            now, after, seconds = timed(make, self.manual, self.edited_manual)
            stored, family = len("".join(self.manual.passages).encode()), "retrieval"
        cost = Cost(stored_bytes=stored)
        return Arm(name, family, 1, State(base, now), State(base, after), seconds, cost)

    def _trained(
        self, training: Training, trained: Trained, seed: int, edits: EditShard | None
    ) -> Iterator[Arm]:
        after, seconds = None, 0.0
        if edits is not None and seed == 1:
            weights, seconds = self.trainer.update(training, trained, edits)
            after = State(weights, None)
        now = State(trained.weights, None)
        yield Arm(training.name, "fine-tuning", seed, now, after, seconds, trained.cost)
        if not training.retrieval:
            return
        make = partial(nearest_passages, options=self.options.prompts, is_dense=False)
        old, new, seconds = timed(make, self.manual, self.edited_manual)
        name, states = training.name + WITH_RETRIEVAL, (old, new)
        now, after = (State(trained.weights, choose) for choose in states)
        passages = len("".join(self.manual.passages).encode())
        cost = replace(trained.cost, stored_bytes=trained.cost.stored_bytes + passages)
        yield Arm(name, "fine-tuning and retrieval", seed, now, after, seconds, cost)


def timed(make, old, new) -> tuple:
    """What `make` makes of both, and the seconds that the second one takes."""
    now, begin = make(old), time.monotonic()
    after = make(new)
    return now, after, time.monotonic() - begin


def with_new_answers(examples: list[Question], edits: list[Edit]) -> list[Question]:
    new = {edit.question.answer: edit.new for edit in edits}
    return [
        replace(example, answer=new[example.answer].answer,
                answer_ids=new[example.answer].answer_ids)
        if example.answer in new else example
        for example in examples
    ]  # fmt: skip


def bytes_of(examples: list[Question]) -> int:
    """As JSON lines of messages."""
    return sum(
        len(json.dumps([*example.messages, example.answer]).encode()) for example in examples
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Raises DataError if another comparison works in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another comparison works in {folder}", "wait for it") from error
        yield
