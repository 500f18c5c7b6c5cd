#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llama.cpp on GGUF files of random tiny models of each family, beside transformers on the folders.

    PYTHONPATH=FOLDER $TEMPER_TESTS_PYTHON tests/bench/gguf_beside_llama_cpp.py [FAMILY...]

FOLDER has xllamacpp, a build of llama.cpp: pip install --target FOLDER --no-deps xllamacpp. Greedy
tokens have to be the same, and their log-probabilities near, all in float32: with its fused
attention llama.cpp would round to halves. The last line is a LoRA adapter beside its base.
"""

import json
import sys
import tempfile
from pathlib import Path

import peft
import torch
import xllamacpp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "datasets"), str(ROOT / "datasets")]

from export_gguf_test import export, write_adapter, write_model  # noqa: E402

CONTEXT, NUM_NEW = 64, 10
NEAR, NEAR_BY_TABLE = 1e-4, 5e-3  # llama.cpp reads gelu from a table of halves
LONG = dict(
    rope_type="longrope", rope_theta=1e4, original_max_position_embeddings=512,
    short_factor=[1.0 + 0.5 * i for i in range(8)], long_factor=[2.0 + i for i in range(8)],
)  # fmt: skip
YARN = dict(
    rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=16
)
TWO_TABLES = dict(full_attention=YARN, sliding_attention=dict(rope_type="default", rope_theta=1e4))
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)  # fmt: skip
CASES = [
    ("llama", dict(attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3)),
    ("llama", dict(rope_parameters=YARN)),
    ("mistral", dict(sliding_window=None, head_dim=24)),
    ("internlm3", dict(head_dim=20, qkv_bias=True, bias=True)),
    ("qwen2", dict(use_sliding_window=False)),
    ("qwen3", dict(head_dim=24)),
    ("gemma", dict(head_dim=24, num_key_value_heads=1)),
    ("gemma2", dict(head_dim=24, query_pre_attn_scalar=24, sliding_window=6,
                    attn_logit_softcapping=1.5, final_logit_softcapping=8.0)),
    ("gemma3_text", dict(head_dim=20, query_pre_attn_scalar=20, sliding_window=6,
                         num_hidden_layers=6)),
    ("phi3", dict(sliding_window=None, max_position_embeddings=1024, rope_parameters=LONG,
                  original_max_position_embeddings=512, pad_token_id=0)),
    ("granite", dict(attention_multiplier=0.4, embedding_multiplier=3.0, residual_multiplier=0.6,
                     logits_scaling=0.5)),
    ("smollm3", dict(num_hidden_layers=4)),
    ("starcoder2", dict(sliding_window=None, use_bias=True)),
    ("arcee", dict(rope_parameters=YARN)),
    ("olmo2", {}),
    ("cohere", dict(logit_scale=0.2)),
    ("cohere2", dict(logit_scale=0.2, sliding_window=6, num_hidden_layers=4)),
    ("ernie4_5", dict(head_dim=24, tie_word_embeddings=False)),
    ("exaone4", dict(sliding_window=None, layer_types=["full_attention"] * 2)),
    ("glm4", dict(head_dim=24, attention_bias=True)),
    ("hunyuan_v1_dense", dict(head_dim=24, rope_parameters=dict(
        rope_type="dynamic", rope_theta=1e4, factor=1.0, alpha=1000.0))),
    ("ministral", dict(head_dim=24, sliding_window=64)),
    ("ministral3", dict(head_dim=24, rope_parameters=YARN | dict(
        llama_4_scaling_beta=0.3, mscale=1.0, mscale_all_dim=1.0))),
    ("ministral3", dict(head_dim=16, rope_parameters=YARN | dict(
        llama_4_scaling_beta=0.0, mscale=1.0, mscale_all_dim=0.5))),
    ("nemotron", dict(attention_bias=True, mlp_bias=True)),
    ("olmo3", dict(sliding_window=6, num_hidden_layers=4, rope_parameters=TWO_TABLES)),
    ("mixtral", dict(num_local_experts=4, sliding_window=None)),
    ("qwen2_moe", dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32,
                       shared_expert_intermediate_size=48, use_sliding_window=False)),
    ("qwen3_moe", dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
                       head_dim=24, norm_topk_prob=True)),
    ("olmoe", dict(num_experts=6, num_experts_per_tok=3, norm_topk_prob=False,
                   num_key_value_heads=4)),
    ("granitemoe", dict(num_local_experts=5, num_experts_per_tok=3, attention_multiplier=0.4,
                        embedding_multiplier=3.0, residual_multiplier=0.6, logits_scaling=0.5)),
    ("granitemoeshared", dict(num_local_experts=4, shared_intermediate_size=40)),
]  # fmt: skip


def greedy(model, prompt: list[int], banned: list[int]) -> tuple[list[int], list[float]]:
    tokens, chosen, said = torch.tensor([prompt]), [], []
    with torch.no_grad():
        for _ in range(NUM_NEW):
            scores = model(tokens).logits[0, -1].log_softmax(-1)
            allowed = scores.clone()
            allowed[banned] = -torch.inf
            chosen.append(int(allowed.argmax()))
            said.append(float(scores[chosen[-1]]))
            tokens = torch.cat([tokens, torch.tensor([[chosen[-1]]])], 1)
    return chosen, said


def of_llama_cpp(path: Path, prompt: list[int], banned: list[int], adapter: Path | None = None):
    asked = xllamacpp.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_parallel, asked.warmup = str(path), CONTEXT, 1, False
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    asked.verbosity = -1
    asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter:
        one = xllamacpp.CommonAdapterLoraInfo()
        one.path, one.scale = str(adapter), 1.0
        asked.lora_adapters = [one]
    answer = xllamacpp.Server(asked).handle_completions(
        {"prompt": prompt, "n_predict": NUM_NEW, "temperature": 0.0, "n_probs": 1,
         "ignore_eos": True, "samplers": ["top_k"], "top_k": 1, "cache_prompt": False,
         "logit_bias": [[token, False] for token in banned]}
    )  # fmt: skip
    answer = json.loads(answer) if isinstance(answer, str) else answer
    told = answer["choices"][0]["logprobs"]["content"]
    return [one["id"] for one in told], [one["logprob"] for one in told]


def compare(name: str, model, *files: Path) -> bool:
    # llama.cpp's server tells only of tokens that are whole characters.
    banned = [*range(94, model.config.vocab_size)]
    prompt = [(7 * i + 3) % 250 for i in range(20)]
    wanted, said = greedy(model, prompt, banned)
    found, told = of_llama_cpp(files[0], prompt, banned, *files[1:])
    worst = max((abs(a - b) for a, b in zip(said, told, strict=False)), default=float("nan"))
    config = vars(model.config)
    activation = config.get("hidden_act") or config["hidden_activation"]
    is_same = found == wanted and worst < (NEAR_BY_TABLE if "gelu" in activation else NEAR)
    print(f"{name}: {'same' if is_same else 'DIFFERS'} logprob_difference={worst:.0e}", flush=True)
    return is_same


def main(families: list[str]) -> int:
    torch.set_num_threads(1)
    are_same = True
    with tempfile.TemporaryDirectory() as scratch:
        for number, (family, keys) in enumerate(CASES):
            if families and family not in families:
                continue
            folder = Path(scratch) / str(number)
            model = write_model(folder, family, **keys)
            if export(folder, folder / "m.gguf", "--type", "f32"):
                return 1
            are_same &= compare(family, model, folder / "m.gguf")
        base = Path(scratch) / "base"
        model = peft.PeftModel.from_pretrained(
            write_model(base), write_adapter(Path(scratch) / "adapter", base)
        )
        export(base, base / "m.gguf", "--type", "f32")
        export(Path(scratch) / "adapter", base / "a.gguf")
        are_same &= compare("llama with LoRA", model, base / "m.gguf", base / "a.gguf")
    return 0 if are_same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
