# SPDX-License-Identifier: Apache-2.0
"""The model folder made from the GGUF file, against transformers' own reading of that file."""

import json

import numpy as np
import pytest
import torch
from conftest import run_program
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import fetch_model
from temper_data.errors import DataError
from temper_data.gguf_weights import to_bfloat16, to_hugging_face_name
from temper_data.model_tokenizer import load_model_tokenizer

TEXTS = [
    "Hello world", "  two  spaces\tand\ttabs ", "1234567890 3.14 0x1F", "line\r\nline\n\n\nline",
    "emoji 👩‍🚀🏳️‍🌈 é e\u0301", "日本語と한국어 русский عربي", "I'll don't WE'VE it's",
    "<|im_start|>user\nhi<|im_end|>\n", "mid<|endoftext|>word<file_sep>", "<|im_start |>", "a\x00b",
    "def f(x):\n    return x**2\n", "#!/bin/bash\n#SBATCH --ntasks=16\nsrun ./a.out", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def gguf():
    return fetch_model.find_gguf()


def test_weights_equal_transformers_reading(smollm2, gguf):
    ours = load_file(smollm2 / "model.safetensors")
    oracle = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).state_dict()
    assert set(oracle) - set(ours) == {"lm_head.weight"} and set(ours) <= set(oracle)
    different = [name for name in ours if not torch.equal(ours[name], oracle[name].bfloat16())]
    assert different == []
    assert sum(tensor.numel() for tensor in ours.values()) == 134_515_008


def test_token_ids_equal_transformers_reading(smollm2, gguf):
    oracle = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoTokenizer.from_pretrained(smollm2)
    model = load_model_tokenizer(smollm2)
    for text in TEXTS:
        ids = model.tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == oracle(text, add_special_tokens=False)["input_ids"], text
        assert ids == loaded(text)["input_ids"], text
        if text and "\x00" not in text:  # NUL and a few other bytes are not in this vocabulary.
            assert model.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert (model.vocab_size, model.bos_ids, model.eos_id) == (49152, (), 2)
    assert loaded.eos_token == "<|im_end|>" and loaded.pad_token_id == 2


def test_digits_are_split_as_the_public_tokenizer_does(smollm2):
    """transformers reads this GGUF file with GPT-2's split, which shows only at rare digits."""
    model = load_model_tokenizer(smollm2)
    assert model.tokenizer.encode("x ²5", add_special_tokens=False).tokens == ["x", "Ġ", "Â²", "5"]
    loaded = AutoTokenizer.from_pretrained(smollm2)
    assert loaded.tokenize("x ²5") == ["x", "Ġ", "Â²", "5"]


def test_it_answers(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2)
    assert model.dtype == torch.bfloat16
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0]
    text = tokenizer.decode(answer[prompt["input_ids"].shape[1] :])
    assert text == "The capital of France is Paris.<|im_end|>"


def test_the_configuration_is_the_public_one(smollm2):
    config = json.loads((smollm2 / "config.json").read_text())
    expected = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
        "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "intermediate_size": 1536, "rope_theta": 100000,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "max_position_embeddings": 8192,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
    }  # fmt: skip
    assert {key: config[key] for key in expected} == expected


def test_a_second_run_keeps_the_folder(smollm2):
    before = (smollm2 / "config.json").stat().st_mtime_ns
    done = run_program("fetch_model.py", smollm2)
    assert done.returncode == 0 and "is up to date" in done.stdout
    assert (smollm2 / "config.json").stat().st_mtime_ns == before


def test_bfloat16_rounds_as_torch_does():
    bits = np.random.default_rng(1).integers(0, 2**32, 100_000, np.uint32)
    ties = (np.arange(0, 2**16, dtype=np.uint32) << 16) | 0x8000
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.abs(values) < 1e38]
    expected = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    assert (to_bfloat16(values) == expected).all()


def test_errors_say_what_to_do(tmp_path, smollm2):
    with pytest.raises(DataError, match="NaN or Inf"):
        to_bfloat16(np.array([1.0, np.inf], np.float32))
    with pytest.raises(DataError, match="not part of the llama architecture"):
        to_hugging_face_name("blk.0.ssm_in.weight")
    (tmp_path / "half").mkdir()
    done = run_program("fetch_model.py", tmp_path / "half")
    assert done.returncode == 1 and "exists but lacks chat_template.jinja" in done.stderr
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    done = run_program("fetch_model.py", tmp_path / "new", "--gguf", tmp_path / "other.gguf")
    assert done.returncode == 1 and "has SHA-256" in done.stderr and "try: install" in done.stderr
    assert not (tmp_path / "new").exists()
    done = run_program("fetch_model.py", tmp_path / "new", "--gguf", tmp_path / "none.gguf")
    assert "none.gguf does not exist" in done.stderr
