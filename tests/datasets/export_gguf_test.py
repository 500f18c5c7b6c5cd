# SPDX-License-Identifier: Apache-2.0
"""Models and adapters as GGUF: what `gguf` and transformers read back."""

import json
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("datasets", "tests/support", "tests/app")]

import export_gguf  # noqa: E402
import tiny_families  # noqa: E402
import tiny_run  # noqa: E402
from temper_data.errors import DataError  # noqa: E402
from temper_gguf import tokenizer as gguf_tokenizer  # noqa: E402

VOCAB = 264  # 256 bytes, three merges, two special tokens, and three rows that nothing uses
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
SIZES = tiny_families.SIZES | dict(vocab_size=VOCAB, num_attention_heads=4, num_key_value_heads=2)
# What transformers' own loader opens, and of what differs from a plain Llama something in each.
READ_BACK = {
    "llama": dict(tie_word_embeddings=True),
    "mistral": dict(head_dim=16, sliding_window=None),
    "qwen2": dict(use_sliding_window=False),
    "qwen3": dict(head_dim=128),  # The one that the loader assumes.
    "phi3": dict(sliding_window=None, pad_token_id=0),
    "starcoder2": dict(sliding_window=None, use_bias=True),
    "gemma2": dict(head_dim=256),  # As before.
    "nemotron": {},
}


YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=16)
MIXTURE = dict(num_experts=3, moe_intermediate_size=32)


def write_tokenizer(folder: Path, **config) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("a", "b"), ("c", "d"), ("ab", "cd")]
    words = letters + [left + right for left, right in pairs]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, pairs))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>"])
    made.save(str(folder / "tokenizer.json"))
    keys = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(keys | config))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def write_model(folder: Path, family: str = "llama", **keys):
    """A folder with a random model whose numbers float16 holds exactly."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, **SIZES | dict(eos_token_id=260) | keys)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * (0.1 if parameter.dim() == 1 else 0.25)
            parameter.copy_((parameter + noise).half().float())
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def export(*words) -> int:
    return export_gguf.main([str(word) for word in words])


def loss_of(model) -> float:
    tokens = torch.arange(60).reshape(2, 30) * 7 % 250
    with torch.no_grad():
        return model(tokens, labels=tokens).loss.item()


def read_back(path: Path):
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def fields_of(path: Path) -> dict:
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


@pytest.mark.parametrize("family", READ_BACK)
def test_transformers_reads_the_same_model_back(tmp_path, family):
    model = write_model(tmp_path / "model", family, **READ_BACK[family])
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    assert loss_of(read_back(tmp_path / "m.gguf")) == pytest.approx(loss_of(model), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "noise"), [("f32", 0.0), ("bf16", 0.02), ("q8_0", 0.02), ("q4_0", 0.5)]
)
def test_a_loss_differs_by_what_the_type_rounds(tmp_path, kind, noise):
    model = write_model(tmp_path / "model", "qwen2", **READ_BACK["qwen2"])
    assert export(tmp_path / "model", tmp_path / "m.gguf", "--type", kind) == 0
    difference = abs(loss_of(read_back(tmp_path / "m.gguf")) - loss_of(model))
    assert 0.0 < difference < noise if noise else difference == 0.0
    kinds = {t.name: t.tensor_type.name.lower() for t in GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == kind and kinds["blk.0.attn_norm.weight"] == "f32"
    assert kinds["token_embd.weight"] == ("q8_0" if kind == "q4_0" else kind)


def test_tokenizer_template_and_ends_are_in_the_file(tmp_path, capsys):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": [260, 7]}')
    capsys.readouterr()
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    assert capsys.readouterr().err == ""
    fields = fields_of(tmp_path / "m.gguf")
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.chat_template"] == TEMPLATE
    assert fields["tokenizer.ggml.eos_token_id"] == 260
    assert fields["tokenizer.ggml.eot_token_id"] == 7
    assert fields["tokenizer.ggml.tokens"][-4:] == ["</s>", "[PAD261]", "[PAD262]", "[PAD263]"]
    assert fields["tokenizer.ggml.token_type"][-4:] == [3, 5, 5, 5]
    text = "abcd 123 é\n\n x"
    ours = AutoTokenizer.from_pretrained(tmp_path / "model")(text)["input_ids"]
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    assert read.convert_tokens_to_ids(read.tokenize("abcd")) == ours[:1]


@pytest.mark.parametrize(
    ("named", "stops", "expected"),
    [
        ("</s>", [7, 260, 9], (260, 7, 9)),  # The tokenizer's own first, the others as listed.
        ("a", [7, 9], (7, 9, None)),  # Where that ends no text, the first that is listed.
        ("</s>", 9, (9, None, None)),
    ],
)
def test_of_several_end_tokens_the_tokenizers_own_comes_first(tmp_path, named, stops, expected):
    write_model(tmp_path / "model")
    write_tokenizer(tmp_path / "model", eos_token=named)
    (tmp_path / "model/generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    fields = fields_of(tmp_path / "m.gguf")
    kinds = ("eos", "eot", "eom")
    assert tuple(fields.get(f"tokenizer.ggml.{kind}_token_id") for kind in kinds) == expected


def test_end_tokens_for_which_a_file_has_no_place_are_told(tmp_path, capsys):
    write_model(tmp_path / "model")
    (tmp_path / "model/generation_config.json").write_text('{"eos_token_id": [260, 7, 9, 11]}')
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    assert "a GGUF file has a place for 3 of the 4 end tokens" in capsys.readouterr().err


# What differs from a model that llama.cpp has by other names, orders and numbers.
EXPERTS = {
    "mixtral": dict(num_local_experts=3, sliding_window=None),
    "granitemoe": dict(num_local_experts=3),
    "granitemoeshared": dict(num_local_experts=1, shared_intermediate_size=40),
    "qwen2_moe": dict(
        num_experts=11, moe_intermediate_size=32, shared_expert_intermediate_size=48,
        use_sliding_window=False,
    ),
}  # fmt: skip
GATES = {"mixtral": "block_sparse_moe.experts.{}.w1", "qwen2_moe": "mlp.experts.{}.gate_proj"}


@pytest.mark.parametrize("family", EXPERTS)
def test_experts_are_one_tensor_in_the_order_of_their_numbers(tmp_path, family):
    write_model(tmp_path / "model", family, num_experts_per_tok=1, **EXPERTS[family])
    assert export(tmp_path / "model", tmp_path / "m.gguf", "--type", "q8_0") == 0
    found = tensors_of(tmp_path / "m.gguf")
    source = load_file(tmp_path / "model/model.safetensors")
    count = EXPERTS[family].get("num_experts") or EXPERTS[family]["num_local_experts"]
    assert fields_of(tmp_path / "m.gguf")[f"{arch_of(tmp_path)}.expert_count"] == count
    if family in GATES:
        gates = [source[f"model.layers.1.{GATES[family].format(i)}.weight"] for i in range(count)]
        gate = np.stack(gates)
    else:
        both = source["model.layers.1.block_sparse_moe.input_linear.weight"]
        gate, up = np.split(both, 2, axis=1)
        np.testing.assert_allclose(found["blk.1.ffn_up_exps.weight"], up, atol=0.01)
    np.testing.assert_allclose(found["blk.1.ffn_gate_exps.weight"], gate, atol=0.01)
    kinds = {t.name: t.tensor_type.name for t in GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.1.ffn_gate_inp.weight"] == "F32"  # Routers are not rounded.
    if family == "qwen2_moe":
        assert found["blk.1.ffn_gate_inp_shexp.weight"].shape == (64,)


def arch_of(folder: Path) -> str:
    return fields_of(folder / "m.gguf")["general.architecture"]


def test_positions_that_stretch_their_base_are_written_as_the_longer_base(tmp_path):
    rope = dict(rope_type="dynamic", rope_theta=1e4, factor=1.0, alpha=100.0)
    write_model(tmp_path / "model", "hunyuan_v1_dense", head_dim=16, rope_parameters=rope)
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    base = fields_of(tmp_path / "m.gguf")[f"{arch_of(tmp_path)}.rope.freq_base"]
    assert base == pytest.approx(1e4 * 100.0 ** (16 / 14))


def test_a_share_of_a_head_that_rotates_is_the_familys_where_no_key_says_it(tmp_path):
    write_model(tmp_path / "model", "nemotron", head_dim=16)
    path = tmp_path / "model/config.json"
    found = json.loads(path.read_text())
    del found["rope_parameters"]
    path.write_text(json.dumps(found))
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    assert fields_of(tmp_path / "m.gguf")["nemotron.rope.dimension_count"] == 8


def test_a_turn_that_ends_no_text_is_told(tmp_path, capsys):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": 259}')
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 0
    assert "the chat template ends turns with '</s>' (260), which is no end token" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("family", "keys", "message"),
    [
        ("glm", {}, "models of family glm are not written as GGUF here"),
        ("mistral", {"sliding_window": 5}, "has a window of 5 tokens"),
        ("llama", {"hidden_act": "gelu"}, "has the activation gelu"),
        ("gemma2", {"head_dim": 16}, "has query_pre_attn_scalar 256, not 16"),
        ("qwen3_moe", {"norm_topk_prob": False, **MIXTURE}, "has norm_topk_prob false"),
        ("qwen3_moe", {"norm_topk_prob": True, "mlp_only_layers": [0], **MIXTURE},
         "has no tensor model.layers.0.mlp.down_proj.weight"),
        ("olmoe", {"clip_qkv": 2.0, "num_experts": 3}, "has clip_qkv"),
        ("olmoe", {"num_experts": 3}, "has 2 heads of keys for 4"),
        ("exaone4", {"sliding_window": 60}, "has a window"),
        ("cohere2", {"layer_types": ["full_attention"] * 2}, "has windows in layers other than"),
        ("olmo3", {"layer_types": ["full_attention"] * 2}, "has windows in layers other than"),
        ("ministral3", {"rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 0.5}},
         "has mscale 0.7 beside mscale_all_dim 0.5"),
        ("llama", {"rope_parameters": YARN | {"attention_factor": 1.5}}, "has attention_factor"),
        ("olmo2", {"attention_bias": True}, "has no bias model.layers.0.self_attn."),
    ],
)  # fmt: skip
def test_what_llama_cpp_computes_otherwise_is_refused(tmp_path, capsys, family, keys, message):
    write_model(tmp_path / "model", family, **keys)
    assert export(tmp_path / "model", tmp_path / "m.gguf") == 1
    error = capsys.readouterr().err
    assert message in error and "\n  try: " in error
    assert not (tmp_path / "m.gguf").exists()


def test_a_tokenizer_that_is_not_known_is_refused():
    step = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated"}
    bytes_step = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    found = {"model": {"type": "BPE"}}
    found["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [step, bytes_step]}
    with pytest.raises(DataError, match="cuts text by"):
        gguf_tokenizer.pre_tokenizer_name(found)
    words = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    step["pattern"]["Regex"] = f"(?i:'s|'t|'re|'ve|'m|'ll|'d){words}|\\s+(?!\\S)|\\s+"
    assert gguf_tokenizer.pre_tokenizer_name(found) == "dbrx"
    found["model"]["ignore_merges"] = True  # As Llama 3 has it.
    assert gguf_tokenizer.pre_tokenizer_name(found) == "llama-bpe"


def write_adapter(folder: Path, base: Path, **options) -> Path:
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"],
                                "task_type": "CAUSAL_LM"} | options)  # fmt: skip
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True, "rank_pattern": {"up_proj": 2}, "alpha_pattern":
                     {"layers.1.self_attn.q_proj": 3}}]
)  # fmt: skip
def test_an_adapter_changes_its_base_as_in_peft(tmp_path, options):
    """Of a base whose queries are stored in another order: with that of the merged model."""
    write_model(tmp_path / "base")
    write_adapter(tmp_path / "adapter", tmp_path / "base", **options)
    assert export(tmp_path / "adapter", tmp_path / "a.gguf") == 0
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(whole, tmp_path / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    write_tokenizer(tmp_path / "merged")
    for name in ("base", "merged"):
        assert export(tmp_path / name, tmp_path / f"{name}.gguf") == 0
    base, after = (tensors_of(tmp_path / f"{name}.gguf") for name in ("base", "merged"))
    parts = tensors_of(tmp_path / "a.gguf")
    alpha = fields_of(tmp_path / "a.gguf")["adapter.lora.alpha"]
    modules = {name.removesuffix(".lora_a") for name in parts if name.endswith(".lora_a")}
    assert len(modules) == 4
    for name in modules:
        down, up = parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]
        change = up @ down * (alpha / down.shape[0])
        assert np.abs(change).max() > 0.1
        np.testing.assert_allclose(base[name] + change, after[name], atol=3e-3)


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    return {t.name: dequantize(t.data, GGMLQuantizationType(t.tensor_type)).astype(np.float32)
            for t in GGUFReader(path).tensors}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"use_dora": True}, "has DoRA, and llama.cpp takes none"),
        ({"modules_to_save": ["lm_head"]}, "has modules_to_save"),
        ({"peft_type": "PREFIX_TUNING"}, "is an adapter of kind PREFIX_TUNING"),
    ],
)
def test_an_adapter_that_llama_cpp_does_not_have_is_refused(tmp_path, capsys, keys, message):
    write_model(tmp_path / "base")
    path = write_adapter(tmp_path / "adapter", tmp_path / "base") / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    assert export(tmp_path / "adapter", tmp_path / "a.gguf") == 1
    assert message in capsys.readouterr().err


def test_a_run_is_opened_by_its_newest_checkpoint(tmp_path, capsys):
    config = tiny_run.write_run(tmp_path)
    done = tiny_run.temper("train", config, "method=lora", "lora={rank: 2, targets: [q_proj]}")
    assert done.returncode == 0, done.stderr
    assert export(tmp_path / "run", tmp_path / "a.gguf") == 0
    assert "adapter=f32" in capsys.readouterr().out
    assert {name.split(".")[2] for name in tensors_of(tmp_path / "a.gguf")} == {"attn_q"}
    assert export(tmp_path / "none", tmp_path / "b.gguf") == 1
    assert "none is no checkpoint, and no run that has one" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if "gguf" in path.name) == ["a.gguf"]
