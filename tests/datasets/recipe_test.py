# SPDX-License-Identifier: Apache-2.0
"""Recipes: what is accepted, and the message for each thing that is not."""

import pytest
from conftest import ROOT

from temper_data.errors import DataError
from temper_data.recipe import find_files, load_recipe

GOOD = """\
kind: sft
model: m
output: o
sources:
  - path: a.jsonl
"""


def load(tmp_path, text, *assignments):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recipe(path, list(assignments))


def message(tmp_path, text, *assignments) -> str:
    with pytest.raises(DataError) as caught:
        load(tmp_path, text, *assignments)
    return str(caught.value)


def test_defaults_and_overrides(tmp_path):
    recipe = load(tmp_path, GOOD, "holdout.fraction=0.25", "sources.0.path=b.jsonl", "workers=3")
    assert recipe.sources[0].path == "b.jsonl" and recipe.sources[0].format == "auto"
    assert recipe.holdout_fraction == 0.25 and recipe.workers == 3 and recipe.deduplicate


@pytest.mark.parametrize("name", ["slurm-pages", "slurm-sft", "general", "balanced"])
def test_every_recipe_in_configs_is_valid(name):
    recipe = load_recipe(ROOT / "configs" / "data" / f"{name}.yaml", [])
    assert recipe.holdout_fraction > 0


def test_all_problems_are_reported_at_once_with_line_and_nearest_name(tmp_path):
    text = (
        "kind: chat\nmodel: m\nworker: 3\nsources:\n  - path: a\n    formt: x\n"
        "max_tokens: many\nholdout:\n  fraction: 1.5\ndeduplicate: yes\n"
    )
    found = message(tmp_path, text)
    for expected in [
        "recipe.yaml: 7 problems",
        "kind (line 1) is 'chat'\n  try: set it to one of: pretrain, sft",
        "output is missing",
        "worker (line 3) is not an option\n  try: did you mean workers?",
        "sources.0.formt (line 6) is not an option\n  try: did you mean format?",
        "max_tokens (line 7) is 'many'\n  try: set it to a whole number",
        "holdout.fraction (line 9) is '1.5'\n  try: set it to a number from 0 to 1",
        "deduplicate (line 10) is 'yes'\n  try: set it to true or false",
    ]:
        assert expected in found
    assert found.endswith("try: correct the recipe")


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ("max_tokens: 010\n", "is '010'"),
        ("max_tokens: 0x10\n", "is '0x10'"),
        ("max_tokens: 1e3\n", "is '1e3'"),
        ("max_tokens: 1_000\n", "is '1_000'"),
        ("max_tokens: -0\n", None),
        ("max_tokens: '5'\n", "is '5'"),
        ("max_tokens: 1\n", "leaves no token to predict"),
        ("max_tokens: [1]\n", "is a list or map"),
        ("holdout: {fraction: .nan}\n", "is '.nan'"),
        ("holdout: {fraction: 1e400}\n", "is '1e400'"),
        ("holdout: 0.1\n", "is '0.1'\n  try: set it to a map of keys"),
        ("date: 2024-02-30\n", "date (line 6) is '2024-02-30'\n  try: write it as YYYY-MM-DD"),
        ("too_long: split\n", "too_long (line 6) is split, which is for text"),
        ("train_on: first\n", "train_on (line 6) is 'first'\n  try: set it to one of: all, last"),
        ("reasoning: no\n", "set it to one of: as_rendered, keep, drop"),
        ("template_kwargs: {tools: 1}\n", "template_kwargs.tools (line 6) is set by the program"),
        ("template_kwargs: {a: 1e999}\n", "template_kwargs (line 6) holds"),
        ('template_kwargs: {a: "\\ud83d"}\n', "template_kwargs (line 6) holds"),
        ("chat_template: ''\n", "chat_template (line 6) is ''\n  try: set it to a path"),
        ("    columns: {mesages: x}\n", "columns.mesages (line 6) is not an option\n  try: did"),
        ("    columns: {messages: ''}\n", "columns.messages (line 6) is ''"),
        ("    columns: messages\n", "columns (line 6) is 'messages'\n  try: set it to a map"),
        ("    format: sharegpt\n    columns: {messages: x}\n", "columns.messages (line 7) is not"),
        ("    field: x\n    columns: {messages: x}\n", "field (line 6) names the column that"),
        ("    separator: x\n", "separator (line 6) is not an option"),
        ("eos_token: x\n", "eos_token (line 6) is for kind pretrain"),
        ("kind: sft\n", ":6 gives kind a second time"),
        ("system: &a x\n", ":6 uses an anchor or alias"),
        ("system: !!python/object:os.system x\n", ":6 uses the tag"),
        ("<<: {a: 1}\n", "<< (line 6) is not an option"),
        ("? [a, b]\n: 1\n", "has a key that is no plain word"),
        ("---\na: 1\n", "begins a second document"),
        ("system: 'open\n", "is not valid YAML"),
        ("\tsystem: x\n", "is not valid YAML"),
        ("system: " + "[" * 10_000 + "\n", "is nested deeper than 20"),
        ("workers: " + "9" * 5000 + "\n", "workers (line 6) is '99999"),
        ('system: "\\ud83d"\n', "system (line 6) is '\\ud83d'\n  try: set it to text of whole"),
        ('holdout: {salt: "\\ud83d"}\n', "holdout.salt (line 6) is '\\ud83d'"),
    ],
)
def test_odd_yaml(tmp_path, addition, says):
    if says is None:
        assert load(tmp_path, GOOD + addition).max_tokens == 0
    else:
        assert says in message(tmp_path, GOOD + addition)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "holds no keys"),
        (b"- a\n", "holds no keys"),
        (b"kind: \xff\n", "is not valid YAML"),
        (b"kind: \x00\n", "is not valid YAML"),
        (b"kind: pretrain\nmodel: m\noutput: o\n", "sources is missing"),
        (b"kind: pretrain\nmodel: m\noutput: o\nsources: []\n", "a list with at least one entry"),
        (b"kind: pretrain\nmodel: m\noutput: o\nsources: [a]\n", "sources.0 (line 4) is 'a'"),
        (b"# " + b"x" * (1 << 20), "is larger than 1048576 bytes"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, text, says):
    assert says in message(tmp_path, text)


def test_variables_of_the_template_have_the_values_that_yaml_writes(tmp_path):
    given = "{a: true, b: 'true', c: 3, d: -1.5, e: null, f: [x, {g: false}], h: 010, i: ~}"
    recipe = load(tmp_path, GOOD + f"template_kwargs: {given}\n", "template_kwargs.j=false")
    values = {"a": True, "b": "true", "c": 3, "d": -1.5, "e": None, "f": ["x", {"g": False}]}
    values |= {"h": "010", "i": None, "j": False}
    assert recipe.conversations.template_kwargs == values


def test_crlf_and_a_byte_order_mark_are_harmless(tmp_path):
    recipe = load(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert recipe.model == "m"


def test_rules_across_keys(tmp_path):
    text = "kind: pretrain\nmodel: m\noutput: o\nsystem: s\nsources:\n  - path: a.txt\n"
    assert "system (line 4) is for kind sft" in message(tmp_path, text)
    for key in ("train_on: all", "reasoning: drop", "template_kwargs: {a: 1}", "chat_template: x"):
        found = message(tmp_path, text + key + "\n")
        assert f"{key.split(':')[0]} (line 7) is for kind sft" in found
    assert "max_tokens allows any length" in message(tmp_path, text + "too_long: split\n")
    plain = text.replace("system: s\n", "") + "    format: text\n    columns: {text: x}\n"
    assert "columns (line 7) is for records, and plain text has none" in message(tmp_path, plain)
    text = text.replace("system: s\n", "holdout: {by: option}\n")
    found = message(tmp_path, text + "    format: text\n")
    assert "goes by a field, but plain text has none" in found
    assert "separator (line 7) is for text" in message(
        tmp_path, text + "    separator: x\n    field: y\n"
    )
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="goes by option, but .*a.txt is plain text"):
        find_files(load(tmp_path, text, f"sources.0.path={tmp_path}/a.txt"))


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("workers", "'workers' is not key=value"),
        ("sources.7.path=x", "does not fit the recipe"),
        ("model.name=x", "does not fit the recipe"),
        ("holdout.fractoin=0.1", "holdout.fractoin (command line) is not an option"),
        ("workers=many", "workers (command line) is 'many'"),
        ("holdout.salt=\udce9", "holdout.salt (command line) is '\\udce9'"),
        ("output=a\0b", "output (command line) is 'a\\x00b'\n  try: set it to a path"),
        ("model=", "model (command line) is ''\n  try: set it to a path"),
    ],
)
def test_overrides_that_do_not_fit(tmp_path, assignment, says):
    assert says in message(tmp_path, GOOD, assignment)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(DataError, match="none.yaml: No such file"):
        load_recipe(tmp_path / "none.yaml", [])


def test_files_are_found_in_a_fixed_order_and_only_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ["b.txt", "a.txt", "ä.txt", "Z.txt"]:
        (tmp_path / name).write_text("x")
    text = "kind: pretrain\nmodel: m\noutput: o\nsources:\n  - path: '*.txt'\n"
    names = [str(file.path) for file in find_files(load(tmp_path, text))[0]]
    assert names == ["Z.txt", "a.txt", "b.txt", "ä.txt"]
    with pytest.raises(DataError, match="a.txt is named by two sources"):
        find_files(load(tmp_path, text + "  - path: a.txt\n"))
    with pytest.raises(DataError, match=r"no file matches \*.none"):
        find_files(load(tmp_path, text, "sources.0.path=*.none"))
