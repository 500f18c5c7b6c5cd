# SPDX-License-Identifier: Apache-2.0
"""Conversations prepared in the test's process, and what came of them."""

import json

import pytest
import templates
from conftest import run_here, write_lines, write_model
from shard_reader import Shard

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer

SFT = "kind: sft\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
ONE = SFT + "  - path: {tmp}/a.jsonl\n"
Q, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
B = {"role": "assistant", "content": "B"}
END = "<|im_end|>"


def chatml(*turns) -> str:
    return "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)


PLAIN = chatml(("user", "Q"), ("assistant", "A"))


def made(tmp_path, rows, recipe=ONE, template=templates.CHATML) -> tuple[list, list, dict]:
    """Texts and targets of the training shard, and the report."""
    if not (tmp_path / "model").exists():
        write_model(tmp_path / "model", template)
    write_lines(tmp_path / "a.jsonl", rows)
    folder = run_here(tmp_path, recipe)
    report = json.loads((folder / "report.json").read_text())
    return *shown(tmp_path, Shard(folder / "train.h5")), report


def shown(tmp_path, shard) -> tuple[list, list]:
    tokenizer = load_model_tokenizer(tmp_path / "model").tokenizer
    documents = shard.documents()
    masks = shard.masks() if shard["kind"] == "sft" else [[1] * len(ids) for ids in documents]
    pairs = list(zip(documents, masks, strict=True))
    chosen = [[t for t, m in zip(ids, mask, strict=True) if m] for ids, mask in pairs]
    decoded = [
        [tokenizer.decode(ids, skip_special_tokens=False) for ids in listed]
        for listed in (documents, chosen)
    ]
    return decoded[0], decoded[1]


def refusal(tmp_path, rows, recipe=ONE) -> str:
    with pytest.raises(DataError) as caught:
        made(tmp_path, rows, recipe)
    return str(caught.value)
