# SPDX-License-Identifier: Apache-2.0
"""`temper score` on the command line: answers, their bits on several ranks, going on after a kill,
and what is refused."""

import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_run import HIDDEN, VOCAB, assert_refused, temper, write_model, write_run

CONFIGURATION, DATA, MODEL = 11, 12, 13
GOOD = {"context": [1, 2], "continuation": [3]}


def write_requests(path: Path, requests: list) -> Path:
    lines = (line if isinstance(line, str) else json.dumps(line) for line in requests)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def random_requests(count: int) -> list[dict]:
    """Several continuations for most contexts, in no order; some without a context."""
    draw = random.Random(1)

    def tokens(least: int, most: int) -> list[int]:
        return draw.choices(range(VOCAB), k=draw.randint(least, most))

    contexts = [tokens(0, 40) for _ in range(count // 3)] + [[]]
    return [
        {"id": f"r{i}", "context": draw.choice(contexts), "continuation": tokens(2, 20)}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("base") / "model")


def command(ranks: int, model: Path, requests: Path, *arguments) -> list[str]:
    words = ["mpirun", "-n", ranks, os.environ["TEMPER_BINARY"], "score", model]
    return [str(word) for word in (*words, "--requests", requests, *arguments)]


def score(ranks: int, model: Path, requests: Path, *arguments) -> str:
    """What it prints. Raises CalledProcessError unless it ends well."""
    line = command(ranks, model, requests, *arguments)
    return subprocess.run(line, stdout=subprocess.PIPE, check=True, text=True, timeout=120).stdout


def refused(model: Path, path: Path, requests: list, *messages: str) -> None:
    done = temper("score", model, "--requests", write_requests(path, requests))
    assert_refused(done, DATA, *messages)


def test_answers_come_in_the_order_of_the_requests(model, tmp_path):
    requests = random_requests(30)
    path = write_requests(tmp_path / "requests.jsonl", requests)
    answers = [json.loads(line) for line in score(1, model, path, "--tokens").splitlines()]
    assert [answer["id"] for answer in answers] == [request["id"] for request in requests]
    for request, answer in zip(requests, answers, strict=True):
        values = answer["logprobs"]
        assert len(values) == len(request["continuation"])
        if not request["context"]:
            assert values.pop(0) is None  # Nothing comes before it.
        assert answer["tokens"] == len(values) and max(values) < 0
        assert answer["logprob"] == pytest.approx(sum(values), rel=1e-6)
    short = [json.loads(line) for line in score(1, model, path).splitlines()]
    for answer in answers:
        del answer["logprobs"]
    assert short == answers


def test_ids_may_be_left_out_and_empty_lines_are_passed_over(model, tmp_path):
    request = {"context": [1], "continuation": [2]}
    requests = [request, "", request | {"id": "x"}, request]
    path = write_requests(tmp_path / "requests.jsonl", requests)
    answers = [json.loads(line) for line in score(1, model, path).splitlines()]
    assert [answer["id"] for answer in answers] == [0, "x", 2]
    assert len({answer["logprob"] for answer in answers}) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ranks_and_order_change_no_bit(model, tmp_path, dtype):
    requests = random_requests(60)
    path = write_requests(tmp_path / "requests.jsonl", requests)
    options = ("--tokens", "--dtype", dtype)
    expected = score(1, model, path, *options)
    for ranks in (2, 3):
        output = tmp_path / f"of{ranks}.jsonl"
        assert score(ranks, model, path, *options, "--output", output) == ""
        assert output.read_text() == expected
        assert not list(tmp_path.glob("*.partial"))
    some = write_requests(tmp_path / "some.jsonl", requests[::-7])
    assert score(1, model, some, *options).splitlines() == expected.splitlines()[::-7]


def wait_for_answers(partial: Path, process: subprocess.Popen, count: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None:
        if partial.exists() and partial.read_text().count("\n") > count:
            return
        assert time.monotonic() < deadline
        time.sleep(0.001)


def killed_after(count: int, line: list[str], output: Path) -> str:
    """What stands beside `output` of a job of one rank that was killed after so many answers."""
    partial = output.with_name(output.name + ".partial")
    process = subprocess.Popen(line[3:], stderr=subprocess.DEVNULL)
    wait_for_answers(partial, process, count)
    process.kill()
    process.wait()
    assert not output.exists(), "the job was over before it was killed"
    return partial.read_text()


def test_a_killed_job_goes_on_where_it_was(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", random_requests(3000))
    expected = score(1, model, path)
    output, partial = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.partial"
    kept = killed_after(100, command(1, model, path, "--output", output), output)
    partial.write_text(kept + '{"request": 2999, "logpr')  # As a dead node leaves it.
    done = subprocess.run(command(2, model, path, "--output", output), stderr=subprocess.PIPE,
                          check=True, text=True, timeout=120)  # fmt: skip
    num_kept = kept.count("\n") - 1
    assert f"score requests=3000 done={num_kept}\n" in done.stderr and num_kept >= 100
    assert output.read_text() == expected and not partial.exists()


def test_an_output_that_is_there_is_not_overwritten(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", random_requests(9))
    output = tmp_path / "answers.jsonl"
    output.write_text("something\n")
    done = temper("score", model, "--requests", path, "--output", output)
    assert_refused(done, DATA, f"{output} is there already\n  try: give another --output")
    assert output.read_text() == "something\n"


def not_finite(model: Path, path: Path) -> Path:
    """The same model with a last norm so large that there are no log-probabilities."""
    copy = shutil.copytree(model, path)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-4 * HIDDEN :] = np.full(HIDDEN, 3e38, np.float32).tobytes()
    (copy / "model.safetensors").write_bytes(data)
    return copy


def test_what_was_begun_for_others_is_refused_and_kept(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", random_requests(9))
    output, partial = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.partial"
    arguments = ("--requests", path, "--output", output)
    other = not_finite(model, tmp_path / "other")
    assert temper("score", other, *arguments).returncode == MODEL  # It has begun.
    header = json.loads(partial.read_text())
    for text, message in (
        (header | {"requests": "others"}, f'{partial}, line 1: requests is "others", wanted '),
        (header | {"weights": "others"}, ', line 1: weights is "others", wanted '),
        ("something else", ', line 1: adapter is null, wanted "": it was begun for other requests'),
    ):  # fmt: skip
        partial.write_text(json.dumps(text) + "\n")
        done = temper("score", other, *arguments)
        assert_refused(done, DATA, message, "move that file away to begin anew")
        assert partial.read_text() == json.dumps(text) + "\n" and not output.exists()
    partial.write_text("")  # Of a job that was killed at once.
    assert temper("score", model, *arguments).returncode == 0
    nowhere = tmp_path / "nowhere" / "answers.jsonl"
    done = temper("score", model, "--requests", path, "--output", nowhere)
    assert_refused(done, DATA, str(nowhere.parent))


def test_what_is_not_finite_is_no_answer(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", [GOOD | {"id": "a"}])
    done = temper("score", not_finite(model, tmp_path / "other"), "--requests", path)
    assert_refused(done, MODEL, 'a log-probability of request "a" is nan, wanted a finite number')


def test_what_was_begun_with_another_model_is_refused(model, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", [GOOD])
    other = not_finite(model, tmp_path / "other")
    options = ("--requests", path, "--output", tmp_path / "answers.jsonl", "--dtype")
    assert temper("score", other, *options, "float32").returncode == MODEL  # It has begun.
    assert_refused(temper("score", model, *options, "float32"), DATA, "line 1: weights is ")
    message = 'line 1: dtype is "float32", wanted "bfloat16": it was begun for other requests or'
    assert_refused(temper("score", other, *options, "bfloat16"), DATA, message)
    assert temper("score", other, *options, "float32").returncode == MODEL


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 2 is not the JSON it should be: "),
        ("[1]", "line 2: [1] is no request\n  try: write one request a line, such as"),
        ({"context": [1]}, "line 2: continuation is missing"),
        ({"continuation": [1]}, "line 2: context is missing"),
        (GOOD | {"contxt": 1}, "line 2: 'contxt' is no key of a request"),
        (GOOD | {"context": 7}, "line 2: context is 7, wanted a list of token ids"),
        (GOOD | {"context": [1, "a"]}, 'line 2: context token 1 is "a", wanted an id from 0 to 63'),
        (GOOD | {"context": [1.5]}, "line 2: context token 0 is 1.5, wanted an id"),
        (GOOD | {"continuation": [64]}, "line 2: continuation token 0 is 64, wanted an id from 0"),
        (GOOD | {"continuation": [-1]}, "continuation token 0 is -1"),
        (GOOD | {"continuation": [2**63]}, f"continuation token 0 is {2**63}"),
        (GOOD | {"continuation": []}, "line 2: the continuation has no token"),
        (GOOD | {"context": []}, "line 2: the context is empty, so that nothing comes before the"),
        (GOOD | {"id": [1]}, "line 2: id is [1], wanted a string or a whole number"),
        (GOOD | {"id": "a"}, 'line 2: the id "a" is also that of line 1'),
        (
            {"context": [1] * 60, "continuation": [2] * 6},
            "line 2: context and continuation are 66 tokens, of which the last is not read, but "
            "the model knows 64 positions\n  try: leave out the first 1 tokens of the context",
        ),
    ],
)
def test_a_line_that_cannot_be_answered_is_named(model, tmp_path, line, message):
    path = tmp_path / "requests.jsonl"
    refused(model, path, [GOOD | {"id": "a"}, line], f"{path}, ", message)


def test_a_file_without_requests_is_refused(model, tmp_path):
    path = tmp_path / "requests.jsonl"
    refused(model, path, ["", " "], f"{path} has no request\n  try: write one request a line")
    done = temper("score", model, "--requests", tmp_path / "none.jsonl")
    assert_refused(done, DATA, "none.jsonl cannot be read: No such file or directory")


def test_the_longest_text_that_fits_is_scored(model, tmp_path):
    request = {"context": [1] * 60, "continuation": [2] * 5}
    answer = score(1, model, write_requests(tmp_path / "requests.jsonl", [request]))
    assert json.loads(answer)["tokens"] == 5


@pytest.fixture(scope="module")
def adapted(tmp_path_factory) -> Path:
    """A folder with a model and a run of prefix tuning that is over."""
    folder = tmp_path_factory.mktemp("adapted")
    config = write_run(folder)
    config.write_text(config.read_text() + "method: prefix\nprefix: {tokens: 4}\n")
    done = temper("train", config)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_adapter_is_scored_and_takes_positions(adapted, tmp_path):
    request = {"context": [1] * 50, "continuation": [2] * 11}
    path = write_requests(tmp_path / "requests.jsonl", [request])
    final = adapted / "run/final"
    tuned = score(1, adapted / "model", path, "--adapter", final)
    assert tuned != score(1, adapted / "model", path)
    assert tuned == score(2, adapted / "run.yaml", path, "--dtype", "auto")
    request["context"] += [1, 1, 1, 1, 1]
    write_requests(path, [request])
    done = temper("score", adapted / "model", "--requests", path, "--adapter", final)
    assert_refused(done, DATA, "the adapter's 4, context and continuation are 70 tokens")


def test_an_adapter_of_another_base_is_refused(adapted, tmp_path):
    path = write_requests(tmp_path / "requests.jsonl", [GOOD])
    other = write_model(tmp_path / "other")
    data = bytearray((other / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (other / "model.safetensors").write_bytes(data)
    done = temper("score", other, "--requests", path, "--adapter", adapted / "run/final")
    assert_refused(done, MODEL, f"{other} is another model")
