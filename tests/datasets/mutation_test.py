# SPDX-License-Identifier: Apache-2.0
"""Damages what prepare reads, at random: it refuses in words, or writes a shard that is whole.

Each run draws from TEMPER_MUTATION_SEED (default: fixed) for TEMPER_MUTATION_ROUNDS rounds
(default 60, a few seconds; TEMPER_MUTATION_SECONDS=3600 goes on for an hour). Seed and round of a
failure are in its message, and make the same damage again.
"""

import copy
import json
import os
import random
import time

import pytest
import templates
from conftest import run_here, write_lines, write_model
from shard_reader import Shard

from temper_data.documents import UNREADABLE
from temper_data.errors import DataError

SEED = int(os.environ.get("TEMPER_MUTATION_SEED", "7"))
ROUNDS = int(os.environ.get("TEMPER_MUTATION_ROUNDS", "60"))
SECONDS = float(os.environ.get("TEMPER_MUTATION_SECONDS", "0"))

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
seconds_per_document: 2
sources:
  - path: {tmp}/a.jsonl
    format: messages
    field: messages
holdout: {fraction: 0, by: document, salt: pepper}
max_tokens: 100
too_long: cut
deduplicate: true
system: Be brief.
date: 2024-02-29
max_record_bytes: 4096
"""
ROW = {
    "messages": [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A", "weight": 1},
        {"role": "user", "content": [{"type": "text", "text": "more"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "conversations": [
        {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A", "train": True},
    ],
    "instruction": "Q", "input": "", "output": "A", "history": [["Q", "A"]], "system": "S",
    "prompt": [{"role": "user", "content": "Q"}],
    "completion": [{"role": "assistant", "content": "A"}],
    "chat_template_kwargs": {"thinking": False}, "text": "T", "group": "g",
}  # fmt: skip
KEYS = {  # What of it each format reads.
    "messages": ("messages", "tools", "chat_template_kwargs"),
    "sharegpt": ("conversations", "system", "tools"),
    "instruction": ("instruction", "input", "output", "history", "system"),
    "prompt_completion": ("prompt", "completion"),
    "jsonl": ("text", "group"),
}
ODD = [
    None, True, False, 0, 1, -1, 0.5, 10**30, float("nan"), "", " ", "\0", "\ud83d", "é" * 500,
    "{{", [], {}, [[]], [None], {"role": "assistant"}, "assistant", "<|im_end|>",
]  # fmt: skip
BYTES = [b"\0", b"\xff", b"\n", b'"', b"{", b"[", b"]", b"}", b"\\", b"\\ud83d", b"{%", b"{{", b"'"]


def places(value, path=()):
    """Paths to all values inside a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else inside:
        yield from places(item, (*path, key))


def damage_value(chance: random.Random, value):
    """Replaces, removes, renames or wraps one or two of the values inside."""
    root = [copy.deepcopy(value)]
    for _ in range(chance.randint(1, 2)):
        *way, last = chance.choice([path for path in places(root) if path])
        node = root
        for key in way:
            node = node[key]
        how = chance.randrange(5)
        if how == 0 and way:
            del node[last]
        elif how == 1 and isinstance(node, dict):
            node[chance.choice(["weight", "", "\ud83d", "content", "name"])] = node.pop(last)
        elif how == 2:
            for _ in range(chance.choice([1, 50, 440])):
                node[last] = [node[last]]
        else:
            node[last] = copy.deepcopy(chance.choice(ODD))
    return root[0] if root else None


def damage_bytes(chance: random.Random, data: bytes) -> bytes:
    """Flips, cuts, doubles or inserts bytes."""
    for _ in range(chance.randint(1, 4)):
        begin = chance.randrange(len(data) + 1)
        end = min(len(data), begin + chance.choice([1, 2, 10, 100]))
        put = [b"", data[begin:end] * 2, chance.choice(BYTES), bytes([chance.randrange(256)])]
        data = data[:begin] + chance.choice(put) + data[end:]
    return data


def damage_json(chance: random.Random, path) -> None:
    value = json.loads(path.read_text())
    if chance.random() < 0.7:
        path.write_text(json.dumps(damage_value(chance, value)))
    else:
        path.write_bytes(damage_bytes(chance, path.read_bytes()))


def damage_rows(chance: random.Random, path, layout: str) -> None:
    row = {key: ROW[key] for key in KEYS[layout]}
    rows = [json.dumps(damage_value(chance, row)).encode() for _ in range(20)]
    rows += [damage_bytes(chance, json.dumps(row).encode()) for _ in range(10)]
    rows.insert(chance.randrange(len(rows)), json.dumps(row).encode())
    joined = b",".join(rows)
    path.write_bytes(chance.choice([b"\n".join(rows), b"[" + joined + b"]", b"[\n" + joined]))


def one_round(chance: random.Random, folder) -> None:
    """Makes good inputs, damages one of them, and prepares."""
    model = write_model(folder / "model", chance.choice([templates.TOOLS, templates.GENERATION]))
    config = json.loads((model / "tokenizer_config.json").read_text())
    config |= {"added_tokens_decoder": {"257": {"content": "</s>"}}, "add_bos_token": True}
    config["chat_template"] = [{"name": "default", "template": templates.CHATML}]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    (model / "generation_config.json").write_text('{"eos_token_id": [257]}')
    layout = chance.choice(["messages", "sharegpt", "instruction", "prompt_completion"])
    recipe = RECIPE.replace("format: messages", f"format: {layout}")
    if layout in ("instruction", "prompt_completion"):
        recipe = recipe.replace("    field: messages\n", "")
    elif layout == "sharegpt":
        recipe = recipe.replace("field: messages", "field: conversations")
    if chance.random() < 0.2:
        recipe = RECIPE.split("    format")[0].replace("sft", "pretrain") + "    field: text\n"
        layout = "jsonl"
    write_lines(folder / "a.jsonl", [ROW])
    files = ["config", "generation", "tokenizer", "template"]
    kind = chance.choice(["rows"] * 5 + ["recipe", *files])
    if kind == "rows":
        damage_rows(chance, folder / "a.jsonl", layout)
    elif kind == "recipe":
        recipe = damage_bytes(chance, recipe.encode()).decode("utf-8", "surrogateescape")
    elif kind == "template":
        path = model / "chat_template.jinja"
        path.write_bytes(damage_bytes(chance, path.read_bytes()))
    else:
        name = {"config": "tokenizer_config", "generation": "generation_config"}.get(kind, kind)
        damage_json(chance, model / f"{name}.json")
    run_here(folder, recipe)


def test_damaged_input_is_refused_in_words_or_makes_whole_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # A damaged path may be a relative one.
    begin, number, outcomes = time.monotonic(), 0, {"made": 0, "refused": 0}
    while number < ROUNDS or time.monotonic() - begin < SECONDS:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        where = f"TEMPER_MUTATION_SEED={SEED}, round {number}, in {folder}"
        try:
            one_round(random.Random(f"{SEED} {number}"), folder)
            outcomes["made"] += 1
        except (DataError, OSError) as error:
            assert f"{error}" and UNREADABLE not in f"{error}", where
            outcomes["refused"] += 1
        except Exception as error:
            pytest.fail(f"{where}: {type(error).__name__}: {error}")
        for report in folder.glob("*/report.json"):
            assert UNREADABLE not in json.loads(report.read_text()).get("dropped", {}), where
        for path in folder.glob("*/*.h5"):
            try:
                Shard(path)
            except AssertionError as error:
                pytest.fail(f"{where}: the shard is not whole: {error}")
        number += 1
    print(f"seed {SEED}: {number} rounds, {outcomes}")
    assert min(outcomes.values()) > 0  # Else the damage is too little, or too much.
