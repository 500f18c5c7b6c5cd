#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers to the conversations of a file, by `temper generate`.

    generate.py MODEL --input FILE --output FILE [--ranks N] [--stop-text TEXT] [OPTIONS]
    generate.py MODEL --input FILE --output FILE --only-requests

OPTIONS are those of `temper generate`. A line of the input is an object with messages,
conversations or a prompt, as datasets/README.md has them; what the assistant says last, if it does,
is left out and kept as `reference`. A line of the output is the same object with the answer among
its messages, one line for each answer. Template and end tokens are the model's own. The same
command goes on where a killed one was.

With --only-requests nothing is answered: the output has the requests, as `temper generate` and the
key train.sample_prompts read them. There a line may also be {"text": "..."}, to be continued as it
is.
"""

import argparse
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from chat import decode_ids, encode_chat, encode_text
from temper_data.atomic_file import write_text
from temper_data.errors import DataError, RecordRefusal
from temper_data.json_text import to_json
from temper_data.layouts import context_of, from_sharegpt
from temper_data.limits import bounded_memory
from temper_data.message_parts import check_messages, text_of
from temper_data.model_tokenizer import ModelTokenizer, load_model_tokenizer
from temper_data.temper_program import TemperFailed, TemperProgram
from temper_data.text_ends import cut_at

MEMORY_BYTES = 8 << 30  # A template may ask for any amount.
USED = ("messages", "conversations", "prompt", "completion", "system")  # Of a line, here.
FORM = 'write {"messages": [{"role": "user", "content": "..."}]} or {"prompt": "..."}'


@dataclass
class Question:
    """What a line asks."""

    rest: dict  # what else the line has
    messages: list[dict]
    reference: str | None = None  # what the assistant says there


def parse(line: str, place: str) -> dict:
    """Raises DataError, naming the line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is no JSON: {error}", FORM) from error
    if not isinstance(record, dict):
        raise DataError(f"{place} is no object", FORM)
    return record


def read_question(record: dict, place: str) -> Question:
    """Raises DataError, naming the line."""
    try:
        messages = messages_of(record)
    except RecordRefusal as refusal:
        raise DataError(f"{place}: {refusal.detail or refusal.reason}", FORM) from refusal
    question = Question({k: v for k, v in record.items() if k not in USED}, messages)
    if messages[-1]["role"] == "assistant":
        question.reference = text_of(messages.pop())
    elif isinstance(record.get("completion"), str):
        question.reference = record["completion"]
    if not messages:
        raise DataError(f"{place}: there is nothing to answer", FORM)
    return question


def messages_of(record: dict) -> list[dict]:
    """Raises RecordRefusal."""
    if isinstance(record.get("prompt"), str):
        return [{"role": "user", "content": record["prompt"]}]
    if isinstance(record.get("prompt"), list) and record["prompt"]:
        turns = context_of(record["prompt"])
        return [{k: v for k, v in turn.items() if k != "train"} for turn in turns]
    if isinstance(record.get("conversations"), list) and record["conversations"]:
        return from_sharegpt(record, "conversations")
    if isinstance(record.get("messages"), list) and record["messages"]:
        return check_messages("messages", record["messages"])
    raise RecordRefusal("it has no messages, conversations or prompt")


def read_lines(path: Path) -> list[str]:
    """Raises DataError."""
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check the path") from error


def read_questions(path: Path) -> list[Question | None]:
    """One for each line, None for one that is empty. Raises DataError."""
    places = ((line, f"{path}, line {number}") for number, line in enumerate(read_lines(path), 1))
    questions = [
        read_question(parse(line, place), place) if line.strip() else None for line, place in places
    ]
    if not any(questions):
        raise DataError(f"{path} has no line to answer", FORM)
    return questions


def encode(model: ModelTokenizer, question: Question, place: str) -> dict:
    """The request. Raises DataError, naming the line."""
    try:
        return {"prompt": encode_chat(model, question.messages)}
    except DataError as error:
        raise DataError(f"{place}: {error.problem}", error.remedy) from error


def write_requests(arguments: argparse.Namespace) -> None:
    """The prompts alone, as ids. Raises DataError."""
    model = load_model_tokenizer(arguments.model)
    lines = []
    with bounded_memory(MEMORY_BYTES):
        for number, line in enumerate(read_lines(arguments.input), start=1):
            place = f"{arguments.input}, line {number}"
            record = parse(line, place) if line.strip() else {}
            if isinstance(record.get("text"), str) and record["text"]:
                lines.append({"prompt": encode_text(model, record["text"])})
            elif record:
                lines.append(encode(model, read_question(record, place), place))
    if not lines:
        raise DataError(f"{arguments.input} has no prompt", FORM)
    write_text(arguments.output, "".join(to_json(line) + "\n" for line in lines))


def claim(folder: Path, job: dict) -> None:
    """Makes `folder` for a job, or finds it as the same job left it. Raises DataError."""
    path = folder / "job.json"
    folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text()) if path.exists() else job
    if found != job:
        other = next(key for key in job if found.get(key) != job[key])
        raise DataError(
            f"{folder} was begun with another {other}",
            "give the same command to go on, or remove that folder to begin anew",
        )
    write_text(path, to_json(job))


def answer(arguments: argparse.Namespace, options: list[str]) -> None:
    """Writes the output. Raises DataError and TemperFailed."""
    output = arguments.output
    if output.exists():
        raise DataError(f"{output} is there already", "give another --output, or move it away")
    model = load_model_tokenizer(arguments.model)
    questions = read_questions(arguments.input)
    with bounded_memory(MEMORY_BYTES):
        requests = [
            question and encode(model, question, f"{arguments.input}, line {number}")
            for number, question in enumerate(questions, start=1)
        ]
    folder = output.with_name(output.name + ".partial")
    digest = hashlib.sha256(to_json([requests, arguments.stop_text]).encode()).hexdigest()
    claim(folder, {"model": str(arguments.model), "options": options, "input": digest})
    program = TemperProgram(arguments.model, arguments.ranks, options)
    answers = iter(program.answer("generate", requests, folder))
    asked = [question for question in questions if question]
    lines = []
    for question, found in zip(asked, answers, strict=True):
        for one in found["answers"]:
            text = decode_ids(model, one["ids"], keep_special=False)
            lines.append(to_line(question, *cut_at(text, one["end"], arguments.stop_text)))
    write_text(output, "".join(to_json(line, sort_keys=False) + "\n" for line in lines))
    shutil.rmtree(folder)


def to_line(question: Question, text: str, end: str) -> dict:
    """An answer among its messages; `end` is "stop", or "length" where the model would go on."""
    turn = {"role": "assistant", "content": text}
    reference = {} if question.reference is None else {"reference": question.reference}
    return question.rest | {"messages": [*question.messages, turn], "end": end} | reference


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False,
        epilog="Further options are those of temper generate, such as --adapter FOLDER, "
        "--answers N and --temperature T.",
    )  # fmt: skip
    parser.add_argument("model", type=Path, help="a Hugging Face model folder")
    parser.add_argument("--input", type=Path, required=True, help="conversations, JSON lines")
    parser.add_argument("--output", type=Path, required=True, help="their answers, JSON lines")
    parser.add_argument("--ranks", type=int, default=1, help="of this machine")
    parser.add_argument("--stop-text", action="append", default=[], metavar="TEXT",
                        help="answers are cut before it; may be repeated")  # fmt: skip
    parser.add_argument("--only-requests", action="store_true",
                        help="write prompts as token ids, for train.sample_prompts")  # fmt: skip
    arguments, options = parser.parse_known_args()
    if arguments.only_requests and options:
        parser.error(f"--only-requests takes no {options[0]}")
    try:
        if arguments.only_requests:
            write_requests(arguments)
        else:
            answer(arguments, options)
    except (DataError, TemperFailed) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
