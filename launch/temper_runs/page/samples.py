# SPDX-License-Identifier: Apache-2.0
"""The section on what the model answered while it trained: train.sample_prompts."""

from collections.abc import Callable
from pathlib import Path

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.page.markup import (
    MAX_ROWS, Html, Section, foreign, number, section, table, tag,
)  # fmt: skip

from ..run_folder import Run

MAX_PROMPTS = 20  # of a run; arbitrary
MAX_TEXT = 2000  # characters of a prompt or an answer


def describe_samples(runs: list[Run]) -> Section | None:
    parts = []
    for run in runs:
        shown = [prompt_table(prompt, rows) for prompt, rows in answers_of(run)]
        if shown:
            parts += [tag("h3", foreign(run.name)) if len(runs) > 1 else None, *shown]
    if not parts:
        return None
    lead = "The same prompts after more and more steps, each time continued by the likeliest token."
    return section("samples", "Samples", tag("p", lead, class_="lead"), *parts)


def prompt_table(prompt: str, rows: list[tuple[int, str, str]]) -> Html:
    """Answers by step, the newest below; of many the first and the newest."""
    chosen = rows if len(rows) <= MAX_ROWS else [rows[0], *rows[1 - MAX_ROWS :]]
    cells = [[number(step), foreign(text, MAX_TEXT), foreign(end)] for step, text, end in chosen]
    return table(prompt, None, ["step", "answer", "ended by"], cells, "ntt")


def answers_of(run: Run) -> list[tuple[str, list[tuple[int, str, str]]]]:
    """Of each prompt its text, and (step, answer, end) by step."""
    found: dict[str, tuple[list, list]] = {}
    for entry in run.metrics.samples:
        for sample in entry["samples"]:
            if not isinstance(sample, dict):
                continue
            answers = sample.get("answers")
            first = answers[0] if isinstance(answers, list) and answers else None
            if isinstance(first, dict):
                _, rows = found.setdefault(str(sample.get("id")), (sample.get("prompt"), []))
                rows.append((entry["step"], first.get("ids"), str(first.get("end", ""))))
    if not found:
        return []
    to_text = decoder_of(run)
    return [
        (to_text(prompt)[:MAX_TEXT], [(step, to_text(ids), end) for step, ids, end in rows])
        for prompt, rows in list(found.values())[:MAX_PROMPTS]
    ]


def decoder_of(run: Run) -> Callable[[object], str]:
    """From ids to text by the model's tokenizer; where it is gone, the ids themselves."""
    try:
        tokenizer = load_model_tokenizer(Path(run.config.get("model.path", ""))).tokenizer
    except DataError:
        tokenizer = None

    def to_text(ids) -> str:
        known = [one for one in ids if isinstance(one, int)] if isinstance(ids, list) else []
        if tokenizer is None:
            return " ".join(map(str, known))
        inside = [one for one in known if 0 <= one < 2**32]
        return tokenizer.decode(inside, skip_special_tokens=False)

    return to_text
