# SPDX-License-Identifier: Apache-2.0
"""Warnings of common mistakes, recipes, and the sweep of learning rates."""

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tiny_run  # noqa: E402
from tiny_run import assert_refused, temper  # noqa: E402

from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

CONFIGURATION = 11
TEMPLATE = "{{ messages }}"
RECIPES = sorted((tiny_run.ROOT / "configs" / "recipes").glob("*.yaml"))


def write_conversations(path: Path, length: int = 20, share: float = 0.5, end: int = 0) -> Path:
    """40 conversations whose last token is `end`; the last `share` of each is trained."""
    tokens = np.random.default_rng(2).integers(1, tiny_run.VOCAB, 40 * length)
    tokens[length - 1 :: length] = end
    mask = np.tile(np.arange(length) >= max(1, round((1 - share) * length)), 40).astype(np.uint8)
    digest = hashlib.sha256(tiny_run.TOKENIZER).hexdigest()
    with ShardWriter(path, ShardIdentity("sft", tiny_run.VOCAB, digest, TEMPLATE, 0)) as writer:
        writer.append(tokens, np.full(40, length), mask)
        writer.publish("{}")
    return path


def warnings_of(config: Path, *overrides) -> dict[str, str]:
    """What `check` warns of, by name."""
    done = temper("check", config, *overrides)
    assert done.returncode == 0 and done.stdout.endswith("\nok\n"), done
    lines = [line.removeprefix("warning     ") for line in done.stdout.splitlines()
             if line.startswith("warning ")]  # fmt: skip
    return {line.split(":")[0]: line for line in lines}


@pytest.mark.parametrize(
    ("name", "override", "figure"),
    [
        ("learning_rate", "optimizer.learning_rate=0.01", "is 0.01, above 0.0003 for method full"),
        ("epochs", "train.max_steps=40", "is passed over 25.6 times, more than 4"),
        ("no_holdout", "data.holdout=[]", "data.holdout is empty"),
        ("batch_tokens", "data.global_batch=15", "of 15 rows holds 480 tokens, not 512 to"),
    ],
)
def test_each_warning_is_given_and_silenced(tmp_path, name, override, figure):
    config = tiny_run.write_run(tmp_path)
    held = tiny_run.write_shard(tmp_path / "held.h5", num_documents=10)
    sound = [f"data.holdout=[{{name: h, path: {held}}}]", "data.global_batch=16", "silence=[]"]
    assert warnings_of(config, *sound) == {}
    others = [one for one in sound if one.split("=")[0] != override.split("=")[0]]
    given = warnings_of(config, *others, override)
    assert list(given) == [name] and figure in given[name], given
    assert given[name].endswith(f" (silence: [{name}])")
    assert warnings_of(config, *others[:-1], override, f"silence=[{name}]") == {}


@pytest.mark.parametrize(
    ("name", "shard", "overrides", "figure"),
    [
        ("loss_on_input", {"share": 1.0}, [], "100 % of the tokens of"),
        ("no_end", {"end": 7}, [], "ends a turn in 0 of the first 40 conversations"),
        ("truncation", {"length": 40}, ["silence=[no_end]"], "of 32 cuts 40 of the 40"),
        ("batch_examples", {}, ["data.global_batch=2"], "of 2 rows holds about 2 conversations"),
        ("template", {}, ["data.chat_template=any", "template"], "was rendered by"),
    ],
)
def test_conversations_are_looked_at(tmp_path, name, shard, overrides, figure):
    config = tiny_run.write_run(tmp_path)
    shard = write_conversations(tmp_path / "chat.h5", **shard)
    held = tiny_run.write_shard(tmp_path / "held.h5", num_documents=10)
    base = [f"data.train=[{{path: {shard}}}]", f"data.holdout=[{{name: h, path: {held}}}]"]
    if "template" in overrides:
        overrides.remove("template")
        (tmp_path / "model" / "chat_template.jinja").write_text("another one")
    silence = [] if any(one.startswith("silence") for one in overrides) else ["silence=[]"]
    given = warnings_of(config, *base, *overrides, *silence)
    assert list(given) == [name] and figure in given[name], given


def test_sound_conversations_raise_no_warning(tmp_path):
    config = tiny_run.write_run(tmp_path)
    write_conversations(tmp_path / "train.h5")
    assert warnings_of(config, "silence=[no_holdout]") == {}


def test_copies_that_preparation_kept_are_told_of(tmp_path):
    config = tiny_run.write_run(tmp_path)
    for keeps in (True, False):
        (tmp_path / "train.h5").unlink()
        origin = json.dumps({"recipe": {"deduplicate": not keeps}})
        tiny_run.write_shard(tmp_path / "train.h5", origin=origin)
        assert list(warnings_of(config)) == ["duplicates"] * keeps


def test_an_unknown_name_is_refused(tmp_path):
    done = temper("check", tiny_run.write_run(tmp_path), "silence=[learning_rat]")
    assert_refused(done, CONFIGURATION, "silence", "learning_rat", "one of: learning_rate, epochs")


def test_a_run_gives_the_same_warnings(tmp_path):
    config = tiny_run.write_run(tmp_path)
    done = temper("train", config, "optimizer.learning_rate=0.01", "silence=[batch_tokens]")
    told = [line for line in done.stderr.splitlines() if " warning=" in line]
    assert done.returncode == 0 and len(told) == 2, done
    assert 'warning="learning_rate: optimizer.learning_rate is 0.01' in told[0]
    assert 'warning="no_holdout: ' in told[1]


def test_a_run_tells_of_a_hold_out_that_rises_unless_silenced(tmp_path):
    config = tiny_run.write_run(tmp_path)
    held = tiny_run.write_shard(tmp_path / "held.h5", num_documents=200)  # 160 are new.
    rising = [f"data.holdout=[{{name: h, path: {held}}}]", "train.evaluate_every_steps=10",
              "train.max_steps=100", "optimizer.learning_rate=0.05"]  # fmt: skip
    for more in ("", ", rising_holdout"):
        silence = f"silence=[batch_tokens, learning_rate, epochs{more}]"
        done = temper("train", config, *rising, silence, f"run.folder={tmp_path}/r{len(more)}")
        told = [line for line in done.stderr.splitlines() if " warning=" in line]
        assert done.returncode == 0 and len(told) == (not more), done
        for line in told:
            assert 'warning="rising_holdout: the loss on the hold-out h rises: ' in line
            assert line.endswith(' (silence: [rising_holdout])"')


# Recipes.


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.stem for path in RECIPES])
def test_check_accepts_each_recipe(tmp_path, recipe):
    """On other data: it names those of the quickstart."""
    tiny_run.write_model(tmp_path / "model")
    train = write_conversations(tmp_path / "train.h5")
    other = tiny_run.write_shard(tmp_path / "other.h5", num_documents=30)
    held = tiny_run.write_shard(tmp_path / "held.h5", num_documents=10)
    text = recipe.read_text().replace("runs/recipes/", f"{tmp_path}/runs/")
    for side, path in (("shards/sft/train", train), ("shards/cpt/train", other),
                       ("shards/general/train", tiny_run.write_shard(tmp_path / "more.h5"))):
        text = text.replace(f"runs/quickstart/{side}.h5", str(path))
    lines = [line for line in text.splitlines() if "path: runs/" not in line or "holdout" in line]
    text = "\n".join(lines).replace("model:\n", f"model:\n  path: {tmp_path}/model\n", 1)
    for side in ("sft", "cpt", "general"):
        text = text.replace(f"runs/quickstart/shards/{side}/holdout.h5", str(held))
    if recipe.stem == "domain-2-sft":
        text = text.replace(f"  path: {tmp_path}/runs/domain-1-pretraining/final\n", "")
    (tmp_path / "recipe.yaml").write_text(text)
    done = temper("check", tmp_path / "recipe.yaml", "data.sequence_length=32")
    assert done.returncode == 0, (done, text)


@pytest.mark.parametrize(("kind", "method"), [("sft", "lora"), ("pretrain", "full")])
def test_a_proposed_recipe_is_one_that_check_accepts(tmp_path, kind, method):
    model = tiny_run.write_model(tmp_path / "model")
    write = write_conversations if kind == "sft" else tiny_run.write_shard
    shard = write(tmp_path / "train.h5")
    tiny_run.write_shard(tmp_path / "holdout.h5", num_documents=10)
    output = tmp_path / "it's a recipe.yaml"
    done = temper("recipe", shard, model, "--ranks", 2, "--output", output, cwd=tmp_path)
    assert done.returncode == 0, done
    assert f"choice      {method}: the best for data of this kind and size" in done.stdout
    assert "GFLOP/s" in done.stdout and "holdout.h5" in done.stdout
    checked = temper("check", output, "--ranks", 2, cwd=tmp_path)
    assert checked.returncode == 0, (checked, output.read_text())
    again = temper("recipe", shard, model, "--output", output, cwd=tmp_path)
    assert_refused(again, CONFIGURATION, "is there already")
    short = temper("recipe", shard, model, "--memory", 0.01, "--output", "new.yaml", cwd=tmp_path)
    assert_refused(short, CONFIGURATION, "no method fits", "a rank has 10.0 MB")
    assert not (tmp_path / "new.yaml").exists()
    done = temper("recipe", shard, model, "--time", 1e-9, "--output", "new.yaml", cwd=tmp_path)
    assert "1 steps, less than one pass" in done.stdout, done
    checked = temper("check", "new.yaml", cwd=tmp_path)
    assert checked.returncode == 0, (checked, (tmp_path / "new.yaml").read_text())


# The sweep.


def test_a_sweep_proposes_a_rate_and_leaves_nothing(tmp_path):
    config = tiny_run.write_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    options = ["--steps", 30, "--from", 1e-4, "--to", 10, "--svg", tmp_path / "rates.svg"]
    done = temper("find-rate", config, "train.threads=1", *options)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    rates = [float(line.split()[0].removeprefix("rate=")) for line in lines[:-1]]
    factors = [b / a for a, b in zip(rates, rates[1:], strict=False)]
    assert rates[0] == 1e-4 and max(factors) == pytest.approx(min(factors), rel=1e-4)
    assert lines[-1].startswith("proposal: optimizer.learning_rate="), done.stdout
    assert (tmp_path / "rates.svg").read_text().startswith("<svg ")
    (tmp_path / "rates.svg").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    refused = temper("find-rate", config, "--from", 1, "--to", 0.1)
    assert_refused(refused, CONFIGURATION, "--from is 1, and --to 0.1")
