# SPDX-License-Identifier: Apache-2.0
"""Asks a model all examples of all tasks, and counts its answers."""

import math
from dataclasses import dataclass, field

from ..model_tokenizer import ModelTokenizer
from ..temper_program import TemperProgram
from ..text_ends import cut_at
from .asking import Asking, Request
from .examples import Example
from .metrics import GENERATED, LIBRARIES, Figure, best, exponential, mean, ratio
from .task_file import Task


@dataclass
class Outcome:
    """What one task came to."""

    task: Task
    figures: dict[str, Figure]
    answers: list[dict]  # one an example: what the model said

    def to_json(self) -> dict:
        return {
            "name": self.task.name,
            "kind": self.task.kind,
            "num_examples": len(self.answers),
            "figures": {name: vars(figure) for name, figure in self.figures.items()},
            "answers": self.answers,
        }


@dataclass
class Plan:
    """One task's part of what the model is asked."""

    task: Task
    examples: list[Example]
    requests: list[Request] = field(default_factory=list)  # scored, example by example
    prompts: list[list[int]] = field(default_factory=list)  # answered


def make_plan(task: Task, examples: list[Example], asking: Asking) -> Plan:
    """Raises DataError for an example that the model cannot be asked."""
    plan = Plan(task, examples)
    for name in LIBRARIES.keys() & set(task.metrics):
        LIBRARIES[name]()
    for example in examples:
        if task.kind == "generation":
            plan.prompts.append(asking.question(task, example))
        else:
            texts = example.choices or example.answers
            plan.requests += [asking.pair(task, example, text) for text in texts]
    return plan


def run_plans(plans: list[Plan], model: ModelTokenizer, program: TemperProgram) -> list[Outcome]:
    """Scores all at once. Raises TemperFailed."""
    requests = [
        {"context": context, "continuation": continuation}
        for plan in plans
        for context, continuation in plan.requests
    ]
    lines = program.answer("score", requests) if requests else []
    scores = iter([(line["logprob"], line["greedy"]) for line in lines])
    outcomes = []
    for plan in plans:
        if plan.task.kind == "generation":
            outcomes.append(answer(plan, model, program))
            continue
        own = [next(scores) for _ in plan.requests]
        outcomes.append(choose(plan, own) if plan.task.kind == "multiple_choice"
                        else complete(plan, own))  # fmt: skip
    return outcomes


def choose(plan: Plan, scores: list[tuple[float, bool]]) -> Outcome:
    """By log-probability: as it is, by character of the choice, and by byte."""
    sizes = {
        "accuracy": lambda text: 1,
        "accuracy_by_length": len,
        "accuracy_by_bytes": lambda text: len(text.encode()),
    }
    rest, answers = iter(scores), []
    hits: dict[str, list[float]] = {name: [] for name in plan.task.metrics}
    for example in plan.examples:
        own = [next(rest)[0] for _ in example.choices]
        chosen = {
            name: best([s / sizes[name](t) for s, t in zip(own, example.choices, strict=True)])
            for name in hits
        }
        for name, index in chosen.items():
            hits[name].append(float(index == example.right))
        answers.append({"logprobs": own, "right": example.right, "chosen": chosen})
    return Outcome(plan.task, {name: mean(values) for name, values in hits.items()}, answers)


def complete(plan: Plan, scores: list[tuple[float, bool]]) -> Outcome:
    """Of given continuations; perplexity is that of an answer, whatever its length."""
    logprobs = [logprob for logprob, _ in scores]
    sizes = [len(example.answers[0].encode()) for example in plan.examples]
    figures = {
        "accuracy": mean([float(is_greedy) for _, is_greedy in scores]),
        "perplexity": exponential(mean([-logprob for logprob in logprobs])),
        "bits_per_byte": ratio([-logprob / math.log(2) for logprob in logprobs], sizes),
    }
    answers = [{"logprob": logprob, "greedy": is_greedy} for logprob, is_greedy in scores]
    return Outcome(plan.task, {name: figures[name] for name in plan.task.metrics}, answers)


def answer(plan: Plan, model: ModelTokenizer, program: TemperProgram) -> Outcome:
    """Greedy answers; of several right ones, that which counts most."""
    count = plan.task.max_new_tokens
    requests = [{"prompt": prompt, "max_tokens": count} for prompt in plan.prompts]
    answers = (line["answers"][0]["ids"] for line in program.answer("generate", requests))
    texts = [cut_at(model.tokenizer.decode(ids), "", plan.task.stop)[0] for ids in answers]
    figures = {
        name: mean([
            max(GENERATED[name](text, right) for right in example.answers)
            for text, example in zip(texts, plan.examples, strict=True)
        ])
        for name in plan.task.metrics
    }  # fmt: skip
    return Outcome(plan.task, figures, [{"text": text} for text in texts])
