# SPDX-License-Identifier: Apache-2.0
"""`temper generate --requests`: answers, their bits in company and on several ranks, going on after
a kill, requests that come while others are answered, and what is refused."""

import json
import os
import random
import select
import subprocess
import time
from pathlib import Path

import pytest
from score_test import adapted, killed_after, not_finite, write_requests  # noqa: F401
from tiny_run import VOCAB, assert_refused, temper, write_model

CONFIGURATION, DATA, MODEL = 11, 12, 13
GOOD = {"prompt": [1, 2]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("base") / "model")


def random_requests(count: int) -> list[dict]:
    """Greedy and sampled ones, some with a seed of their own, log-probabilities or more answers."""
    draw, requests = random.Random(1), []
    for i in range(count):
        request = {"id": f"r{i}", "prompt": draw.choices(range(VOCAB), k=draw.randint(1, 30))}
        request["max_tokens"] = draw.randint(1, 30)
        kind = i % 4
        if kind == 1:
            request |= {"temperature": 2.0, "seed": i}
        elif kind == 2:
            request |= {"temperature": 1.5, "n": 3, "stop": [7, 9], "top_k": 40}
        elif kind == 3:
            request |= {"logprobs": 2, "prompt_logprobs": True, "repetition_penalty": 1.3}
        requests.append(request)
    return requests


def command(ranks: int, model: Path, requests: Path, *arguments) -> list[str]:
    words = ["mpirun", "-n", ranks, os.environ["TEMPER_BINARY"], "generate", model]
    return [str(word) for word in (*words, "--requests", requests, *arguments)]


def generate(ranks: int, model: Path, requests: Path, *arguments) -> str:
    """What it prints. Raises CalledProcessError unless it ends well."""
    line = command(ranks, model, requests, *arguments)
    return subprocess.run(line, stdout=subprocess.PIPE, check=True, text=True, timeout=120).stdout


def answers_in(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_request_is_answered_as_it_asks(model, tmp_path):
    requests = random_requests(24)
    path = write_requests(tmp_path / "requests.jsonl", requests)
    lines = answers_in(generate(1, model, path))
    assert [line["id"] for line in lines] == [request["id"] for request in requests]
    for request, line in zip(requests, lines, strict=True):
        assert len(line["answers"]) == request.get("n", 1)
        for answer in line["answers"]:
            count, most = len(answer["ids"]), request["max_tokens"]
            assert count == most if answer["end"] == "length" else count < most
            assert not {0, *request.get("stop", [])} & set(answer["ids"])
            assert ("logprobs" in answer) == ("logprobs" in request)
        if "logprobs" not in request:
            assert line.keys() == {"id", "answers"}
            continue
        assert len(answer["logprobs"]) == len(answer["top"]) == count
        assert line["prompt_logprobs"][0] is None and line["prompt_top"][0] is None
        assert len(line["prompt_logprobs"]) == len(line["prompt_top"]) == len(request["prompt"])
        for top in (*line["prompt_top"][1:], *answer["top"]):
            assert len(top) == 2 and 0 > top[0][1] >= top[1][1]
    sampled = [line["answers"] for line in lines[2::4]]
    assert any(a["ids"] != b["ids"] for a, b, _ in sampled)


def test_prompts_and_requests_have_the_same_answers(model, tmp_path):
    requests = [{"prompt": [1, 2, 3]}, {"prompt": [7]}]
    path = write_requests(tmp_path / "requests.jsonl", requests)
    options = ("--max-new-tokens", 9, "--temperature", 2, "--seed", 4, "--answers", 2)
    lines = answers_in(generate(1, model, path, *options))
    found = [",".join(map(str, a["ids"])) for line in lines for a in line["answers"]]
    (tmp_path / "prompts.txt").write_text("1,2,3\n7\n")
    done = temper("generate", model, "--prompts", tmp_path / "prompts.txt", *options)
    assert done.stdout.splitlines() == found and len(set(found)) == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ranks_and_company_change_no_bit(model, tmp_path, dtype):
    requests = random_requests(40)
    path = write_requests(tmp_path / "requests.jsonl", requests)
    expected = generate(1, model, path, "--dtype", dtype)
    for ranks in (2, 3):
        output = tmp_path / f"of{ranks}.jsonl"
        options = ("--dtype", dtype, "--at-once", ranks, "--output", output)
        assert generate(ranks, model, path, *options) == ""
        assert output.read_text() == expected
        assert not list(tmp_path.glob("*.partial"))
    for first in (1, 3):  # With a seed of its own, or greedy.
        some = write_requests(tmp_path / "some.jsonl", requests[first::4][::-1])
        alone = generate(1, model, some, "--dtype", dtype).splitlines()
        assert alone == expected.splitlines()[first::4][::-1]


def test_a_killed_job_goes_on_where_it_was(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", random_requests(700))
    expected = generate(1, model, path)
    output, partial = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.partial"
    kept = killed_after(100, command(1, model, path, "--output", output), output)
    torn = ['{"request": 699, "answ', '{"request": 698, "answers": []}',
            '{"request": 697, "answers": [{"ids": 7}]}', '{"request": 9999}']  # fmt: skip
    partial.write_text(kept + "".join(text + "\n" for text in torn))
    done = subprocess.run(command(2, model, path, "--output", output), stderr=subprocess.PIPE,
                          check=True, text=True, timeout=120)  # fmt: skip
    num_kept = kept.count("\n") - 1
    assert f"generate requests=700 done={num_kept}\n" in done.stderr and num_kept >= 100
    assert output.read_text() == expected and not partial.exists()


def test_what_was_begun_with_other_options_is_refused(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", [GOOD | {"max_tokens": 3}])
    output, partial = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.partial"
    partial.write_text("")
    generate(1, model, path, "--output", output)
    done = temper("generate", model, "--requests", path, "--output", output)
    assert_refused(done, DATA, f"{output} is there already\n  try: give another --output")
    output.unlink()
    other = not_finite(model, tmp_path / "other")
    arguments = ("generate", other, "--requests", path, "--output", output)
    done = temper(*arguments)
    assert_refused(done, MODEL, "the logits of answer token 0 are not finite")  # It has begun.
    assert_refused(temper(*arguments, "--seed", 2), DATA, f"{partial}, line 1: options is ")
    done = temper("generate", model, "--requests", path, "--output", output)
    assert_refused(done, DATA, f"{partial}, line 1: weights is ", "or another model")
    assert temper(*arguments).returncode == MODEL


@pytest.mark.parametrize(
    "line, message",
    [
        ("[1]", "line 2: [1] is no request\n  try: write one request a line, such as"),
        ({}, "line 2: prompt is missing"),
        (GOOD | {"stream": True}, "line 2: 'stream' is no key of a request"),
        ({"prompt": []}, "line 2: the prompt has no token"),
        ({"prompt": [64]}, "line 2: prompt token 0 is 64, wanted an id from 0 to 63"),
        (GOOD | {"id": "a"}, 'line 2: the id "a" is also that of line 1'),
        (GOOD | {"max_tokens": 63}, "line 2: prompt and answer may take 65 tokens, but the model "
         "knows 64 positions\n  try: ask for at most 62 new tokens, or shorten the prompt"),
        (GOOD | {"n": 0}, "line 2: n is 0, wanted a whole number from 1 to 10000"),
        (GOOD | {"temperature": "hot"}, 'temperature is "hot", wanted a number from 0 to 100'),
        (GOOD | {"top_p": 1.5}, "line 2: top_p is 1.5, wanted a number from 0 to 1"),
        (GOOD | {"seed": -1}, "line 2: seed is -1, wanted a whole number from 0 to 1844"),
        (GOOD | {"stop": [64]}, "line 2: stop token 0 is 64, wanted an id from 0 to 63"),
        (GOOD | {"logprobs": 21}, "line 2: logprobs is 21, wanted a whole number from 0 to 20"),
        (GOOD | {"prompt_logprobs": 1}, "line 2: prompt_logprobs is 1, wanted true or false"),
        (GOOD | {"prompt_logprobs": True}, "prompt_logprobs is true, but logprobs is missing"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_answered_is_named(model, tmp_path, line, message):
    path = write_requests(tmp_path / "requests.jsonl", [GOOD | {"id": "a"}, line])
    done = temper("generate", model, "--requests", path, "--max-new-tokens", 4)
    assert_refused(done, DATA, f"{path}, ", message)


def test_odd_command_lines_are_refused(model, tmp_path):
    done = temper("generate", model)
    assert done.returncode == CONFIGURATION and "--requests" in done.stderr
    done = temper("generate", model, "--prompts", "1", "--requests", "x")
    assert done.returncode == CONFIGURATION
    done = temper("generate", model, "--prompts", "1", "--output", tmp_path / "x")
    assert_refused(done, CONFIGURATION, "--output is set, but answers are kept only for a file of")


def test_an_adapter_answers_and_takes_positions(adapted, tmp_path):  # noqa: F811
    request = {"prompt": [1] * 40, "max_tokens": 20, "temperature": 1.0}
    path = write_requests(tmp_path / "requests.jsonl", [request])
    final = adapted / "run/final"
    tuned = generate(1, adapted / "model", path, "--adapter", final)
    assert tuned != generate(1, adapted / "model", path)
    assert tuned == generate(2, adapted / "run.yaml", path, "--dtype", "auto")
    write_requests(path, [request | {"max_tokens": 21}])
    done = temper("generate", adapted / "model", "--requests", path, "--adapter", final)
    assert_refused(done, DATA, "the adapter's 4, prompt and answer may take 65 tokens")


class Process:
    """A `temper generate --requests -`."""

    def __init__(self, ranks: int, model: Path, *arguments):
        self.process = subprocess.Popen(
            command(ranks, model, "-", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.rest = b""

    def send(self, *requests) -> None:
        for request in requests:
            text = request if isinstance(request, str) else json.dumps(request)
            self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def line(self) -> dict:
        end = time.monotonic() + 60
        while b"\n" not in self.rest:
            ready = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]
            data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            assert data, "no line came"
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def end(self) -> int:
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code


@pytest.mark.parametrize("ranks", [1, 2])
def test_requests_are_answered_as_they_come(model, tmp_path, ranks):
    requests = random_requests(9)
    expected = answers_in(generate(1, model, write_requests(tmp_path / "all.jsonl", requests)))
    process = Process(ranks, model)
    process.send(*requests)
    found = sorted((process.line() for _ in requests), key=lambda line: line["id"])
    assert found == expected
    process.send({"id": 1, "prompt": [3], "stream": True, "max_tokens": 4, "logprobs": 1})
    lines = [process.line()]
    while "answers" not in lines[-1]:
        lines.append(process.line())
    whole = lines.pop()["answers"][0]
    assert [line["token"] for line in lines] == whole["ids"] and whole["ids"]
    assert [line["logprob"] for line in lines] == whole["logprobs"]
    assert [line["top"] for line in lines] == whole["top"]
    assert {(line["id"], line["answer"]) for line in lines} == {(1, 0)}
    assert process.end() == 0


def test_a_bad_line_is_answered_and_the_process_lives(model):
    process = Process(1, model)
    process.send("{", "", {"id": 7, "prompt": [64]}, {"id": "x", "cancel": "nothing"})
    line = process.line()
    assert line["id"] is None and line["error"].startswith("line 1 is not the JSON it should be: ")
    line = process.line()
    assert line["error"] == "line 3: prompt token 0 is 64, wanted an id from 0 to 63"
    assert line["id"] == 7
    assert line["remedy"] == "encode the texts with this model's tokenizer"
    process.send(GOOD | {"id": 7, "max_tokens": 3})
    assert process.line()["id"] == 7
    assert process.end() == 0


def test_answers_are_cancelled_one_by_one_or_all(model):
    process = Process(1, model, "--at-once", 2)
    asked = {"prompt": [1], "max_tokens": 60, "stream": True, "temperature": 5.0}
    process.send(asked | {"id": "a", "n": 2}, asked | {"id": "b", "n": 3})
    process.send({"cancel": "a", "answer": 2}, {"cancel": "a", "answer": 1}, {"cancel": "b"})
    lines = []
    while sum("answers" in line for line in lines) < 2:
        lines.append(process.line())
    errors = [line["error"] for line in lines if "error" in line]
    assert errors == ["line 3: answer is 2, wanted a number below 2"]
    ends = {line["id"]: [answer["end"] for answer in line["answers"]]
            for line in lines if "answers" in line}  # fmt: skip
    assert ends["b"] == ["cancelled"] * 3
    assert ends["a"][0] in ("stop", "length") and ends["a"][1] == "cancelled"
    process.send({"id": "a", "prompt": [1], "max_tokens": 1})  # The id is free again.
    assert process.line()["id"] == "a" and process.end() == 0
