# SPDX-License-Identifier: Apache-2.0
"""Corpora of several files: the result does not depend on how documents were cut into them."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

FINISHED, CONFIGURATION, DATA = 0, 11, 12
TEMPLATE = "{{ messages }}"
CUT = "data.train=[{path: parts/train-*.h5}]"
CUT_HOLDOUT = "data.holdout=[{name: held, path: parts/holdout-*.h5}]"
WHOLE_HOLDOUT = "data.holdout=[{name: held, path: held.h5}]"


def write_corpus(paths: list[Path], seed: int, is_sft: bool) -> None:
    """The same documents, of 2 to 45 tokens, in so many files of different sizes."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 46, 60)
    tokens = random.integers(1, tiny_run.VOCAB, lengths.sum())
    mask = (random.random(len(tokens)) < 0.5).astype(np.uint8)
    begins = np.cumsum(lengths) - lengths
    mask[begins], mask[begins + 1] = 0, 1
    digest = hashlib.sha256(tiny_run.TOKENIZER).hexdigest()
    identity = ShardIdentity("sft" if is_sft else "pretrain", tiny_run.VOCAB, digest,
                             TEMPLATE if is_sft else "", 0)  # fmt: skip
    borders = [0, *(1 + k * k * 55 // 64 for k in range(1, len(paths))), len(lengths)]
    ends = [*begins, len(tokens)]
    for path, first, last in zip(paths, borders, borders[1:]):
        part = slice(ends[first], ends[last])
        with ShardWriter(path, identity) as writer:
            writer.append(tokens[part], lengths[first:last], mask[part] if is_sft else None)
            writer.publish("{}")


def write_job(folder: Path, is_sft: bool) -> Path:
    """A run whose corpora are there as one file and as eight."""
    config = tiny_job.write(folder)
    (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "parts").mkdir()
    for name, whole, seed in (("train", "train.h5", 3), ("holdout", "held.h5", 4)):
        (folder / whole).unlink()
        write_corpus([folder / whole], seed, is_sft)
        parts = [folder / "parts" / f"{name}-{k:05}-of-00008.h5" for k in range(8)]
        write_corpus(parts, seed, is_sft)
    return config


@pytest.mark.parametrize("is_sft", [False, True])
def test_a_corpus_in_eight_files_gives_the_bits_of_one(tmp_path, is_sft):
    """On other numbers of ranks, and killed on the way."""
    whole = write_job(tmp_path / "whole", is_sft)
    evaluates = "train.evaluate_every_steps=10"
    code, log = tiny_job.train(2, whole, WHOLE_HOLDOUT, evaluates)
    assert code == FINISHED, log
    cut = write_job(tmp_path / "cut", is_sft)
    overrides = [CUT, CUT_HOLDOUT, evaluates]
    checked = tiny_job.check(cut, *overrides, "--verify-data", "--ranks", "2")
    assert checked.returncode == 0, checked
    assert "parts/train-*.h5: " in checked.stdout
    assert "60 documents in 8 files, " in checked.stdout
    job = tiny_job.Job(3, cut, *overrides)
    tiny_job.wait_for_step(job, cut, 12)
    job.kill()
    code, log = tiny_job.train(1, cut, *overrides)
    assert code == FINISHED and "resumed step=" in log, log
    assert "source=parts/train-*.h5 files=8 rows=" in log
    (metrics, files), expected = tiny_job.result(cut), tiny_job.result(whole)
    card = {"README.md": expected[1]["README.md"]}  # It names the files of the data,
    for line in (*metrics, *expected[0]):
        line.pop("sources", None)  # as the metrics do.
    assert (metrics, files | card) == expected


def test_a_corpus_that_was_cut_otherwise_is_another_run(tmp_path):
    config = write_job(tmp_path / "job", is_sft=False)
    code, log = tiny_job.train(2, config)
    assert code == FINISHED, log
    refusal = "data.train[0] was train.h5 and is parts/train-*.h5"
    for code, text in (
        tiny_job.train(2, config, CUT),
        (lambda done: (done.returncode, done.stderr))(tiny_job.check(config, CUT)),
    ):
        assert (code, refusal in text) == (CONFIGURATION, True), (code, text)


def test_sources_without_weights_share_by_their_tokens(tmp_path):
    """Told at the start and kept in checkpoints; the same bits on any ranks, and after a kill."""
    configs = [write_job(tmp_path / name, is_sft=False) for name in ("alone", "killed")]
    mixture = "data.train=[{path: parts/train-*.h5, epochs: 2}, {path: held.h5, max_tokens: 400}]"
    code, log = tiny_job.train(2, configs[0], mixture, "data.mixture.temperature=2")
    assert code == FINISHED, log
    job = tiny_job.Job(1, configs[1], mixture, "data.mixture.temperature=2")
    tiny_job.wait_for_step(job, configs[1], 12)
    job.kill()
    code, killed_log = tiny_job.train(3, configs[1], mixture, "data.mixture.temperature=2")
    assert code == FINISHED and "resumed step=" in killed_log, killed_log
    assert tiny_job.result(configs[0]) == tiny_job.result(configs[1])
    state = json.loads((tiny_job.checkpoints(configs[0])[-1] / "state.json").read_text())
    uses = state["mixture"]
    assert [use["path"] for use in uses] == ["parts/train-*.h5", "held.h5"]
    tokens = int(re.search(r"source=parts/train-\*.h5 files=8 rows=\d+ tokens=(\d+) ", log)[1])
    asked = (2 * tokens) ** 0.5 / ((2 * tokens) ** 0.5 + 400**0.5)
    assert abs(uses[0]["share"] - asked) < 0.01, (uses, asked)
    assert abs(uses[0]["epochs"] * tokens - uses[0]["num_tokens"]) < 1
    assert re.search(r"mixture=held.h5 share=0\.\d+ tokens=\d+ epochs=\d", log), log
    checked = tiny_job.check(configs[0], mixture, "data.mixture.temperature=2", "--ranks", "2")
    assert "\nmixture     held.h5: " in checked.stdout and checked.returncode == 0, checked
    code, log = tiny_job.train(2, configs[0], mixture)
    assert code == CONFIGURATION, log
    assert "data.mixture.temperature was 2" in log, log


def test_a_set_that_is_not_whole_is_refused(tmp_path):
    config = write_job(tmp_path / "job", is_sft=False)
    parts = config.parent / "parts"
    (parts / "train-00003-of-00008.h5").unlink()
    shutil.copy(parts / "holdout-00001-of-00008.h5", parts / "holdout-00000-of-00008.h5")
    told = [
        "parts/train-*.h5 matches 7 of a set of 8 parts; missing: train-00003-of-00008.h5\n"
        "  try: prepare or copy the missing parts",
        "parts/holdout-*.h5 has the same documents twice: ",
    ]
    checked = tiny_job.check(config, CUT, CUT_HOLDOUT, "--ranks", "2")
    assert checked.returncode == DATA and all(one in checked.stderr for one in told), checked
    code, log = tiny_job.train(2, config, CUT)
    assert (code, told[0] in log) == (DATA, True), (code, log)
    code, log = tiny_job.train(2, config, CUT_HOLDOUT)
    assert (code, told[1] in log) == (DATA, True), (code, log)
    assert not (config.parent / "run").exists()
