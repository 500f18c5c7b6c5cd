# SPDX-License-Identifier: Apache-2.0
"""The command line, by running it: exit codes, messages, and what check, inspect, export print."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).parent))

import tiny_run  # noqa: E402
from tiny_run import assert_refused, flip_byte, temper  # noqa: E402

CONFIGURATION, DATA, MODEL, CHECKPOINT = 11, 12, 13, 14


def pairs(text: str) -> dict[str, str]:
    """key=value lines."""
    return dict(line.split("=", 1) for line in text.splitlines())


# The frame.


def test_version_and_help_end_well():
    done = temper("--version")
    assert (done.returncode, done.stdout) == (0, "temper 0.1.0\n")
    done = temper("--help")
    assert done.returncode == 0
    for verb in ("check", "train", "eval", "generate", "inspect", "export"):
        assert f"\n  {verb} " in done.stdout
    assert temper("check", "--help").returncode == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "A subcommand is required"),
        (["chek"], "there is no verb 'chek'\n  try: check; one of: check, train, "),
        (["\x1b[31m"], "there is no verb '\\x1B[31m'\n  try: one of: check, train, "),
        (["check"], "config is required"),
        (["check", "x.yaml", "--rank", "2"], "--rank"),
        (["check", "x.yaml", "--ranks", "0"], "--ranks"),
        (["export", "a"], "destination is required"),
        (["export", "a", "b", "--quantize", "int8"], "--quantize"),
    ],
)
def test_a_wrong_command_line_is_a_configuration_error(arguments, message):
    done = temper(*arguments)
    assert done.returncode == CONFIGURATION
    assert message in done.stderr


@pytest.mark.parametrize("verb", ["check", "train", "eval"])
def test_a_missing_configuration_is_named(verb):
    done = temper(verb, "/nonexistent/run.yaml")
    assert_refused(done, CONFIGURATION, "/nonexistent/run.yaml cannot be opened: No such file")


def test_what_is_wrong_on_all_ranks_is_said_once(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("train:\n  max_step: 3\n")
    command = ["mpirun", "-n", "2", os.environ["TEMPER_BINARY"], "train", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == CONFIGURATION, done
    assert done.stderr.count("train.max_step (line 2) is not an option") == 1, done.stderr
    assert f"rank 0: {config}: run.folder is missing\n" in done.stderr


# inspect


def test_inspect_finds_out_what_a_path_is(tmp_path):
    tiny_run.write_run(tmp_path)
    shard = pairs(temper("inspect", tmp_path / "train.h5").stdout)
    assert (shard["kind"], shard["content"], shard["num_tokens"]) == ("shard", "pretrain", "800")
    num_parameters = sum(math.prod(shape) for shape in tiny_run.weight_shapes().values())
    model = pairs(temper("inspect", tmp_path / "model").stdout)
    assert (model["kind"], model["stored_dtype"]) == ("model", "F32")
    assert model["num_parameters"] == str(num_parameters)
    checkpoint = tiny_run.write_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000002")
    found = pairs(temper("inspect", checkpoint).stdout)
    assert (found["kind"], found["step"], found["num_target_tokens"]) == ("checkpoint", "2", "99")
    run_text = temper("inspect", tmp_path / "run").stdout
    run = pairs(run_text)
    assert run["kind"] == "run"
    assert run["checkpoint"].startswith(f"{checkpoint} bytes=")
    assert temper("inspect", "--verify", tmp_path / "run").stdout == run_text
    (checkpoint / "state.json").unlink()
    done = temper("inspect", tmp_path / "run")
    assert "state.json is missing" in pairs(done.stdout)["damaged"]
    assert_refused(done, CHECKPOINT, f"1 of 1 checkpoints of {tmp_path}/run are not known to be")
    assert_refused(temper("inspect", checkpoint), CHECKPOINT, "state.json is missing")


def test_inspect_verifies_every_byte(tmp_path):
    assert temper("train", tiny_run.write_run(tmp_path)).returncode == 0
    checkpoint = (tmp_path / "run" / "checkpoints" / "latest").resolve()
    shard = tmp_path / "train.h5"
    for whole in (shard, checkpoint):
        assert temper("inspect", "--verify", whole).stdout == temper("inspect", whole).stdout
    moments = next((checkpoint / "optimizer").iterdir())
    flip_byte(moments, -1)
    difference = f"{moments} was altered: bytes ["
    assert temper("inspect", checkpoint).returncode == 0
    assert_refused(temper("inspect", "--verify", checkpoint), CHECKPOINT, difference)
    done = temper("inspect", "--verify", tmp_path / "run")
    assert pairs(done.stdout)["damaged"].startswith(f'{checkpoint} reason="{difference}')
    assert_refused(done, CHECKPOINT, "1 of 1 checkpoints of ", difference)
    flip_byte(shard, shard.stat().st_size - 200)
    assert_refused(temper("inspect", "--verify", shard), DATA, "train.h5")
    done = temper("inspect", "--verify", tmp_path / "model")
    assert_refused(done, CONFIGURATION, "model has no hashes to be verified with")


def test_inspect_refuses_what_it_does_not_know(tmp_path):
    done = temper("inspect", tmp_path)
    message = "is no token shard, checkpoint, run, model or adapter folder"
    assert_refused(done, CONFIGURATION, message)
    assert_refused(temper("inspect", tmp_path / "none"), CONFIGURATION, "none does not exist")
    (tmp_path / "text").write_text("text")
    assert_refused(temper("inspect", tmp_path / "text"), DATA, "text")


# eval


def test_eval_needs_a_hold_out(tmp_path):
    done = temper("eval", tiny_run.write_run(tmp_path))
    assert_refused(done, CONFIGURATION, "data.holdout names no token shard", "list at least one")


def test_eval_measures_the_runs_result_and_says_so(tmp_path):
    config = tiny_run.write_run(tmp_path)
    held = tiny_run.write_shard(tmp_path / "held.h5", num_documents=10)
    holdout = f"data.holdout=[{{name: h, path: {held}}}]"
    fresh = temper("eval", config, holdout).stdout.splitlines()
    assert fresh[0] == f"weights=base path={tmp_path}/model"
    options = (holdout, "optimizer.learning_rate=0.05", "train.evaluate_every_steps=3")
    assert temper("train", config, *options).returncode == 0
    newest = tmp_path / "run" / "checkpoints" / "step-00000003" / "model"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    loss = [entry["loss"] for entry in map(json.loads, lines) if entry.get("name") == "h"][-1]
    found = temper("eval", config, holdout).stdout.splitlines()
    assert found[0] == f"weights=newest step=3 path={newest}"
    assert math.isclose(float(pairs(found[1].replace(" ", "\n"))["loss"]), loss, rel_tol=1e-6)
    final = temper("eval", config, holdout, "--weights", "final").stdout.splitlines()
    assert final == [f"weights=final path={tmp_path}/run/final", found[1]] and found[1] != fresh[1]
    for options in (["--weights", "base"], [f"model.path={tmp_path}/model"]):
        assert temper("eval", config, holdout, *options).stdout.splitlines() == fresh
    flip_byte(next(newest.glob("*.safetensors")), -1)
    assert_refused(temper("eval", config, holdout), CHECKPOINT, "safetensors was altered")
    done = temper("eval", config, holdout, f"run.folder={tmp_path}/none", "--weights", "newest")
    assert_refused(done, CHECKPOINT, "none has no checkpoint", "choose --weights base")


def test_a_prompt_that_cannot_be_continued_is_a_command_line_that_is_wrong(tmp_path):
    model = tiny_run.write_model(tmp_path / "model")
    done = temper("generate", model, "--prompts", "1,64", "--max-new-tokens", 2)
    assert_refused(done, CONFIGURATION, "prompt token 64 is not in the vocabulary of 64")
    done = temper("generate", model, "--prompts", "1,2", "--weights", "final")
    assert_refused(done, CONFIGURATION, "--weights has no effect: ", "is a model's folder")


def test_settings_of_generation_that_are_not_applied_are_told(tmp_path):
    model = tiny_run.write_model(tmp_path / "model")
    keys = {"do_sample": True, "temperature": 0.6, "num_beams": 1, "max_length": 9, "new one": 1}
    (model / "generation_config.json").write_text(json.dumps(keys))
    done = temper("generate", model, "--prompts", "1,2", "--max-new-tokens", 2)
    assert done.returncode == 0, done
    told = f"{model}/generation_config.json asks for do_sample true, temperature 0.6, which is not"
    assert told in done.stdout + done.stderr, done
    assert "has keys that are not known here: new one" in done.stdout + done.stderr, done


# export


@pytest.mark.parametrize("source", ["run", "run/checkpoints/step-00000002"])
def test_export_copies_the_model(tmp_path, source):
    checkpoint = tiny_run.write_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000002")
    done = temper("export", tmp_path / source, tmp_path / "out/")
    assert done.returncode == 0, done
    assert f"exported={checkpoint} step=2 dtype=F32 " in done.stdout
    model = checkpoint / "model"
    names = sorted(path.name for path in model.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        if name != "model.safetensors":
            assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()
    expected = load_file(model / "model.safetensors")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert list(found) == list(expected)
    assert all((found[name] == expected[name]).all() for name in expected)
    assert temper("inspect", tmp_path / "out").returncode == 0


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_export_quantises(tmp_path, kind):
    checkpoint = tiny_run.write_checkpoint(tmp_path / "step-00000002")
    done = temper("export", checkpoint, tmp_path / "out", "--quantize", kind)
    assert done.returncode == 0, done
    assert f" dtype={kind.upper()} " in done.stdout
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["bnb_4bit_quant_type"] == kind and config["bnb_4bit_use_double_quant"] is True
    matrix = "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert f"{matrix}.quant_state.bitsandbytes__{kind}" in tensors
    assert tensors[matrix].dtype == "uint8"
    done = temper("inspect", tmp_path / "out")
    assert f"quantised={kind}, double" in done.stdout.splitlines(), done


def test_export_refuses_altered_weights_and_leaves_nothing(tmp_path):
    checkpoint = tiny_run.write_checkpoint(tmp_path / "step-00000002")
    flip_byte(checkpoint / "model" / "model.safetensors", -1)
    done = temper("export", checkpoint, tmp_path / "out")
    assert_refused(done, CHECKPOINT, "model.safetensors was altered: bytes [0, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002"]


@pytest.mark.parametrize("damage", ["altered", "short", "without a file"])
def test_export_of_a_run_names_what_it_passes_over_whatever_the_damage(tmp_path, damage):
    folder = tmp_path / "run" / "checkpoints"
    older, newer = (tiny_run.write_checkpoint(folder / f"step-{k:08d}", step=k) for k in (2, 3))
    weights = newer / "model" / "model.safetensors"
    if damage == "altered":
        flip_byte(weights, -1)
    else:
        weights.write_bytes(weights.read_bytes()[:-1])
        if damage == "without a file":
            weights.unlink()
    done = temper("export", tmp_path / "run", tmp_path / "out")
    assert done.returncode == 0, done
    assert f"exported={older} step=2 " in done.stdout
    assert f'checkpoint passed_over={newer} reason="{weights} ' in done.stderr
    assert_refused(temper("export", newer, tmp_path / "out2"), CHECKPOINT, str(weights))


def test_export_names_what_writes_gguf(tmp_path):
    done = temper("export", "a run", tmp_path / "out", "--gguf", "q8_0")
    assert_refused(done, CONFIGURATION, "temper itself writes no GGUF")
    assert f"run launch/export-gguf 'a run' {tmp_path}/out --type q8_0" in done.stderr


def test_export_overwrites_nothing(tmp_path):
    checkpoint = tiny_run.write_checkpoint(tmp_path / "step-00000002")
    (tmp_path / "out").mkdir()
    done = temper("export", checkpoint, tmp_path / "out")
    assert_refused(done, CONFIGURATION, "out' exists already")


def test_export_names_a_folder_that_cannot_be_made(tmp_path):
    checkpoint = tiny_run.write_checkpoint(tmp_path / "step-00000002")
    (tmp_path / "file").write_text("in place of a folder")
    done = temper("export", checkpoint, tmp_path / "file" / "out")
    assert_refused(done, CHECKPOINT, f"cannot make the folder {tmp_path}/file/out.tmp: Not a dir")


def test_export_needs_a_checkpoint(tmp_path):
    done = temper("export", tmp_path, tmp_path / "out")
    assert_refused(done, CHECKPOINT, "is no checkpoint, and no run that has one")


def test_turns_that_end_otherwise_are_told_of_and_end_the_result(tmp_path):
    """The shard says what its turns end with; the model ends its texts with token 0."""
    config = tiny_run.write_run(tmp_path)
    prepare_conversations(tmp_path)
    told = "turns in the data end with token 7, and the model's texts with 0"
    for verb in ("check", "train"):
        done = temper(verb, config)
        assert done.returncode == 0 and told in done.stdout + done.stderr, done
        assert "set model.end_of_turn to add" in done.stdout + done.stderr
    final = tmp_path / "run/final"
    assert not (final / "generation_config.json").exists()
    done = temper("export", tmp_path / "run", tmp_path / "told")
    assert told in done.stderr and "export with --end-of-turn add" in done.stderr, done
    done = temper("export", tmp_path / "run", tmp_path / "ends", "--end-of-turn", "add")
    assert done.returncode == 0 and told not in done.stderr, done
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "ends" / name).read_text())["eos_token_id"] == [0, 7]

    add = ["model.end_of_turn=add", f"run.folder={tmp_path / 'added'}"]
    for verb in ("check", "train"):
        done = temper(verb, config, *add)
        assert done.returncode == 0 and told not in done.stdout + done.stderr, done
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "added/final" / name).read_text())["eos_token_id"] == [0, 7]
    for path, lengths in ((final, {12}), (tmp_path / "added/final", {1})):
        set_logits(path, favourite=7)
        done = temper("generate", path, "--prompts", "3", "--max-new-tokens", 12)
        assert done.returncode == 0 and len(done.stdout.split(",")) in lengths, done
    done = temper("check", config, *add, "method=lora")
    assert_refused(done, CONFIGURATION, "model.end_of_turn is add, but an adapter has the end")


def prepare_conversations(folder: Path) -> None:
    """Puts a shard in the place of the run's by prepare.py itself: turns end with token 7."""
    words = ["<eos>", "<unk>", *(f"w{i}" for i in range(2, tiny_run.VOCAB))]
    words[7] = "<end>"
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<eos>", "<end>"])
    model = folder / "model"
    tokenizer.save(str(model / "tokenizer.json"))
    (model / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    (model / "chat_template.jinja").write_text(
        "{% for message in messages %}w3 {{ message.content }} <end> {% endfor %}"
        "{% if add_generation_prompt %}w3 {% endif %}"
    )
    for number in range(40):
        turns = [("user", f"w{8 + number}"), ("assistant", "w4 w5")]
        messages = [{"role": role, "content": content} for role, content in turns]
        with open(folder / "chats.jsonl", "a") as file:
            file.write(json.dumps({"messages": messages}) + "\n")
    (folder / "recipe.yaml").write_text(
        f"kind: sft\nmodel: {model}\noutput: {folder}\nworkers: 1\n"
        f"sources: [{{path: {folder}/chats.jsonl}}]\n"
    )
    (folder / "train.h5").unlink()
    command = [sys.executable, tiny_run.ROOT / "datasets/prepare.py", folder / "recipe.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "is no end token of the model (its own: '<eos>'" in done.stdout


def set_logits(model: Path, favourite: int) -> None:
    """Makes one token the likeliest after any other: the blocks add nothing, and only the first
    number of an embedding counts."""
    for path in model.glob("*.safetensors"):
        weights = {name: weight.copy() for name, weight in load_file(path).items()}
        path.unlink()  # It is a link to the checkpoint's file.
        for name, weight in weights.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[:] = 0
            elif name == "model.norm.weight":
                weight[:] = [1] + [0] * (len(weight) - 1)
            elif name == "model.embed_tokens.weight":
                weight[:, 0] = 1
                weight[favourite, 0] = 2
        save_file(weights, path, metadata={"format": "pt"})
