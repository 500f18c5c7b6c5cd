# SPDX-License-Identifier: Apache-2.0
"""What a run remembers of its data: in the manifest, and in the model card as the hub reads it."""

import json
from pathlib import Path

import tiny_run
from huggingface_hub import ModelCard
from tiny_run import temper
from transformers import TrainerState

SOURCES = [
    {"path": "a/*.jsonl", "license": "MIT", "origin": "https://huggingface.co/datasets/some/set"},
    {"path": "b.txt", "license": "mit", "origin": ""},
]


def write_run(folder: Path, origin: str) -> Path:
    config = tiny_run.write_run(folder)
    (folder / "model" / "chat_template.jinja").write_text("t")
    (folder / "train.h5").rename(folder / "held.h5")
    tiny_run.write_conversations(folder / "train.h5", "t", origin=origin)
    text = config.read_text()
    held = f"  holdout: [{{name: text, path: {folder}/held.h5}}]\n"
    config.write_text(text.replace("  sequence_length", held + "  sequence_length"))
    return config


def remembered(folder: Path, *overrides: str) -> tuple[dict, ModelCard]:
    """Trains; the data in the manifest, and the card of the result."""
    done = temper("train", folder / "run.yaml", *overrides)
    assert done.returncode == 0, done.stderr
    newest = folder / "run" / "checkpoints" / "step-00000003"
    manifest = json.loads((newest / "MANIFEST.json").read_text())
    assert temper("inspect", newest).returncode == 0
    return manifest["data"], ModelCard.load(folder / "run" / "final" / "README.md")


def test_licences_and_origins_travel_from_shards_to_manifest_and_card(tmp_path):
    write_run(tmp_path, json.dumps({"recipe": {"sources": SOURCES}}))
    (tmp_path / "model" / "README.md").write_text("---\nlicense: MIT\n---\n# Base\n")
    data, card = remembered(tmp_path)
    assert data["sources"] == SOURCES
    train, held = data["shards"]
    assert (train["path"], train["kind"]) == (f"{tmp_path}/train.h5", "sft")
    assert (train["num_documents"], train["num_tokens"], train["num_targets"]) == (40, 800, 400)
    assert "holdout" not in train and held["holdout"] == "text" and held["kind"] == "pretrain"
    assert card.data.license == "mit" and card.data.datasets == ["some/set"]
    assert card.data.base_model == f"{tmp_path}/model"
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["temper", "sft"]
    assert f"| {tmp_path}/train.h5 | training | sft | 40 | 800 | 400 |".replace("_", "\\_") in (
        card.text
    )
    assert "| a/\\*.jsonl | MIT | https://huggingface.co/datasets/some/set |" in card.text
    assert "# Base" not in card.text
    exported = tmp_path / "exported"
    assert temper("export", tmp_path / "run" / "checkpoints" / "latest", exported).returncode == 0
    assert ModelCard.load(exported / "README.md").text == card.text
    figure = card.data.eval_results[0]
    assert (figure.dataset_name, figure.metric_type) == ("text", "loss")
    lines = list(map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))
    losses = [line["loss"] for line in lines if line["kind"] == "evaluation"]
    assert figure.metric_value == losses[-1] and len(losses) == 2
    assert f"| text | {losses[0]:.4f} | {losses[1]:.4f} | " in card.text
    assert "```\ntemper train run.yaml\n```" in card.text and "| steps | 3 |" in card.text
    assert "\noptimizer.learning_rate=2e-05\n" in card.text


def test_the_history_of_a_result_is_that_of_trainer(tmp_path):
    """With the names of transformers' Trainer, up to the step of the checkpoint."""
    config = write_run(tmp_path, "{}")
    assert temper("train", config, "checkpoint.every_steps=2").returncode == 0
    run = tmp_path / "run"
    older = run / "checkpoints" / "step-00000002"
    assert "history=yes" in temper("export", older, tmp_path / "older").stdout
    final = TrainerState.load_from_json(run / "final" / "trainer_state.json")
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    assert [line["kind"] for line in lines].count("run") == 1 and lines[0]["kind"] == "run"
    steps = [line for line in lines if line["kind"] == "step"]
    logged = [entry for entry in final.log_history if "loss" in entry]
    for key in ("step", "loss", "grad_norm", "learning_rate"):
        assert [entry[key] for entry in logged] == [line[key] for line in steps]
    assert final.log_history[0].keys() == {"step", "epoch", "eval_text_loss",
                                           "eval_text_perplexity"}  # fmt: skip
    assert (final.global_step, final.max_steps) == (3, 3)
    rows = lines[0]["rows_per_epoch"]
    assert [entry["epoch"] for entry in logged] == [4 * step / rows for step in (1, 2, 3)]
    assert final.num_input_tokens_seen == sum(line["num_tokens"] for line in steps) > 0
    mean = sum(line["loss"] for line in steps) / 3
    assert abs(final.log_history[-1]["train_loss"] - mean) < 1e-9
    kept = TrainerState.load_from_json(tmp_path / "older" / "trainer_state.json")
    assert kept.global_step == 2 and kept.max_steps == 3
    assert kept.log_history[:-1] == [one for one in final.log_history[:-1] if one["step"] < 3]
    # A checkpoint without its run has no history; nor does it take one.
    (run / "metrics.jsonl").unlink()
    assert "history=none" in temper("export", older, tmp_path / "alone").stdout
    assert not (tmp_path / "alone" / "trainer_state.json").exists()


def test_export_says_what_servers_do_not_take(tmp_path):
    config = tiny_run.write_run(tmp_path)
    told = {
        "lora={rank: 24, targets: [q_proj]}": ["start vLLM with --max-lora-rank 32"],
        "lora={rank: 2, targets: [q_proj], use_dora: true}": ["take no DoRA; temper merge puts"],
        "lora={rank: 2, targets: [q_proj], modules_to_save: [norm]}": ["take no modules_to_save"],
        "lora={rank: 2, targets: [q_proj]}": [],
    }
    for number, (option, notes) in enumerate(told.items()):
        run = tmp_path / f"run{number}"
        done = temper("train", config, f"run.folder={run}", "method=lora", option)
        assert done.returncode == 0, done.stderr
        done = temper("export", run, tmp_path / f"out{number}")
        assert done.returncode == 0 and " adapter=lora " in done.stdout, done
        assert done.stderr.count("warning=") == len(notes), done.stderr
        for note in notes:
            assert note in done.stderr
    run = tmp_path / "prompt"
    assert temper("train", config, f"run.folder={run}", "method=prompt").returncode == 0
    assert "take no adapter of method prompt" in temper("export", run, tmp_path / "p").stderr


def test_code_of_a_model_is_copied_and_named(tmp_path):
    config = tiny_run.write_run(tmp_path)
    (tmp_path / "model" / "custom_generate").mkdir()
    (tmp_path / "model" / "custom_generate" / "generate.py").write_text("raise SystemExit(1)")
    assert temper("train", config).returncode == 0
    done = temper("export", tmp_path / "run", tmp_path / "out")
    assert "custom_generate/generate.py is copied, and was not run" in done.stderr
    assert (tmp_path / "out" / "custom_generate" / "generate.py").read_text()


def test_a_merged_model_has_a_card_of_its_adapters(tmp_path):
    """With what was trained on, and a licence where all agree; also where adapters are combined."""
    sources = [source | {"license": "MIT"} for source in SOURCES]
    for name, license in (("one", "MIT"), ("two", "MIT"), ("three", "")):
        stated = [source | {"license": license} for source in sources]
        write_run(tmp_path / name, json.dumps({"recipe": {"sources": stated}}))
        remembered(tmp_path / name, f"model.path={tmp_path}/one/model", "method=lora",
                   "lora={rank: 2, targets: [q_proj]}")  # fmt: skip
    base, (one, two, three) = tmp_path / "one" / "model", [
        tmp_path / name / "run" / "final" for name in ("one", "two", "three")
    ]
    assert temper("merge", base, one, tmp_path / "merged").returncode == 0
    card = ModelCard.load(tmp_path / "merged" / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "transformers")
    assert card.data.base_model == str(base) and card.data.tags == ["temper", "lora", "merge"]
    escaped = str(one).replace("_", "\\_")
    assert f"| {escaped} | 1 | mit |" in card.text
    assert f"## What {escaped} was trained on\n\n### Data\n" in card.text
    assert "| a/\\*.jsonl | MIT | https://huggingface.co/datasets/some/set |" in card.text
    (base / "README.md").write_text("---\nlicense: gemma\n---\n")
    for options, library, expected, other in (
        ([], "transformers", "other", two), (["--as-adapter"], "peft", None, three),
    ):  # fmt: skip
        both = ["--adapter", one, "--weight", "0.7", "--adapter", other, "--weight", "0.3"]
        folder = tmp_path / library
        done = temper("merge", *both, *options, base, folder)
        assert done.returncode == 0, done
        card = ModelCard.load(folder / "README.md")
        assert (card.data.license, card.data.library_name) == (expected, library)
        assert f"| {escaped} | 0.7 | " in card.text and card.text.count("\n### Data\n") == 2


def test_a_shard_that_says_nothing_is_a_source_without_a_licence(tmp_path):
    origins = ("{}", "no JSON", '{"recipe": {"sources": [3, {"path": 4}]}}', "[]")
    for number, origin in enumerate(origins):
        folder = tmp_path / str(number)
        write_run(folder, origin)
        data, card = remembered(folder, "method=lora", "lora={rank: 2, targets: [q_proj]}")
        assert [source["license"] for source in data["sources"]] == [""], origin
        assert card.data.license is None and card.data.library_name == "peft"
        assert card.data.tags == ["temper", "lora", "sft"]
        assert "none is stated for the result" in card.text
