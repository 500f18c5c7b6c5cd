# SPDX-License-Identifier: Apache-2.0
"""An arm of the comparison, and what it does on all questions. Results are kept."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from temper_data.errors import DataError, printable
from temper_data.json_text import write_json
from temper_data.temper_program import max_length

from .prompts import Chooser, Prompter
from .questions import Edit, Question
from .temper_runs import Asking, Weights, generate, score
from .training import Cost

FAMILIES = ("nothing", "in-context", "retrieval", "fine-tuning", "fine-tuning and retrieval")


@dataclass(frozen=True)
class State:
    """What answers, and what it is shown. `choose` None: the question alone, as in training."""

    weights: Weights
    choose: Chooser | None


@dataclass(frozen=True)
class Arm:
    name: str
    family: str  # of FAMILIES
    seed: int
    now: State
    edited: State | None  # after the manual has changed; None: a change cannot reach it
    update_seconds: float  # from `now` to `edited`
    cost: Cost


@dataclass(frozen=True)
class Asked:
    """All that every arm is asked."""

    questions: list[Question]
    unanswerable: list[Question]
    edits: list[Edit]
    answer_tokens: int  # most of an answer


class Evaluation:
    """Asks arms. Their results lie in `folder`, and are made again if what is asked changes."""

    def __init__(self, asked: Asked, prompter: Prompter, asking: Asking, folder: Path):
        self.asked, self.prompter, self.asking, self.folder = asked, prompter, asking, folder

    def result(self, arm: Arm) -> dict:
        """See `_ask` for what it holds. Raises DataError."""
        path = self.folder / f"{arm.name}-{arm.seed}.json"
        prompts = self._prompts(arm)
        fingerprint = self._fingerprint(arm, prompts)
        if path.is_file():
            kept = json.loads(path.read_text())
            if kept["fingerprint"] == fingerprint:
                return kept | {"cost": asdict(arm.cost)}
        print(f"compare: asking {arm.name}, seed {arm.seed}", flush=True)
        result = self._ask(arm, prompts) | {
            "fingerprint": fingerprint, "name": arm.name, "family": arm.family, "seed": arm.seed,
            "cost": asdict(arm.cost),
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        return result

    def _prompts(self, arm: Arm) -> dict[str, list[list[int]]]:
        edits = [edit.question for edit in self.asked.edits]
        asked = {"questions": self.asked.questions, "unanswerable": self.asked.unanswerable}
        found = {name: self._encode(arm, arm.now, which) for name, which in asked.items()}
        found["edits"] = self._encode(arm, arm.now, edits)
        found["edited"] = self._encode(arm, arm.edited, edits) if arm.edited else []
        return found

    def _encode(self, arm: Arm, state: State, questions: list[Question]) -> list[list[int]]:
        """Raises DataError for a prompt that leaves no room for the answer."""
        most = max_length(Path(state.weights.model), "") - self.asked.answer_tokens
        prompts = []
        for question in questions:
            shown = state.choose(question) if state.choose else None
            ids = self.prompter.ids(question, shown)
            if len(ids) > most:
                raise DataError(
                    f"{arm.name}: the prompt of {printable(question.text, 80)} has {len(ids)} "
                    f"tokens; with {self.asked.answer_tokens} of the answer they are more than "
                    f"the {most + self.asked.answer_tokens} positions of {state.weights.model}",
                    "show fewer passages or examples, or cut shorter ones (manual.words)",
                )
            prompts.append(ids)
        return prompts

    def _ask(self, arm: Arm, prompts: dict) -> dict:
        """Answers as token ids, log-probabilities a token, and what they took.

        `right` and `other` are those of the right answer and of another question's right one, `own`
        and `own_unanswerable` of what the arm says, `before` and `after` pairs of the new and the
        old answer of each edit.
        """
        asked, weights = self.asked, arm.now.weights
        most, end = asked.answer_tokens, asked.questions[0].answer_ids[-1]
        every = prompts["questions"] + prompts["unanswerable"]
        spoken, usage = generate(self.asking, weights, every, most)
        count = len(asked.questions)
        answers, beyond = spoken[:count], spoken[count:]
        gold = [question.answer_ids for question in asked.questions]
        wanted = {
            "right": list(zip(prompts["questions"], gold, strict=True)),
            "other": list(zip(prompts["questions"], [*gold[1:], gold[0]], strict=True)),
            "own": said(prompts["questions"], answers, end),
            "own_unanswerable": said(prompts["unanswerable"], beyond, end),
            "before": self._both(prompts["edits"]),
        }
        scores = score_all(self.asking, weights, wanted)
        if arm.edited:
            after = {"after": self._both(prompts["edited"])}
            scores |= score_all(self.asking, arm.edited.weights, after)
        return {
            **scores, "answers": answers, "answers_unanswerable": beyond,
            "found": [self._finds(arm, question) for question in asked.questions],
            "prompt_tokens": [len(prompt) for prompt in prompts["questions"]],
            "answer_seconds": usage.seconds / len(every),
            "answer_cpu_seconds": usage.cpu_seconds / len(every),
            "update_seconds": arm.update_seconds,
        }  # fmt: skip

    def _finds(self, arm: Arm, question: Question) -> bool:
        """Whether the passages that are shown contain the right answer, letter by letter."""
        shown = arm.now.choose(question) if arm.now.choose else None
        return shown is not None and any(question.answer in text for text in shown.passages)

    def _both(self, prompts: list[list[int]]) -> list[tuple]:
        """Requests for the new and the old answer of each edit, one after the other."""
        answers = [(e.new.answer_ids, e.question.answer_ids) for e in self.asked.edits]
        return [(p, a) for p, pair in zip(prompts, answers, strict=True) for a in pair]

    def _fingerprint(self, arm: Arm, prompts: dict) -> str:
        """Of all that the result depends on, but for the machine."""
        after = arm.edited.weights if arm.edited else None
        answers = [list(question.answer_ids) for question in self.asked.questions]
        new = [list(edit.new.answer_ids) for edit in self.asked.edits]
        parts = [prompts, answers, new, self.asked.answer_tokens, self.asking.dtype,
                 arm.cost.seconds, describe(arm.now.weights), describe(after)]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def said(prompts: list[list[int]], answers: list[list[int]], end: int) -> list[tuple]:
    """Requests for what the model says itself; an empty answer is the token that ends it."""
    return [(ids, answer or [end]) for ids, answer in zip(prompts, answers, strict=True)]


def score_all(
    asking: Asking, weights: Weights, wanted: dict[str, list[tuple]]
) -> dict[str, list]:
    """One run for all lists of requests."""
    flat = [request for requests in wanted.values() for request in requests]
    scores = iter(score(asking, weights, flat) if flat else [])
    return {name: [next(scores) for _ in requests] for name, requests in wanted.items()}


def describe(weights: Weights | None) -> list:
    """Names, sizes and times of the files of weights, which change when they are made again."""
    folders = [weights.model, weights.adapter] if weights else []
    files = [path for folder in folders if folder for path in Path(folder).glob("*.safetensors")]
    return sorted([str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files)
