# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of a step with packed rows of 4,096 tokens: temper beside transformers, eager
and compiled, on one card in one run; with the card's own product as the measure.

usage: speed.py --output FILE [--device cuda] [--shapes 1b,8b] [--length 4096] [--seconds 40]
       speed.py --print FILE
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                 num_attention_heads=4, num_key_value_heads=2, vocab_size=512),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
               num_attention_heads=32, num_key_value_heads=8, vocab_size=32768),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=8, vocab_size=32768),
}  # fmt: skip
METHODS = {"tiny": ["full", "lora"], "1b": ["full"], "8b": ["lora", "qlora"]}
LORA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENIZER = b"{}"
CONFIG = """\
run: {{folder: {folder}/{method}}}
model: {{path: {folder}/model, dtype: bfloat16, device: {device}}}
data:
  train: [{{path: {folder}/train.h5}}]
  sequence_length: {length}
  global_batch: 1
  micro_batch: 1
train: {{max_steps: 12, recompute: true}}
method: {method}
checkpoint: {{every_steps: 0}}
"""


def row(system: str, shape: str, method: str, **values) -> dict:
    return {"system": system, "shape": shape, "method": method} | values


def product_flop_per_second(torch, device: str) -> float:
    """Of a large product in bf16."""
    size = 8192 if device == "cuda" else 512
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times = []
    for _ in range(8):
        synchronise(torch, device)
        begun = time.perf_counter()
        a @ a
        synchronise(torch, device)
        times.append(time.perf_counter() - begun)
    return 2 * size**3 / min(times)


def synchronise(torch, device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def write_model(torch, folder: Path, shape: str, device: str, length: int) -> int:
    """Random weights in bf16. Returns how many there are without the embedding."""
    import transformers

    config = transformers.LlamaConfig(
        **SHAPES[shape], max_position_embeddings=length, tie_word_embeddings=True, eos_token_id=0
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(TOKENIZER)
    embedding = model.get_input_embeddings().weight.numel()
    return sum(parameter.numel() for parameter in model.parameters()) - embedding


def measure_temper(folder: Path, method: str, device: str, length: int, seconds: float) -> dict:
    config = folder / f"{method}.yaml"
    text = CONFIG.format(folder=folder, method=method, device=device, length=length)
    config.write_text(text + ("" if method == "full" else "lora: {rank: 16, alpha: 16}\n"))
    log = subprocess.run(
        [os.environ["TEMPER_BINARY"], "train", str(config)],
        capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    if log.returncode != 0:
        return {"error": log.stderr[-2000:]}
    lines = (folder / method / "metrics.jsonl").read_text().splitlines()
    steps = [entry for entry in map(json.loads, lines) if entry["kind"] == "step"]
    return {"tokens_per_second": max(step["tokens_per_second"] for step in steps[2:])}


def peer_model(torch, folder: Path, method: str, device: str):
    import peft
    import transformers

    options = dict(dtype=torch.bfloat16, device_map={"": device})
    if method == "qlora":
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", **options)
    if method != "full":
        model = peft.get_peft_model(
            model, peft.LoraConfig(r=16, lora_alpha=16, target_modules=LORA)
        )
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    return model.train()


def measure_peer(folder, method, device, length, compiles: bool) -> dict:
    """In a process of its own: prints what it found as JSON."""
    import torch

    model = peer_model(torch, folder, method, device)
    step_model = torch.compile(model) if compiles else model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=device == "cuda")
    tokens = torch.randint(1, model.config.vocab_size, (1, length), device=device)
    times = []
    for _ in range(10):
        synchronise(torch, device)
        begun = time.perf_counter()
        step_model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronise(torch, device)
        times.append(time.perf_counter() - begun)
    found = {"tokens_per_second": length / min(times[2:])}
    if device == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def run_peer(folder: Path, method: str, arguments, compiles: bool) -> dict:
    command = [sys.executable, __file__, "--peer", str(folder), "--methods", method,
               "--device", arguments.device, "--length", str(arguments.length)]  # fmt: skip
    command += ["--compiles"] if compiles else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=arguments.seconds)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-2000:]}


def limited(measure, *arguments) -> dict:
    try:
        return measure(*arguments)
    except subprocess.TimeoutExpired:
        return {"error": "cut"}


def measure_all(arguments) -> None:
    import torch
    from tiny_run import write_shard

    rows = []

    def add(**values) -> None:
        rows.append(values)
        Path(arguments.output).write_text(json.dumps(rows, indent=1))
        print(values, flush=True)

    peak = product_flop_per_second(torch, arguments.device)
    add(**row("bf16 product", "", "", tera_flop_per_second=peak / 1e12))
    for shape in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder, length = Path(name), arguments.length
            num_weights = write_model(torch, folder / "model", shape, arguments.device, length)
            write_shard(folder / "train.h5", TOKENIZER, lengths=(length,) * 20)
            for method in METHODS[shape]:
                flop = (6 if method == "full" else 4) * num_weights  # A token's, without attention.
                for system, measure in {
                    "temper": lambda m=method: limited(
                        measure_temper, folder, m, arguments.device, length, arguments.seconds
                    ),
                    "transformers": lambda m=method: limited(
                        run_peer, folder, m, arguments, False
                    ),
                    "compiled": lambda m=method: limited(run_peer, folder, m, arguments, True),
                }.items():
                    found = measure()
                    if "tokens_per_second" in found:
                        found["share_of_product"] = found["tokens_per_second"] * flop / peak
                    add(**row(system, shape, method, **found))


def print_rows(path: str) -> None:
    for entry in json.loads(Path(path).read_text()):
        told = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in entry.items()}
        told |= {"error": " ".join(told["error"].split())[-60:]} if "error" in told else {}
        print("  ".join(f"{key}={value}" for key, value in told.items() if value))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output")
    parser.add_argument("--print")
    parser.add_argument("--peer")
    parser.add_argument("--compiles", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", default="1b,8b")
    parser.add_argument("--methods", default="")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=40)  # Of one measurement.
    arguments = parser.parse_args()
    if arguments.print:
        print_rows(arguments.print)
    elif arguments.peer:
        found = measure_peer(Path(arguments.peer), arguments.methods, arguments.device,
                             arguments.length, arguments.compiles)  # fmt: skip
        print(json.dumps(found))
    else:
        measure_all(arguments)


if __name__ == "__main__":
    main()
