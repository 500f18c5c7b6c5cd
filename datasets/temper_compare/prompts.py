# SPDX-License-Identifier: Apache-2.0
"""The conversation that an arm shows the model for a question, as token ids."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from temper_data.chat_template import ChatTemplate, TemplateRefusal
from temper_data.errors import DataError, printable
from temper_data.model_tokenizer import ModelTokenizer

from .manual import Manual
from .options import PromptOptions
from .questions import Question, order
from .retrieval import Bm25Index, DenseIndex

PASSAGES = "This is the manual:\n\n"


@dataclass(frozen=True)
class Shown:
    """What stands before a question."""

    examples: tuple[Question, ...] = ()
    passages: tuple[str, ...] = ()


Chooser = Callable[[Question], Shown]


class Prompter:
    """Renders conversations for generation."""

    def __init__(self, model: ModelTokenizer, instruction: str):
        """Raises DataError."""
        if not model.chat_template:
            raise DataError("the model has no chat template", "set chat_template in the recipe")
        self._model, self._instruction = model, instruction
        self._template = ChatTemplate(model.chat_template, model.named_tokens)

    def ids(self, question: Question, shown: Shown | None) -> list[int]:
        """Token ids up to where the answer begins. With `None` they are those of training."""
        if shown is None and question.context_ids:
            return list(question.context_ids)
        messages = list(question.messages)
        if shown is not None:
            messages = self._instructed(messages)
            turns = [
                turn
                for example in shown.examples
                for turn in (example.messages[-1], {"role": "assistant", "content": example.answer})
            ]
            asked = with_passages(messages[-1], shown.passages)
            messages = [*messages[:-1], *turns, asked]
        try:
            text = self._template.render(messages, None, True, question.variables)
        except TemplateRefusal as refusal:
            raise DataError(
                f"the chat template refuses the question {printable(question.text)}: {refusal}",
                "check roles and their order",
            ) from refusal
        return self._model.tokenizer.encode(text, add_special_tokens=False).ids

    def _instructed(self, messages: list[dict]) -> list[dict]:
        """With the instruction before what else the system says."""
        first = messages[0] if messages[0]["role"] == "system" else None
        said = f"{self._instruction}\n\n{first['content']}" if first else self._instruction
        return [{"role": "system", "content": said}, *messages[first is not None :]]


def with_passages(message: dict, passages: tuple[str, ...]) -> dict:
    if not passages:
        return message
    return message | {"content": "\n\n".join([PASSAGES + passages[0], *passages[1:],
                                              f"Question: {message['content']}"])}  # fmt: skip


def choose_nothing(_: Question) -> Shown:
    return Shown()


def short_examples(examples: list[Question], most_words: int) -> list[Question]:
    """One for each answer, in an order by hash. Raises DataError if there are none."""
    short = [e for e in sorted(examples, key=order) if len(e.answer.split()) <= most_words]
    found = list({example.answer: example for example in short}.values())
    if not found:
        raise DataError(
            f"no trained answer has at most {most_words} words",
            "raise prompts.shot_words, or leave the arms with examples out",
        )
    return found


def random_examples(examples: list[Question], count: int, seed: int) -> Chooser:
    """The same examples for all questions."""
    chosen = tuple(random.Random(seed).sample(examples, min(count, len(examples))))
    return lambda _: Shown(examples=chosen)


def nearest_examples(examples: list[Question], count: int) -> Chooser:
    """The nearest stands last, next to the question, but for the question itself."""
    index = Bm25Index([example.text for example in examples])

    def choose(question: Question) -> Shown:
        found = (examples[number] for number in index.nearest(question.text, count + 1))
        others = [example for example in found if example.text != question.text]
        return Shown(examples=tuple(reversed(others[:count])))

    return choose


def nearest_passages(manual: Manual, options: PromptOptions, is_dense: bool) -> Chooser:
    passages = manual.passages
    index = DenseIndex(options.dense, passages) if is_dense else Bm25Index(passages)

    def choose(question: Question) -> Shown:
        found = index.nearest(question.text, options.passages)
        return Shown(passages=tuple(passages[number] for number in found))

    return choose
