# SPDX-License-Identifier: Apache-2.0
"""launch/compare from questions to pages, on a tiny model: figures beside transformers, what is
kept, and what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "datasets"))

import templates  # noqa: E402
from conftest import run_here, write_lines, write_model  # noqa: E402
from compare import compare as compare_here  # noqa: E402
from temper_compare.options import INSTRUCTION, load_options  # noqa: E402
from temper_compare.prompts import PASSAGES  # noqa: E402
from temper_compare.questions import QuestionSet  # noqa: E402
from temper_compare.training import estimated_bytes  # noqa: E402

from temper_data.errors import DataError  # noqa: E402

POSITIONS = 1024
LASTS = ("jobs", "nodes", "tasks", "users", "cores", "names", "times", "size")
NAMES = [f"--{first}-{last}" for place, first in enumerate(("max", "min", "new", "old", "big"))
         for number, last in enumerate(LASTS) if (place + number) % 3]  # fmt: skip
WORDS = "cluster partition memory limit queue account priority reservation".split()

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/shards
workers: 1
sources: [{path: {tmp}/options.jsonl, format: messages}]
holdout: {fraction: 0.3, by: group}
"""
PAGES = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/pages
workers: 1
sources: [{path: {tmp}/pages.jsonl, format: jsonl, field: text}]
holdout: {fraction: 0.3}
"""
TRAIN = """\
run: {folder: {tmp}/own/{name}}
model: {path: {tmp}/model, dtype: float32}
method: {method}
data:
  train: [{path: {tmp}/{shards}/train.h5}]
  holdout: [{name: general, role: general, path: {tmp}/pages/holdout.h5, max_rows: 1}]
  sequence_length: 128
  global_batch: 2
  micro_batch: 1
train: {max_steps: 2, threads: 1}
optimizer: {learning_rate: 0.01}
"""
CONFIG = """\
folder: {tmp}/out
model: {tmp}/model
ranks: 1
dtype: float32
questions: {recipe: {tmp}/recipe.yaml, count: 4, unanswerable: 3, edited: 4, names: names,
            answer_tokens: 40}
manual: {path: {tmp}/pages.jsonl, title: page, words: 20}
prompts: {shots: 2, shot_words: 20, passages: 1, dense: {tmp}/model}
training:
  - {name: sft, config: {tmp}/sft.yaml, after: {tmp}/cpt.yaml, retrieval: true}
  - {name: lora, config: {tmp}/lora.yaml}
update_steps: 2
blind: {arms: [zero-shot, sft]}
"""


FRESH = "folder={tmp}/fresh"  # where nothing is finished that could be kept


def write_texts(folder: Path) -> None:
    """Options with two questions each, and a manual that says the same."""
    rows, pages = [], []
    for number, name in enumerate(NAMES):
        answer = f"Sets {WORDS[number % 8]} {WORDS[number // 8]} to {number}."
        pages.append({"page": f"part{number % 4}", "text": f"{name}=<n>\n{answer}\n\nEnd."})
        for question in (f"What is {name} for?", f"Explain {name}=<n>."):
            turns = [{"role": "user", "content": question},
                     {"role": "assistant", "content": answer}]  # fmt: skip
            rows.append({"messages": turns, "group": name, "names": [f"{name}=<n>", name]})
    write_lines(folder / "options.jsonl", rows)
    write_lines(folder / "pages.jsonl", pages)


def write_texts_of(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text.replace("{tmp}", str(folder)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model, shards and configurations."""
    base = tmp_path_factory.mktemp("compare")
    write_model(base / "model", templates.CHATML, eos_token="<|im_end|>")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=268, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=POSITIONS,
        bos_token_id=256, eos_token_id=260, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(base / "model")
    write_texts(base)
    for recipe in (RECIPE, PAGES):
        run_here(base, recipe)
    trainings = {
        f"{name}.yaml": TRAIN.replace("{name}", name).replace("{method}", method)
        .replace("{shards}", shards)
        for name, method, shards in (
            ("cpt", "full", "pages"), ("sft", "full", "shards"), ("lora", "lora", "shards"),
        )
    }  # fmt: skip
    write_texts_of(base, trainings | {"recipe.yaml": RECIPE, "compare.yaml": CONFIG})
    return base


@pytest.fixture(scope="module")
def done(folder):
    """As a user starts it."""
    command = [ROOT / "launch" / "compare", folder / "compare.yaml"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def result(folder: Path, name: str) -> dict:
    return json.loads((folder / "out" / "arms" / f"{name}-1.json").read_text())


def mean_logprob(model, context: list[int], continuation: list[int]) -> float:
    """Of a token, as transformers has it."""
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        scores = model(ids).logits[0].log_softmax(-1)
    rows = range(len(context) - 1, ids.shape[1] - 1)
    return float(sum(scores[row, ids[0, row + 1]] for row in rows) / len(continuation))


def trained(folder: Path, name: str):
    base = "model" if name != "sft" else "out/training/sft-1/final"
    model = AutoModelForCausalLM.from_pretrained(folder / base, dtype=torch.float32)
    if name == "lora":
        model = PeftModel.from_pretrained(model, folder / "out/training/lora-1/final")
    return model.eval()


@pytest.mark.parametrize("name", ["zero-shot", "retrieval", "sft", "lora"])
def test_figures_are_those_of_transformers(folder, done, name):
    options = load_options(folder / "compare.yaml", [])
    asked = QuestionSet(options.questions).asked()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model, kept = trained(folder, name), result(folder, name)
    for place, question in enumerate(asked):
        messages = list(question.messages)
        if name in ("zero-shot", "retrieval"):
            messages.insert(0, {"role": "system", "content": INSTRUCTION})
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer.encode(question.answer + "<|im_end|>", add_special_tokens=False)
        if name == "retrieval":
            assert kept["prompt_tokens"][place] > len(prompt) + len(PASSAGES)
            continue
        assert kept["prompt_tokens"][place] == len(prompt)
        assert kept["right"][place] == pytest.approx(mean_logprob(model, prompt, answer), abs=1e-4)
        own = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=40, do_sample=False,
                             eos_token_id=260, pad_token_id=260)[0, len(prompt) :]  # fmt: skip
        assert kept["answers"][place] == [token for token in own.tolist() if token != 260]


def test_every_arm_has_a_row_and_costs(folder, done):
    lines = (folder / "out" / "table.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names == ["zero-shot", "few-shot random", "few-shot nearest", "retrieval",
                     "dense retrieval", "sft", "sft + retrieval", "lora"]  # fmt: skip
    assert "page: " in done.stdout and "log-likelihood" in done.stdout
    sft, lora = (result(folder, name)["cost"] for name in ("sft", "lora"))
    assert sft["seconds"] > 0 and sft["peak_bytes"] > 10 << 20
    weights = (folder / "out/training/sft-1/final").glob("*.safetensors")
    assert sft["stored_bytes"] == sum(path.stat().st_size for path in weights)
    assert lora["stored_bytes"] < sft["stored_bytes"] and sft["forgetting"] is not None
    assert 0.5 < estimated_bytes(str(folder / "sft.yaml"), 1) / sft["peak_bytes"] < 2
    assert result(folder, "zero-shot")["cost"]["stored_bytes"] == 0
    assert (folder / "out" / "compare.html").stat().st_size > 20_000
    assert len(json.loads((folder / "out" / "blind-key.json").read_text())["pairs"]) > 0


def test_an_edit_reaches_passages_and_trained_weights(folder, done):
    """The scores of new answers rise where the manual, or the run, says them now."""
    for name in ("retrieval", "sft", "lora"):
        kept = result(folder, name)
        new_before, new_after = (sum(kept[when][::2]) for when in ("before", "after"))
        assert len(kept["before"]) == 2 * 4 and new_after != new_before
    assert "after" not in result(folder, "zero-shot")
    for name in ("sft", "lora"):  # The run saw such answers alone.
        kept = result(folder, name)
        assert sum(kept["after"]) > sum(kept["before"]) and kept["update_seconds"] > 0


def test_what_is_finished_is_not_done_again(folder, done, capsys):
    page = (folder / "out" / "compare.html").read_bytes()
    (folder / "out" / "arms" / "lora-1.json").unlink()
    compare_here(folder / "compare.yaml", [])
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("compare: ")]
    assert told == ["compare: asking lora, seed 1"]
    assert len((folder / "out" / "compare.html").read_bytes()) == pytest.approx(len(page), abs=99)
    compare_here(folder / "compare.yaml", [])
    assert "compare: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["steps=3"], "was begun with other settings"),
        (["prompts.passages=60"], f"more than the {POSITIONS} positions"),
        (["questions.count=400"], "different answers of at most 40 tokens"),
        (["questions.edited=400"], "stand in the manual exactly once"),
        (["questions.names=nothing"], "contain a name that their field nothing lists"),
        (["manual.field=body"], "pages.jsonl:1 is no JSON object with body"),
        ([FRESH, "training.0.existing=true", "training.0.after="], "own/sft holds no final/"),
        ([FRESH, "training.1.config=missing.yaml"], "missing.yaml: No such file"),
        (["questions.recipe={tmp}/compare.yaml"], "kind is missing"),
    ],
)
def test_bad_input_is_refused_and_loses_nothing(folder, done, capsys, assignments, says):
    assignments = [text.replace("{tmp}", str(folder)) for text in assignments]
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.json")}
    with pytest.raises(DataError, match=re.escape(says)):
        compare_here(folder / "compare.yaml", assignments)
    assert "compare: " not in capsys.readouterr().out  # Before anything is begun.
    assert before.items() <= {p: p.stat().st_mtime_ns for p in before}.items()
