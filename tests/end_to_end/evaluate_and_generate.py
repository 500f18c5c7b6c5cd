# SPDX-License-Identifier: Apache-2.0
"""The real model's hold-out loss and greedy answers, beside those of transformers.

Hold-outs are one shard of text, whose documents rows cut, and one of masked conversations. Both
must have the loss that transformers gives for each piece by itself, on any number of ranks.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
import workspace
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(workspace.ROOT / "datasets"))
from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

NUM_NEW_TOKENS = 64
NUM_TEXT_ROWS = 5  # Odd, so that two ranks do not share them evenly.
SHOWN = 2e-5  # Relative; of figures that are shown with six digits.
BOUND = 2e-6  # Relative. Float32 sums over the whole vocabulary in one go miss it.
CHATS = (
    "What is the capital of France?",
    "List five things that a person needs for a hike in the mountains, and say why.",
)


def temper(ranks: int, *arguments) -> list[str]:
    """The lines that temper prints. Raises CalledProcessError unless it ends well."""
    command = ["mpirun", "-n", str(ranks), workspace.BINARY, *map(str, arguments)]
    return subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, timeout=300
    ).stdout.splitlines()


# Evaluation.


def write_conversations(path: Path, tokenizer_file: Path, tokenizer) -> list[tuple]:
    """A shard of short documents with random masks. Returns (tokens, mask, number) of each."""
    random = np.random.default_rng(4)
    texts = (workspace.ROOT / "CONTRIBUTING.md").read_text().split("\n\n")
    ids = [np.array(tokenizer(text)["input_ids"][:90]) for text in texts]
    ids = [tokens for tokens in ids if len(tokens) > 8][:6]
    masks = [(random.random(len(tokens)) < 0.4).astype(np.uint8) for tokens in ids]
    for mask in masks:
        mask[:2] = (0, 1)
    digest = hashlib.sha256(tokenizer_file.read_bytes()).hexdigest()
    path.unlink(missing_ok=True)
    with ShardWriter(path, ShardIdentity("sft", len(tokenizer), digest, "{{ x }}", 2)) as writer:
        lengths = np.array([len(tokens) for tokens in ids])
        writer.append(np.concatenate(ids), lengths, np.concatenate(masks))
        writer.publish("{}")
    return list(zip(ids, masks, range(len(ids)), strict=True))


def pieces_of_text(shard: Path) -> list[tuple]:
    """The parts of documents in each row, with the token after, as FORMAT.md has them."""
    length = workspace.SEQUENCE_LENGTH
    with h5py.File(shard) as file:
        tokens = file["tokens"][...].astype(np.int64)
        offsets = file["document_offsets"][...].astype(np.int64).tolist()
    cuts = sorted({*offsets, *range(0, NUM_TEXT_ROWS * length + 1, length)})
    pieces, owners = [], []
    for begin, end in zip(cuts, cuts[1:], strict=False):
        if end <= NUM_TEXT_ROWS * length:
            goes_on = end not in offsets
            pieces.append(tokens[begin : end + goes_on])
            owners.append(int(np.searchsorted(offsets, begin, "right")))
    masks = [np.ones(len(piece), np.uint8) for piece in pieces]
    return list(zip(pieces, masks, owners, strict=True))


def reference(model, tokenizer, pieces: list[tuple]) -> dict[str, float]:
    """What the losses on the tokens that the masks name tell; each piece alone.

    Errors by cluster-robust regression on a constant, with documents as clusters: another way to
    the ratio's.
    """
    sums: dict[int, np.ndarray] = {}  # of a document: nats, targets, bytes
    for tokens, mask, owner in pieces:
        ids = torch.from_numpy(tokens.astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1].double()
        losses = cross_entropy(logits, ids[1:], reduction="none")
        chosen = torch.from_numpy(mask[1:] == 1)
        text = tokenizer.decode(ids[1:][chosen], skip_special_tokens=True)
        row = [losses[chosen].sum().item(), int(chosen.sum()), len(text.encode())]
        sums[owner] = sums.get(owner, np.zeros(3)) + np.array(row)
    nats, targets, size = np.stack(list(sums.values())).T
    count = len(sums)
    loss, bits = nats.sum() / targets.sum(), nats.sum() / np.log(2) / size.sum()
    found = {"loss": loss, "num_targets": targets.sum(), "documents": count, "bits_per_byte": bits}
    if count == 1:
        return found
    meat = np.array([(nats - loss * targets).var(), (nats / np.log(2) - bits * size).var()])
    errors = np.sqrt(count**2 / (count - 1) * meat) / [targets.sum(), size.sum()]
    return found | {"standard_error": errors[0], "bits_error": errors[1]}


def check_evaluation(model, tokenizer, folder: Path, shard: Path) -> None:
    conversations = workspace.FOLDER / "conversations.h5"
    documents = write_conversations(conversations, folder / "tokenizer.json", tokenizer)
    holdouts = (
        f"[{{name: text, path: {shard}, max_rows: {NUM_TEXT_ROWS}}},"
        f" {{name: chat, path: {conversations}}}]"
    )
    config = workspace.write_config("evaluated", folder, shard)
    train = "data.train=[{path: elsewhere.h5}]"  # Not what is evaluated.
    overrides = (f"data.holdout={holdouts}", train, "data.chat_template=any")
    lines = temper(1, "eval", config, *overrides)
    assert temper(2, "eval", config, *overrides) == lines
    assert lines[0] == f"weights=base path={folder}" and len(lines) == 3, lines
    for line, pieces in zip(lines[1:], (pieces_of_text(shard), documents), strict=True):
        found = dict(field.split("=") for field in line.split())
        expected = reference(model, tokenizer, pieces)
        assert ("standard_error" in found) == ("standard_error" in expected), line
        for name, wanted in expected.items():
            bound = BOUND if name in ("loss", "num_targets", "documents") else SHOWN
            assert abs(float(found[name]) / wanted - 1.0) < bound, (line, name, wanted)
            print(f"{found['holdout']}: {name} {found[name]}, transformers {wanted:.9g}")


# Generation.


def greedy(model, prompt: list[int], ends: list[int]) -> list[int]:
    """What transformers answers, without the token that ends it."""
    ids = torch.tensor([prompt])
    answer = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NUM_NEW_TOKENS,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    tokens = answer[0, len(prompt) :].tolist()
    return tokens[:-1] if tokens[-1] in ends else tokens


def generate(ranks: int, folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What temper answers."""
    path = workspace.FOLDER / "prompts.txt"
    path.write_text("".join(",".join(map(str, prompt)) + "\n" for prompt in prompts))
    options = ["--prompts", path, "--max-new-tokens", NUM_NEW_TOKENS, "--dtype", "float32"]
    lines = temper(ranks, "generate", folder, *options)
    return [[int(token) for token in line.split(",") if token] for line in lines]


def folder_that_ends_at(folder: Path, ends: list[int]) -> Path:
    """The same model with another list of end tokens."""
    copy = workspace.FOLDER / "model-with-ends"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in folder.iterdir():
        os.link(path, copy / path.name)
    generation = json.loads((folder / "generation_config.json").read_text())
    generation["eos_token_id"] = ends
    (copy / "generation_config.json").unlink()
    (copy / "generation_config.json").write_text(json.dumps(generation))
    return copy


def check_generation(model, tokenizer, folder: Path) -> None:
    prompts = []
    for chat in CHATS:
        messages = [{"role": "user", "content": chat}]
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True
        )
        prompts.append(encoded["input_ids"])
    unused = tokenizer.convert_tokens_to_ids("<repo_name>")
    never = folder_that_ends_at(folder, [unused])
    expected = [greedy(model, prompt, [unused]) for prompt in prompts]
    assert [len(answer) for answer in expected] == [NUM_NEW_TOKENS] * 2, expected
    assert generate(1, never, prompts) == expected

    # The list's first id ends one answer and its last the other.
    ends = [expected[0][20], unused, expected[1][11]]
    cut = [greedy(model, prompt, ends) for prompt in prompts]
    assert len(cut[0]) <= 20 and len(cut[1]) <= 11, cut
    assert generate(1, folder_that_ends_at(folder, ends), prompts) == cut
    print(f"greedy answers agree for {NUM_NEW_TOKENS} tokens and end at any end token")


def main() -> None:
    folder, shard = workspace.prepare()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    check_evaluation(model, tokenizer, folder, shard)
    check_generation(model, tokenizer, folder)


if __name__ == "__main__":
    main()
