# SPDX-License-Identifier: Apache-2.0
"""Model folders with new tokens, beside what transformers makes of the same tokens."""

import json
import math
import shutil

import pytest
import torch
from conftest import run_program, write_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

import add_tokens
from temper_data.model_tokenizer import load_model_tokenizer

TOKENS = ("<|tool|>", "<|result|>", "ligand")
TEXT = "ask <|tool|>x<|result|> a ligand, Ligand</s>"
NUM_TOKENS = 268  # of the tokenizer: every byte, and twelve special ones
MATRICES = ("model.embed_tokens.weight", "lm_head.weight")
SIZES = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=64,
)  # fmt: skip
FAMILIES = {
    "tied": (LlamaConfig(**SIZES, tie_word_embeddings=True), torch.float32, "1GB"),
    "sharded": (Qwen3Config(**SIZES, head_dim=8), torch.bfloat16, "9KB"),
    "untied": (MistralConfig(**SIZES), torch.float16, "1GB"),
}


def write_base(folder, family="tied", rows=NUM_TOKENS):
    """A random model whose sums of rows are exact, so that a mean has one right value."""
    config, dtype, shard_size = FAMILIES[family]
    config.vocab_size = rows
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    for matrix in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        matrix.data = (torch.randint(-200, 200, matrix.shape) / 64).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return write_model(folder, "{{ messages }}")


def run(base, *options):
    """Runs the program on the tokens; returns the new folder and what was printed."""
    new = base.parent / "new"
    tokens = [word for token in TOKENS for word in ("--token", token)]
    done = run_program("add_tokens.py", base, new, *(options or tokens))
    assert done.returncode == 0, done.stderr
    return new, done.stdout


def weights_of(folder):
    files = sorted(folder.glob("*.safetensors"))
    return {name: value for file in files for name, value in load_file(file).items()}


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(base, change):
    weights = load_file(base / "model.safetensors")
    change(weights)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [NUM_TOKENS, NUM_TOKENS + 2, 384])
def test_rows_are_means_of_pieces_and_the_rest_stays(tmp_path, family, rows):
    base = write_base(tmp_path / "base", family, rows)
    new, _ = run(base)
    old_model = AutoModelForCausalLM.from_pretrained(base)
    model, info = AutoModelForCausalLM.from_pretrained(new, output_loading_info=True)
    assert not any(info.values()), info
    before, after = weights_of(base), weights_of(new)
    assert before.keys() == after.keys()
    pieces = AutoTokenizer.from_pretrained(base)
    for name, old in before.items():
        kept = NUM_TOKENS if name in MATRICES else len(old)
        assert torch.equal(after[name][:kept], old[:kept]) and after[name].dtype == old.dtype, name
        if name in MATRICES:
            found = after[name][kept:]
            means = [old[pieces.encode(token)].float().mean(0).to(old.dtype) for token in TOKENS]
            assert torch.equal(found[: len(TOKENS)], torch.stack(means)), name
            padding = found[len(TOKENS) :]
            mean = old.float().mean(0).to(old.dtype).expand_as(padding)
            expected = mean if len(after[name]) > rows else old[kept + len(TOKENS) :]
            assert torch.allclose(padding, expected, rtol=1e-2, atol=1e-6), name
    ids = torch.arange(NUM_TOKENS)[None, :60]
    with torch.no_grad():
        old_logits, logits = (one(ids).logits[..., :NUM_TOKENS] for one in (old_model, model))
    assert torch.equal(logits, old_logits)
    old_model.resize_token_embeddings(NUM_TOKENS + 3 if rows < 384 else rows,
                                      pad_to_multiple_of=math.gcd(rows, 128))  # fmt: skip
    assert model.state_dict().keys() == old_model.state_dict().keys()
    for name, value in old_model.state_dict().items():
        assert model.state_dict()[name].shape == value.shape, name


def test_only_files_of_the_matrices_are_written(tmp_path):
    base = write_base(tmp_path / "base", "sharded")
    new, _ = run(base)
    index = json.loads((new / "model.safetensors.index.json").read_text())
    changed = {index["weight_map"][name] for name in MATRICES}
    files = set(index["weight_map"].values())
    assert len(changed) == 2 < len(files)
    for name in files:
        assert (base / name).samefile(new / name) == (name not in changed)
    tensors = weights_of(new).values()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors)
    assert index["metadata"]["total_parameters"] == sum(t.numel() for t in tensors)
    for path in base.iterdir():
        assert path.read_bytes() == (new / path.name).read_bytes() or path.name in {
            *changed, "config.json", "tokenizer.json", "tokenizer_config.json",
            "model.safetensors.index.json",
        }  # fmt: skip


def add_in_transformers(folder, tokens, is_special):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if is_special:
        tokenizer.add_special_tokens(
            {"extra_special_tokens": list(tokens)}, replace_extra_special_tokens=False
        )
    else:
        tokenizer.add_tokens(list(tokens))
    return tokenizer


LISTS = {
    "none": ({}, {}),
    "list": ({"additional_special_tokens": ["<think>"]}, {}),
    "map": ({}, {"additional_special_tokens": ["<think>", "</think>"], "eos_token": "</s>"}),
    "newer": ({"extra_special_tokens": ["<think>"]}, {}),
    "named": ({"extra_special_tokens": {"think_token": "<think>"}}, {}),
}


@pytest.mark.parametrize("is_special", [True, False])
@pytest.mark.parametrize("lists", LISTS)
def test_the_tokenizer_is_as_transformers_adds_to_it(tmp_path, is_special, lists):
    base = write_base(tmp_path / "base")
    config, special_map = LISTS[lists]
    write_model(base, "{{ messages }}", **config)
    if special_map:
        (base / "special_tokens_map.json").write_text(json.dumps(special_map))
    oracle = add_in_transformers(base, TOKENS, is_special)
    path = tmp_path / "tokens.txt"
    path.write_text("\n".join(TOKENS[1:]) + "\n\n")
    options = ["--token", TOKENS[0], "--tokens-file", path, *([] if is_special else ["--plain"])]
    new, printed = run(base, *options)
    loaded = AutoTokenizer.from_pretrained(new)
    ids = loaded.encode(TEXT)
    assert ids == oracle.encode(TEXT) == load_model_tokenizer(new).tokenizer.encode(TEXT).ids
    assert {268, 269, 270} < set(ids) and "268  '<|tool|>', the mean of 8 pieces" in printed
    assert loaded.all_special_tokens == oracle.all_special_tokens
    found, expected = (one.added_tokens_decoder for one in (loaded, oracle))
    assert {index: repr(token) for index, token in found.items()} == {
        index: repr(token) for index, token in expected.items()
    }
    for skips in (True, False):
        expected = oracle.decode(ids, skip_special_tokens=skips)
        assert loaded.decode(ids, skip_special_tokens=skips) == expected
    before, after = (json.loads((f / "tokenizer.json").read_text()) for f in (base, new))
    assert after.pop("added_tokens")[:12] == before.pop("added_tokens") and before == after
    before, after = ((f / "tokenizer_config.json").read_text() for f in (base, new))
    assert is_special or json.loads(before) == json.loads(after)


def test_files_that_list_added_tokens_list_the_new_ones(tmp_path):
    base = write_base(tmp_path / "base")
    entry = {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False,
             "single_word": False, "special": True}  # fmt: skip
    write_model(base, "{{ messages }}", added_tokens_decoder={"256": entry})
    (base / "added_tokens.json").write_text('{"<s>": 256}')
    new, _ = run(base, "--token", "<new>")
    config = json.loads((new / "tokenizer_config.json").read_text())
    assert config["added_tokens_decoder"] == {"256": entry, "268": entry | {"content": "<new>"}}
    assert json.loads((new / "added_tokens.json").read_text()) == {"<s>": 256, "<new>": 268}


def test_a_bias_of_the_head_grows_with_it(tmp_path):
    base = write_base(tmp_path / "base", "untied")
    bias = torch.arange(NUM_TOKENS).half()
    change_weights(base, lambda weights: weights.update({"lm_head.bias": bias}))
    new, _ = run(base, "--token", "ab")
    found = weights_of(new)["lm_head.bias"]
    assert found.shape == (272,) and torch.equal(found[:NUM_TOKENS], bias)
    assert found[268] == bias[AutoTokenizer.from_pretrained(base).encode("ab")].float().mean()


def test_a_token_that_had_no_row_is_told_of(tmp_path):
    base = write_base(tmp_path / "base", rows=NUM_TOKENS - 1)
    new, printed = run(base, "--token", "<new>")
    assert "ids 267 to 267 had no row, and have that mean" in printed
    assert "rows: 267 to 269, a multiple of 1 as before" in printed
    old, grown = (weights_of(folder)[MATRICES[0]] for folder in (base, new))
    assert torch.allclose(grown[267], old.mean(0))


def test_a_real_model_gets_tokens(tmp_path, smollm2):
    done = run_program("add_tokens.py", smollm2, tmp_path / "new", "--token", "<|tool|>")
    assert "rows: 49152 to 49280, a multiple of 128 as before" in done.stdout, done.stderr
    oracle = add_in_transformers(smollm2, TOKENS[:1], True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert tokenizer.encode(TEXT) == oracle.encode(TEXT) and 49152 in tokenizer.encode(TEXT)
    assert tokenizer.all_special_tokens == oracle.all_special_tokens
    old, new = (weights_of(folder)[MATRICES[0]] for folder in (smollm2, tmp_path / "new"))
    assert torch.equal(new[:49152], old)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert model.get_output_embeddings().weight.shape == (49280, 576)


def test_files_that_do_not_fit_are_refused(tmp_path):
    base = write_base(tmp_path / "base", "sharded")
    path = base / "model.safetensors.index.json"
    files = json.loads(path.read_text())["weight_map"]
    for file, message in (
        (files["model.norm.weight"], " has no matrix lm_head.weight"),
        ("../base/" + files["lm_head.weight"], "which is not in the folder"),
        ("none.safetensors", "names 'none.safetensors', which is not in the folder"),
    ):
        change_json(path, weight_map=files | {"lm_head.weight": file})
        done = run_program("add_tokens.py", base, tmp_path / "new", "--token", "<x>")
        assert done.returncode == 1 and message in done.stderr, done.stderr
    write_base(tmp_path / "few", rows=110)
    done = run_program("add_tokens.py", tmp_path / "few", tmp_path / "new", "--token=\u00e9\u00e9")
    assert "has no mean to begin from" in done.stderr and "has 110 rows" in done.stderr
    assert not (tmp_path / "new").exists()


def test_other_weights_are_left_out_and_named(tmp_path):
    base = write_base(tmp_path / "base")
    for name in ("pytorch_model.bin", "consolidated.safetensors", ".cache", "LICENSE"):
        (base / name).write_text("x")
    (base / "original").mkdir()
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    new, printed = run(base)
    assert "left out: .cache, consolidated.safetensors, original, pytorch_model.bin" in printed
    names = {path.name for path in base.iterdir()} - {path.name for path in new.iterdir()}
    assert names == {".cache", "consolidated.safetensors", "original", "pytorch_model.bin"}
    assert (new / "additional_chat_templates" / "tool_use.jinja").read_text() == "{{ tools }}"


REFUSALS = {
    "<s>": (None, "token '<s>' is a token of {base} already, with id 256"),
    "a": (None, "token 'a' is a token of {base} already, with id 64"),
    "": (None, "token '' is empty or no valid UTF-8"),
    "<s>x": (None, "the text '<s>x' would not become the token 268"),
    "<quantised>": (lambda base: change_json(base / "config.json", quantization_config={"a": 1}),
                    "{base} is quantised"),
    "<other rows>": (lambda base: change_json(base / "config.json", vocab_size=300),
                     "vocab_size in config.json 300, model.embed_tokens.weight 268"),
    "<other family>": (lambda base: change_weights(base, lambda w: w.pop(MATRICES[0])),
                       "has no tensor model.embed_tokens.weight"),
    "<no head>": (lambda base: change_json(base / "config.json", tie_word_embeddings=False),
                  "has no tensor lm_head.weight"),
    "<not finite>": (lambda base: change_weights(base, lambda w: w[MATRICES[0]].fill_(math.nan)),
                     "model.embed_tokens.weight has NaN or Inf"),
    "<dtype>": (lambda base: change_weights(
        base, lambda w: w.update({MATRICES[0]: w[MATRICES[0]].double()})), "is stored as F64"),
    "<torn>": (lambda base: (base / "model.safetensors").write_bytes(b"x" * 99),
               "{base}/model.safetensors: "),
    "<no weights>": (lambda base: (base / "model.safetensors").unlink(),
                     "{base} has neither model.safetensors nor an index"),
    "<no tokenizer>": (lambda base: (base / "tokenizer.json").unlink(), "tokenizer.json: No such"),
    "<exists>": (lambda base: (base.parent / "new").mkdir(), "new exists"),
}  # fmt: skip


@pytest.mark.parametrize("token", REFUSALS)
def test_refusals_name_the_cause_and_leave_nothing(tmp_path, token):
    change, message = REFUSALS[token]
    base = write_base(tmp_path / "base")
    if change:
        change(base)
    names = sorted(path.name for path in tmp_path.iterdir())
    done = run_program("add_tokens.py", base, tmp_path / "new", "--plain", f"--token={token}")
    assert done.returncode == 1 and message.format(base=base) in done.stderr, done.stderr
    assert "\n  try: " in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_tokens_are_named_once_and_files_are_text(tmp_path):
    base = write_base(tmp_path / "base")
    (tmp_path / "binary").write_bytes(b"\xff")
    for options, message in (
        (["--token", "<x>", "--token", "<x>"], "token '<x>' is named twice"),
        (["--tokens-file", tmp_path / "binary"], "name a UTF-8 text file with a token a line"),
        (["--tokens-file", tmp_path / "none"], "name a UTF-8 text file with a token a line"),
        ([], "no token is named"),
    ):
        done = run_program("add_tokens.py", base, tmp_path / "new", *options)
        assert done.returncode == 1 and message in done.stderr, done.stderr


def test_a_failure_while_it_writes_leaves_nothing(tmp_path, monkeypatch):
    base = write_base(tmp_path / "base")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="No space left"):
        add_tokens.add_tokens(base, tmp_path / "new", ["<new>"], True)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
