# SPDX-License-Identifier: Apache-2.0
"""temper schema, by jsonschema: it accepts and refuses what temper check does of each key alone.

Every key of the schema is given wrong types, values at and beyond its bounds, and texts; one run of
check tells of forty keys at once. And the pages made of the same table are current.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
# As many problems as check prints, less those that others bring along.
AT_ONCE = 30
TEXTS = ["", "a", "lora", "~/a", "a$b", "a b", "a/b", "a.b", "a-b_C1", "a\tb", "é", 5, True]
BASE = {"run": {"folder": "f"}, "model": {"path": "m"}}


class Yaml12(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it: 2e-5 is a number, yes is a text."""


Yaml12.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"^(null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def temper(*arguments):
    return subprocess.run([os.environ["TEMPER_BINARY"], *arguments], capture_output=True, text=True)


SCHEMA = json.loads(temper("schema").stdout)
VALIDATOR = Draft202012Validator(SCHEMA)


def keys_of(schema, path=()):
    """Yields (path, schema) of every key that is no section; 0 stands for a list's item."""
    for name, one in schema["properties"].items():
        below = one.get("items", one)
        if "properties" in below:
            yield from keys_of(below, (*path, name, 0) if "items" in one else (*path, name))
        else:
            yield (*path, name), one


KEYS = dict(keys_of(SCHEMA))
# A list of several is asked about by one alone.
VALUES = {path: one["anyOf"][0] if "anyOf" in one else one for path, one in KEYS.items()}


def name_of(path):
    return "".join(f"[{part}]" if part == 0 else f".{part}" for part in path)[1:]


def document_of(values):
    """{("data", "train", 0, "path"): "x"} as a nested document over the base."""
    document = json.loads(json.dumps(BASE))
    for path, value in values.items():
        place = document
        for part, after in zip(path, path[1:]):
            if part == 0:
                place = place[0] if place else (place.append({}), place[0])[1]
            else:
                place = place.setdefault(part, [] if after == 0 else {})
        place[path[-1]] = value
    return document


def refused_by_schema(document):
    names = set()
    for error in VALIDATOR.iter_errors(document):
        path = name_of(tuple(error.absolute_path))
        if error.validator == "additionalProperties":
            path = f"{path}.unknown".lstrip(".")
        names.add(path)
    return names


def refused_by_check(document):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(json.dumps(document))
        file.flush()
        done = temper("check", file.name)
    assert done.returncode == 11, done
    return set(re.findall(r": (\S+) \((?:line \d+)\) (?:is|has no value)", done.stderr))


class Schema(unittest.TestCase):
    def compare(self, cases, are_refused=None):
        """`cases` are (path, value); both refuse the same ones, or all or none as it is said."""
        for at in range(0, len(cases), AT_ONCE):
            some = dict(cases[at : at + AT_ONCE])
            document = document_of(some)
            names = {name_of(path) for path in some}
            by_schema = refused_by_schema(document) & names
            self.assertEqual(by_schema, refused_by_check(document) & names, some)
            if are_refused is not None:
                self.assertEqual(by_schema, names if are_refused else set(), some)

    def test_it_is_a_schema_and_has_every_key(self):
        Draft202012Validator.check_schema(SCHEMA)
        printed = temper("options").stdout
        for path in KEYS:
            self.assertRegex(printed, rf"(?m)^{re.escape(name_of(path)).replace('0', '')}[ =]")

    def test_it_accepts_every_example(self):
        examples = [*CONFIGS.glob("*.yaml"), *CONFIGS.glob("recipes/*.yaml")]
        self.assertGreater(len(examples), 15)
        for path in examples:
            text = path.read_text()
            self.assertEqual([*VALIDATOR.iter_errors(yaml.load(text, Yaml12))], [], path)
            named = re.search(r"(?m)^# yaml-language-server: \$schema=(\S+)$", text)[1]
            self.assertEqual((path.parent / named).resolve(), CONFIGS / "temper.schema.json")

    def test_it_accepts_every_key_with_its_default(self):
        printed = temper("check", str(CONFIGS / "quickstart-sft-lora.yaml"), "--print-config")
        self.assertEqual([*VALIDATOR.iter_errors(yaml.load(printed.stdout, Yaml12))], [])

    def test_both_refuse_wrong_types(self):
        for value in ({"a": 1}, None, [[1]]):
            self.compare([(path, value) for path in KEYS], True)
        plain = [path for path, one in VALUES.items() if one.get("type") in ("integer", "number")]
        for value in ("8", True):
            self.compare([(path, value) for path in plain], True)
        self.compare([(path, 1.5) for path, one in VALUES.items() if one.get("type") == "integer"],
                     True)
        self.compare([(path, "true") for path, one in VALUES.items()
                      if one.get("type") == "boolean"], True)

    def test_both_have_the_same_bounds(self):
        inside, outside = [], []
        for path, one in VALUES.items():
            step = 1 if one.get("type") == "integer" else 1e-6
            for word, sign in (("inimum", -1), ("aximum", 1)):
                for bound, is_open in ((one.get("m" + word), False),
                                       (one.get("exclusiveM" + word), True)):
                    if bound is None:
                        continue
                    far = bound + sign * step * max(1, abs(bound)) if step < 1 else bound + sign
                    (outside if is_open else inside).append((path, bound))
                    outside.append((path, far))
        self.assertGreater(len(outside), 80)
        for cases, are_refused in ((inside, False), (outside, True)):
            # A key has two bounds, and a document one value.
            self.compare(cases[::2], are_refused)
            self.compare(cases[1::2], are_refused)

    def test_both_accept_the_same_texts(self):
        texts = [path for path, one in VALUES.items() if "enum" in one or "string" in one["type"]]
        for text in TEXTS:
            self.compare([(path, text) for path in texts])

    def test_both_refuse_unknown_keys_everywhere(self):
        sections = {path[:end] for path in KEYS for end in range(len(path)) if path[end] != 0}
        self.compare([((*path, "unknown"), 1) for path in sections], True)

    def test_both_want_what_has_no_default(self):
        errors = VALIDATOR.iter_errors({"data": {"train": [{}]}})
        self.assertEqual(len([*errors]), 3)  # run, model and the path of a source.
        self.assertEqual([*VALIDATOR.iter_errors({**BASE, "train": None})], [])

    def test_what_is_made_of_the_table_is_current(self):
        for file, command in (("temper.schema.json", ["schema"]),
                              ("README.md", ["options", "--markdown"])):
            self.assertEqual((CONFIGS / file).read_text(), temper(*command).stdout,
                             f"build/release/temper {' '.join(command)} > configs/{file}")

    def test_options_of_one_section_or_key(self):
        self.assertEqual(temper("options", "train.max_steps").stdout,
                         "train.max_steps=0\n  integer: a whole number, 0 or more (steps)\n"
                         "  The run's optimizer steps; 0 where epochs says it.\n")
        self.assertIn("\ndata.train[].path (required)\n", temper("options", "data").stdout)
        self.assertEqual(temper("options", "data.train").stdout.count("data.train[]"), 5)
        done = temper("options", "trian")
        self.assertEqual(done.returncode, 11)
        self.assertIn("there is no option 'trian'\n  try: train; one of: run, model", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
