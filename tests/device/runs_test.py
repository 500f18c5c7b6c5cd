# SPDX-License-Identifier: Apache-2.0
"""The program itself on the simulated device: trained, killed, resumed, evaluated, asked."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "end_to_end"), str(ROOT / "tests" / "app")]

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

DEVICE = Path(os.environ["TEMPER_BUILD_DIR"]) / "tests" / "device" / "libtemper_simulated_device.so"
FINISHED, CONFIGURATION, OUT_OF_MEMORY, REFUSED = 0, 11, 17, 18
METHODS = {
    "full": [],
    "dora": ["method=lora", "lora.use_dora=true", "lora.dropout=0.1"],
    "qlora": ["method=qlora", "parallel.stage=3"],
}


@pytest.fixture
def on_device(tmp_path, monkeypatch):
    """From then on the program has an accelerator."""

    def begin() -> None:
        program = tmp_path / "temper"
        binary = os.environ["TEMPER_BINARY"]
        program.write_text(f'#!/bin/sh\nLD_PRELOAD="{DEVICE}" exec "{binary}" "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("TEMPER_BINARY", str(program))

    return begin


def write(folder: Path, device: str) -> Path:
    config = tiny_job.write(folder, evaluates=True)
    text = config.read_text().replace("dtype: float32", f"dtype: float32, device: {device}")
    text = text.replace("evaluate_every_steps: 1", "evaluate_every_steps: 10")
    config.write_text(text)
    return config


def train(ranks: int, config: Path, *overrides: str) -> str:
    code, log = tiny_job.train(ranks, config, *overrides)
    assert code == FINISHED, log
    return log


def test_without_one_it_is_refused(tmp_path):
    done = tiny_run.temper("train", write(tmp_path, "cuda"), cwd=tmp_path)
    tiny_run.assert_refused(done, CONFIGURATION, "this build of temper knows no device cuda")


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_has_the_bits_of_one_rank_and_the_numbers_of_the_cpu(
    tmp_path, on_device, method
):
    host = write(tmp_path / "host", "cpu")
    train(1, host, *METHODS[method])
    on_device()
    undisturbed = write(tmp_path / "undisturbed", "cuda")
    train(1, undisturbed, *METHODS[method])
    killed = write(tmp_path / "killed", "cuda")
    job = tiny_job.Job(3, killed, *METHODS[method])
    tiny_job.wait_for_step(job, killed, 12)
    job.kill()
    assert "resumed step=" in train(2, killed, *METHODS[method])
    found, expected = tiny_job.result(killed), tiny_job.result(undisturbed)
    assert found[0] == expected[0]
    assert weights_of(found[1]) == weights_of(expected[1])
    assert tiny_job.losses_of(undisturbed) == pytest.approx(tiny_job.losses_of(host), rel=1e-4)
    for path in (host.parent / "run" / "final").glob("*.safetensors"):
        ours = load_file(undisturbed.parent / "run" / "final" / path.name)
        for name, tensor in load_file(path).items():
            np.testing.assert_allclose(ours[name], tensor, rtol=0, atol=1e-3, err_msg=name)


def test_memory_is_refused_before_the_start_or_missed_with_what_would_fit(
    tmp_path, on_device, monkeypatch
):
    on_device()
    config = write(tmp_path, "cuda")
    log = train(1, config)
    state, peak = (bytes_told(log, name) for name in ("of_it_state", "device_memory_peak"))
    for limit, ending, reason in [
        (0.9 * state, REFUSED, "of memory left"),
        (0.9 * peak, OUT_OF_MEMORY, "the simulated device is out of memory. Tried to allocate"),
    ]:
        monkeypatch.setenv("TEMPER_SIMULATED_BYTES", str(int(limit)))
        code, log = tiny_job.train(1, config, f"run.folder={tmp_path}/{ending}")
        assert code == ending, log
        assert reason in log
        assert "method qlora" in log


def bytes_told(log: str, name: str) -> float:
    number, unit = re.search(rf"{name}=([0-9.]+) (\w+)", log).groups()
    return float(number) * {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def weights_of(digests: dict[str, str]) -> dict[str, str]:
    """An adapter's other files name the folder of its base."""
    return {name: digest for name, digest in digests.items() if name.endswith("tensors")}


def test_evaluation_generation_and_scores_are_those_of_the_cpu(tmp_path, on_device):
    requests = tmp_path / "requests.jsonl"
    prompts = [{"prompt": [1 + i, 2, 3 + i], "max_tokens": 9} for i in range(5)]
    requests.write_text("".join(json.dumps(one) + "\n" for one in prompts))
    scored = tmp_path / "scored.jsonl"
    texts = [{"context": [5, 6, 7][:i], "continuation": [8, 9 + i, 10]} for i in range(4)]
    scored.write_text("".join(json.dumps(one) + "\n" for one in texts))

    def told(device: str) -> tuple:
        config = write(tmp_path / device, device)
        verbs = (["eval", config], ["generate", config, "--requests", requests, "--temperature", 0],
                 ["score", config, "--requests", scored])  # fmt: skip
        outputs = []
        for verb in verbs:
            done = tiny_run.temper(*verb, cwd=config.parent)
            assert done.returncode == FINISHED, done.stderr
            outputs.append(done.stdout)
        return outputs

    evaluation, answers, scores = told("cpu")
    on_device()
    found = told("cuda")
    assert found[1] == answers
    for ours, theirs in ((found[0], evaluation), (found[2], scores)):
        assert numbers_in(ours) == pytest.approx(numbers_in(theirs), rel=1e-4)


def numbers_in(text: str) -> list[float]:
    words = "".join(c if c in "0123456789.-+e" else " " for c in text).split()
    return [float(word) for word in words if any(c.isdigit() for c in word) and "e" not in word[:1]]
