# SPDX-License-Identifier: Apache-2.0
"""Warnings of common mistakes."""

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

