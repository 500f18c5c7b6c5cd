# SPDX-License-Identifier: Apache-2.0
"""A model, shards, a configuration and a checkpoint, small enough to be made for each test."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "datasets"))

from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

VOCAB, HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 64, 16, 32, 2, 2, 1, 8
EXPERTS = 5
MOE_KEYS = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": EXPERTS,
    "num_experts_per_tok": 2, "moe_intermediate_size": INNER, "norm_topk_prob": True,
    "output_router_logits": True,
}  # fmt: skip
TOKENIZER = b'{"model": {"only its": "hash counts"}}'

CONFIG = """\
run:
  folder: {folder}/run
model:
  path: {folder}/model
  dtype: float32
data:
  train:
    - path: {folder}/train.h5
  sequence_length: 32
  global_batch: 4
  micro_batch: 1
train:
  max_steps: 3
silence: [no_holdout, batch_tokens]
"""


def temper(*arguments, **options) -> subprocess.CompletedProcess:
    """Runs the program and returns its exit status and output, as text."""
    command = [os.environ["TEMPER_BINARY"], *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def assert_refused(done: subprocess.CompletedProcess, code: int, *messages: str) -> None:
    assert done.returncode == code, done
    for message in messages:
        assert message in done.stderr, done.stderr
    assert "MPI_ABORT" not in done.stderr, done.stderr  # MPI's own lines would hide the message.
    assert "\n  try: " in done.stderr
    assert "\nok\n" not in done.stdout


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def weight_shapes(has_experts: bool = False) -> dict[str, tuple[int, ...]]:
    """The tensors of a tied Llama, or of a Qwen3 with experts."""
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        shapes |= {
            name + "self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            name + "self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            name + "self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            name + "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            name + "input_layernorm.weight": (HIDDEN,),
            name + "post_attention_layernorm.weight": (HIDDEN,),
        }
        experts = [f"{name}mlp.experts.{expert}." for expert in range(EXPERTS)]
        for mlp in experts if has_experts else [f"{name}mlp."]:
            shapes |= {
                mlp + "gate_proj.weight": (INNER, HIDDEN),
                mlp + "up_proj.weight": (INNER, HIDDEN),
                mlp + "down_proj.weight": (HIDDEN, INNER),
            }
        if has_experts:
            shapes |= {
                name + "mlp.gate.weight": (EXPERTS, HIDDEN),
                name + "self_attn.q_norm.weight": (HEAD_DIM,),
                name + "self_attn.k_norm.weight": (HEAD_DIM,),
            }
    return shapes


def write_model(folder: Path, has_experts: bool = False) -> Path:
    """A Hugging Face folder with random weights."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB,
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
        "max_position_embeddings": 64, "tie_word_embeddings": True, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "eos_token_id": 0,
    }  # fmt: skip
    config |= MOE_KEYS if has_experts else {}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(TOKENIZER)
    random = np.random.default_rng(1)
    shapes = weight_shapes(has_experts)
    weights = {name: random.normal(0, 0.1, shape) for name, shape in shapes.items()}
    save_file({name: w.astype(np.float32) for name, w in weights.items()},
              folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    return folder


def write_shard(
    path: Path, tokenizer: bytes = TOKENIZER, num_documents: int = 40, lengths: tuple = (),
    origin: str = "{}",
) -> Path:  # fmt: skip
    """A shard of random documents, of these lengths or of 20 tokens."""
    lengths = np.array(lengths or [20] * num_documents)
    identity = ShardIdentity("pretrain", VOCAB, hashlib.sha256(tokenizer).hexdigest(), "", 0)
    tokens = np.random.default_rng(2).integers(1, VOCAB, lengths.sum())
    with ShardWriter(path, identity) as writer:
        writer.append(tokens, lengths, None)
        writer.publish(origin)
    return path


def write_conversations(
    path: Path, template: str, tokenizer: bytes = TOKENIZER, origin: str = "{}", tool_use: str = ""
) -> Path:
    """A shard of conversations of 20 tokens, as if rendered by the template; half are targets."""
    num_documents = 40
    digest = hashlib.sha256(tokenizer).hexdigest()
    tokens = np.random.default_rng(2).integers(1, VOCAB, num_documents * 20)
    mask = np.tile(np.arange(20) >= 10, num_documents).astype(np.uint8)
    identity = ShardIdentity("sft", VOCAB, digest, template, 0, tool_use)
    with ShardWriter(path, identity) as writer:
        writer.append(tokens, np.full(num_documents, 20), mask)
        writer.publish(origin)
    return path


def evaluating(shard: Path) -> list[str]:
    """Overrides by which a shard is evaluated, be it that which was trained on or not."""
    return [f"data.holdout=[{{name: same, path: {shard}}}]", "data.train=[{path: elsewhere.h5}]"]


def write_run(folder: Path) -> Path:
    """Model, shard and configuration; returns the path of the latter."""
    write_model(folder / "model")
    write_shard(folder / "train.h5")
    path = folder / "run.yaml"
    path.write_text(CONFIG.format(folder=folder))
    return path


def write_checkpoint(folder: Path, step: int = 2, trajectory: str = "", config: str = "") -> Path:
    """A checkpoint as temper publishes it, without optimizer state."""
    write_model(folder / "model")
    state = {
        "step": step, "num_updates": step, "num_target_tokens": 99, "next_micro_batch": 8,
        "num_skipped": 0, "num_skipped_in_a_row": 0, "trajectory": trajectory,
        "config_yaml": config,
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state))
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        segments = [{"offset": 0, "bytes": size, "sha256": digest}]
        name = str(path.relative_to(folder))
        files.append({"path": name, "bytes": size, "segments": segments})
    manifest = {
        "format": "temper-checkpoint", "format_version": 1, "manifest_sha256": "0" * 64,
        "step": step, "world_size": 1, "model_dtype": "F32", "files": files,
        "units": [{"name": "all", "num_elements": 1, "shard_size": 1}],
    }  # fmt: skip
    text = json.dumps(manifest)
    own = hashlib.sha256(text.encode()).hexdigest()
    (folder / "MANIFEST.json").write_text(text.replace("0" * 64, own))
    return folder
