# SPDX-License-Identifier: Apache-2.0
"""A file of tasks: what is asked, of which data, and what is counted."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..section import Section
from ..yaml_tree import read_tree

KINDS = {
    "multiple_choice": ("accuracy", "accuracy_by_length", "accuracy_by_bytes"),
    "cloze": ("accuracy", "perplexity", "bits_per_byte"),
    "generation": ("exact_match", "f1", "chrf", "rouge1", "rouge2", "rougeL"),
}  # and what each can count
COLUMN = re.compile(r"\{([^{}]*)\}")
MAX_NEW_TOKENS = 1 << 20


@dataclass(frozen=True)
class Task:
    """One of the file's tasks. Columns are keys of the data's records."""

    name: str
    kind: str
    data: Path  # JSON lines
    prompt: str  # with {column} where a record's text belongs
    answer: str  # column: the right choice, the continuation, or the answers that count as right
    choices: str  # column, of multiple_choice only
    separator: str  # between prompt and continuation; none in a chat
    chat: bool  # whether the prompt is a user's message, in the model's own template
    system: str  # message before it
    metrics: tuple[str, ...]
    max_new_tokens: int  # of an answer that is generated
    stop: tuple[str, ...]  # texts that end it

    @property
    def prompt_columns(self) -> list[str]:
        return COLUMN.findall(self.prompt)


def load_tasks(path: Path) -> list[Task]:
    """Reads all of them. Raises DataError with every problem."""
    problems: list[str] = []
    root = Section(read_tree(path), problems)
    tasks = [parse_task(section, path.parent) for section in root.sections("tasks")]
    root.finish()
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        if task.name and task.name in seen:
            problems.append(f"tasks.{number}.name is {task.name!r} again\n  try: another name")
        seen.add(task.name)
    if problems:
        count = f"\n{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        text = "\n".join(f"{path}: {problem}" for problem in problems)
        raise DataError(text + count, "mend them all; README.md shows a file of tasks")
    return tasks


def parse_task(section: Section, folder: Path) -> Task:
    kind = section.text("kind", choices=tuple(KINDS))
    data = section.path("data")
    is_choice, is_generated = kind == "multiple_choice", kind == "generation"
    chat = section.boolean("chat", False)
    task = Task(
        name=section.text("name"),
        kind=kind,
        data=folder / data,
        prompt=section.text("prompt"),
        answer=section.text("answer"),
        choices=section.text("choices") if is_choice else "",
        separator=section.text("separator", "" if chat else " ") if not is_generated else "",
        chat=chat,
        system=section.text("system", "") if chat else "",
        metrics=section.texts("metrics", KINDS.get(kind, ()), KINDS.get(kind, ())),
        max_new_tokens=section.integer("max_new_tokens", 64, 1, MAX_NEW_TOKENS)
        if is_generated
        else 0,
        stop=section.texts("stop") if is_generated else (),
    )
    if any(not name for name in task.prompt_columns):
        section.reject("prompt", "has {} without a column", "{question} for a column `question`")
    section.finish()
    return task
