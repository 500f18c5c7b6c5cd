# SPDX-License-Identifier: Apache-2.0
"""launch/generate: conversations of a file with their answers, beside transformers."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from answering_model import greedy_text, write_answering_model
from conftest import ROOT, write_lines, write_model
from transformers import AutoTokenizer

OPTIONS = ("--max-new-tokens", 12, "--dtype", "float32", "--threads", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_answering_model(tmp_path_factory.mktemp("answering") / "model")


def generate(model: Path, source: Path, output: Path, *arguments) -> subprocess.CompletedProcess:
    words = (ROOT / "launch/generate", model, "--input", source, "--output", output, *arguments)
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def test_answers_stand_among_their_messages_as_transformers_has_them(model, tmp_path):
    turns = [{"role": "system", "content": "S"}, user("Grüße?")]
    human = [{"from": "human", "value": "a"}]
    source = write_lines(tmp_path / "in.jsonl", [
        {"id": 7, "messages": [*turns, {"role": "assistant", "content": "known"}], "page": "x"},
        "", {"prompt": "How?", "completion": "So."}, {"prompt": turns}, {"conversations": human},
    ])  # fmt: skip
    output = tmp_path / "out.jsonl"
    done = generate(model, source, output, *OPTIONS)
    assert done.returncode == 0, done.stderr
    found = lines_of(output)
    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = (turns, [user("How?")], turns, [user("a")])
    for messages, line in zip(asked, found, strict=True):
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        answer = {"role": "assistant", "content": greedy_text(model, tokenizer, ids, 12)}
        assert line["messages"] == [*messages, answer] and line["end"] in ("stop", "length")
    assert (found[0]["id"], found[0]["page"], found[0]["reference"]) == (7, "x", "known")
    assert found[1]["reference"] == "So." and found[2].keys() == {"messages", "end"}
    assert "generate requests=4 done=4" in done.stderr
    assert [path.name for path in tmp_path.iterdir()].count("out.jsonl.partial") == 0


def test_prompts_alone_are_written_as_transformers_encodes_them(model, tmp_path):
    turns = [user("Grüße?")]
    source = write_lines(tmp_path / "in.jsonl", [{"messages": turns}, "", {"text": "Once upon"}])
    output = tmp_path / "out.jsonl"
    done = generate(model, source, output, "--only-requests")
    assert done.returncode == 0, done.stderr
    tokenizer = AutoTokenizer.from_pretrained(model)
    chat = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert lines_of(output) == [{"prompt": chat}, {"prompt": tokenizer("Once upon").input_ids}]
    done = generate(model, source, tmp_path / "x", "--only-requests", "--temperature", 1)
    assert done.returncode == 2 and "takes no --temperature" in done.stderr
    done = generate(model, write_lines(tmp_path / "none.jsonl", [""]), output, "--only-requests")
    assert done.returncode == 1 and "has no prompt" in done.stderr


def test_several_answers_are_a_line_each_and_end_at_a_text(model, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    sampled = (*OPTIONS, "--answers", 3, "--temperature", 1.5)
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert generate(model, source, whole, *sampled).returncode == 0
    texts = [line["messages"][-1]["content"] for line in lines_of(whole)]
    assert len(set(texts)) == 6
    stop = next(text[2] for text in texts if len(text) > 2)
    done = generate(model, source, cut, *sampled, "--stop-text", "☃", "--stop-text", stop)
    assert done.returncode == 0, done.stderr
    for text, line in zip(texts, lines_of(cut), strict=True):
        assert line["messages"][-1]["content"] == text.split(stop)[0]
        assert stop not in text or line["end"] == "stop"


def test_a_killed_job_goes_on_and_another_command_is_refused(model, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": f"{i}"} for i in range(9)])
    expected, output = tmp_path / "expected.jsonl", tmp_path / "out.jsonl"
    assert generate(model, source, expected, *OPTIONS).returncode == 0
    none = os.environ | {"TEMPER_BINARY": "false"}
    words = [ROOT / "launch/generate", model, "--input", source, "--output", output, *OPTIONS]
    done = subprocess.run(list(map(str, words)), env=none, capture_output=True, text=True)
    assert done.returncode == 1 and "temper generate ended with code 1" in done.stderr
    partial = tmp_path / "out.jsonl.partial"
    other = generate(model, source, output, *OPTIONS, "--seed", 2)
    assert other.returncode == 1 and f"{partial} was begun with another options" in other.stderr
    assert partial.exists()
    assert generate(model, source, output, *OPTIONS).returncode == 0
    assert output.read_text() == expected.read_text() and not partial.exists()
    again = generate(model, source, output, *OPTIONS)
    assert again.returncode == 1 and f"{output} is there already" in again.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is no JSON"),
        ("[]", "line 2 is no object"),
        ({"text": "x"}, "line 2: it has no messages, conversations or prompt"),
        ({"messages": [{"content": "x"}]}, "line 2: message 0 of messages has no role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "line 2: there is nothing to"),
        ({"prompt": "x" * 600}, "line 2: prompt and answer may take 6"),
    ],
)
def test_a_line_that_cannot_be_answered_is_named(model, tmp_path, line, says):
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "a"}, line])
    done = generate(model, source, tmp_path / "out.jsonl", *OPTIONS)
    assert done.returncode == 1 and says in done.stderr and "try: " in done.stderr, done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_model_without_a_template_and_a_file_without_lines_are_refused(model, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "a"}])
    done = generate(write_model(tmp_path / "plain"), source, tmp_path / "out.jsonl")
    assert done.returncode == 1 and "line 1: the model has no chat template" in done.stderr
    done = generate(model, write_lines(tmp_path / "none", ["", " "]), tmp_path / "out.jsonl")
    assert done.returncode == 1 and "none has no line to answer" in done.stderr
