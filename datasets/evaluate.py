#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tasks of a YAML file on a model: multiple choice, cloze and greedy answers, with standard errors.

    evaluate.py MODEL --tasks FILE.yaml [--adapter FOLDER] [--ranks N] [--output RESULT.json]

Everything is read and checked before the model is loaded. Stands on `temper score` and `temper
generate`.
"""

import argparse
import json
import sys
from pathlib import Path

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.tasks.asking import Asking
from temper_data.tasks.evaluation import Outcome, make_plan, run_plans
from temper_data.tasks.examples import read_examples
from temper_data.tasks.task_file import load_tasks
from temper_data.temper_program import (
    TemperFailed,
    TemperProgram,
    max_length,
    weights_options,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", type=Path, help="Hugging Face model folder")
    parser.add_argument("--tasks", type=Path, required=True, help="YAML file of tasks")
    parser.add_argument("--adapter", default="", help="the folder of an adapter, as peft has it")
    parser.add_argument("--ranks", type=int, default=1, help="processes, on this machine")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--output", type=Path, help="JSON of figures and answers")
    return parser.parse_args()


def evaluate(arguments: argparse.Namespace) -> list[Outcome]:
    """Raises DataError, TemperFailed."""
    tasks = [(task, read_examples(task)) for task in load_tasks(arguments.tasks)]
    model = load_model_tokenizer(arguments.model)
    options = weights_options(arguments.adapter, arguments.dtype)
    program = TemperProgram(arguments.model, arguments.ranks, options)
    asking = Asking(model, max_length(arguments.model, arguments.adapter))
    plans = [make_plan(task, examples, asking) for task, examples in tasks]
    return run_plans(plans, model, program)


def table(outcomes: list[Outcome]) -> str:
    """One line for each figure."""
    rows = [("task", "figure", "value", "standard error", "examples")]
    for outcome in outcomes:
        for name, figure in outcome.figures.items():
            error = figure.standard_error
            rows.append((outcome.task.name, name, f"{figure.value:.4f}",
                         "-" if error is None else f"{error:.4f}",
                         str(len(outcome.answers))))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        texts = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(texts + numbers))
    return "\n".join(lines)


def main() -> int:
    arguments = parse_arguments()
    try:
        outcomes = evaluate(arguments)
        print(table(outcomes))
        if arguments.output:
            result = {"model": str(arguments.model), "adapter": arguments.adapter,
                      "tasks": [outcome.to_json() for outcome in outcomes]}  # fmt: skip
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    except (DataError, TemperFailed) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"evaluate: {error}\n  try: another --output", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
