# SPDX-License-Identifier: Apache-2.0
"""The examples of a task, out of JSON lines."""

import json
from dataclasses import dataclass

from ..errors import DataError, is_unicode, printable
from .task_file import COLUMN, Task

MAX_TOLD = 5  # problems of one file


@dataclass(frozen=True)
class Example:
    """What a model is asked, and what is right."""

    place: str  # file:line
    prompt: str
    choices: tuple[str, ...]  # of multiple_choice
    right: int  # of them
    answers: tuple[str, ...]  # of the other kinds; any of them is right


class Malformed(Exception):
    """What is wrong with one record."""


def read_examples(task: Task) -> list[Example]:
    """All of them, in the order of the file. Raises DataError for any that is malformed."""
    try:
        lines = task.data.read_bytes().splitlines()
    except OSError as error:
        remedy = "name a file beside the tasks, or by its whole path"
        raise DataError(f"task {task.name}: {task.data}: {error.strerror}", remedy) from error
    examples, problems = [], []
    for number, line in enumerate(lines, 1):
        place = f"{task.data}:{number}"
        if not line.strip():
            continue
        try:
            examples.append(read_example(task, place, line))
        except Malformed as problem:
            problems.append(f"task {task.name}: {place}: {problem}")
    if problems:
        more = len(problems) - MAX_TOLD
        told = problems[:MAX_TOLD] + ([f"and {more} more"] if more > 0 else [])
        raise DataError("\n".join(told), "correct these lines, or the columns that the task names")
    if not examples:
        raise DataError(f"task {task.name}: {task.data} has no example", "write one object a line")
    return examples


def read_example(task: Task, place: str, line: bytes) -> Example:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise Malformed("no object")
    prompt = COLUMN.sub(lambda found: text_of(record, found[1]), task.prompt)
    if task.kind != "multiple_choice":
        return Example(place, prompt, (), 0, answers_of(task, record))
    choices = column(record, task.choices)
    if not is_list_of_texts(choices) or len(choices) < 2:
        raise Malformed(f"{task.choices} is no list of two or more texts")
    return Example(place, prompt, tuple(choices), right_choice(task, record, choices), ())


def column(record: dict, name: str):
    if name not in record:
        keys = ", ".join(sorted(map(str, record)))
        raise Malformed(f"has no {name}; its keys are: {printable(keys)}")
    return record[name]


def text_of(record: dict, name: str) -> str:
    value = column(record, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not is_unicode(value):
        raise Malformed(f"{name} is no text")
    return value


def is_list_of_texts(value) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and item and is_unicode(item) for item in value
    )


def right_choice(task: Task, record: dict, choices: list[str]) -> int:
    """By its number from 0, or by its text."""
    value = column(record, task.answer)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return value
    if isinstance(value, str) and value in choices:
        return choices.index(value)
    shown = printable(json.dumps(value))
    wanted = f"number from 0 to {len(choices) - 1}"
    raise Malformed(f"{task.answer} is {shown}, no {wanted} and no choice")


def answers_of(task: Task, record: dict) -> tuple[str, ...]:
    value = column(record, task.answer)
    if task.kind == "generation" and isinstance(value, list):
        if not value or not is_list_of_texts(value):
            raise Malformed(f"{task.answer} is no list of texts")
        return tuple(value)
    text = text_of(record, task.answer)
    if not text:
        raise Malformed(f"{task.answer} is empty")
    return (text,)
