# SPDX-License-Identifier: Apache-2.0
"""The figures of all arms, from what each of them said."""

from dataclasses import dataclass

import numpy as np
from temper_data.tasks.metrics import f1

from .arms import Asked
from .bootstrap import Sample
from .manual import Manual
from .measures import abstains, exact_match
from .training import Cost


@dataclass(frozen=True)
class Row:
    """One arm, over all seeds. Samples are empty where nothing of the kind was asked."""

    name: str
    family: str
    right: Sample  # log-probability of the right answer, nats a token
    other: Sample  # the same of another question's right answer
    knowledge: Sample  # right less other: what is known of this very question
    exact: Sample  # 0 or 1
    f1: Sample
    supported: Sample  # 0 or 1: whether the manual supports what is said
    silent: Sample  # 0 or 1: abstains, though there is an answer
    abstains: Sample | None  # 0 or 1: abstains, where the manual has no answer
    confidence: Sample | None  # probability a token of what is said there
    before: Sample | None  # 0 or 1: an edited answer is more probable than the old one
    after: Sample | None  # the same once the arm has been updated; None: that cannot be
    found: Sample | None  # 0 or 1: the passages contain the right answer; None: it gets none
    prompt_tokens: float
    answer_seconds: float
    answer_cpu_seconds: float
    update_seconds: float
    cost: Cost
    answers: list[str]  # of the first seed


def make_rows(results: list[list[dict]], asked: Asked, manual: Manual, decode) -> list[Row]:
    """One row for each arm, from its results by seed. `decode` makes text of token ids."""
    return [
        make_row(number, seeds, asked, manual, decode) for number, seeds in enumerate(results)
    ]


def make_row(number: int, seeds: list[dict], asked: Asked, manual: Manual, decode) -> Row:
    texts = [list(map(decode, result["answers"])) for result in seeds]
    beyond = [list(map(decode, result["answers_unanswerable"])) for result in seeds]
    gold = [question.answer for question in asked.questions]

    def sample(values: list) -> Sample | None:
        array = np.array(values, np.float64)
        return Sample(array, number) if array.size else None

    def kept(name: str) -> np.ndarray:
        """[seed, value]; of an update there is only the first seed."""
        return np.array([result[name] for result in seeds if name in result], np.float64)

    def judged(judge) -> Sample:
        return sample([[judge(said, right) for said, right in zip(row, gold, strict=True)]
                       for row in texts])  # fmt: skip

    def preferred(name: str) -> Sample | None:
        if name not in seeds[0]:
            return None
        pairs = kept(name)
        pairs = pairs.reshape(len(pairs), -1, 2)
        return sample(pairs[:, :, 0] > pairs[:, :, 1])

    def mean(name: str) -> float:
        return float(np.mean([np.mean(result[name]) for result in seeds]))

    return Row(
        name=seeds[0]["name"], family=seeds[0]["family"],
        right=sample(kept("right")), other=sample(kept("other")),
        knowledge=sample(kept("right") - kept("other")),
        exact=judged(exact_match), f1=judged(f1),
        supported=judged(lambda said, _: manual.supports(said)),
        silent=judged(lambda said, _: abstains(said)),
        abstains=sample([list(map(abstains, row)) for row in beyond]),
        confidence=sample(np.exp(kept("own_unanswerable"))),
        before=preferred("before"), after=preferred("after"),
        found=sample(kept("found")) if "retrieval" in seeds[0]["family"] else None,
        prompt_tokens=mean("prompt_tokens"), answer_seconds=mean("answer_seconds"),
        answer_cpu_seconds=mean("answer_cpu_seconds"), update_seconds=mean("update_seconds"),
        cost=mean_cost(seeds), answers=texts[0],
    )  # fmt: skip


def mean_cost(seeds: list[dict]) -> Cost:
    costs = [Cost(**result["cost"]) for result in seeds]
    changes = [cost.forgetting for cost in costs if cost.forgetting is not None]
    return Cost(
        seconds=float(np.mean([cost.seconds for cost in costs])),
        peak_bytes=max(cost.peak_bytes for cost in costs),
        stored_bytes=max(cost.stored_bytes for cost in costs),
        forgetting=float(np.mean(changes)) if changes else None,
    )
