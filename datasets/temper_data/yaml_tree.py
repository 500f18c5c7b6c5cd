# SPDX-License-Identifier: Apache-2.0
"""Strict YAML: maps, lists and scalars as written, each with its line; nothing is guessed."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .errors import DataError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
PLAIN_TAGS |= {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "merge", "timestamp")}


@dataclass
class Scalar:
    """A leaf. `place` is `line N` or `command line`; `quoted` tells "1" from 1."""

    text: str
    place: str
    quoted: bool = False


@dataclass
class Listing:
    items: list = field(default_factory=list)
    place: str = ""


@dataclass
class Mapping:
    items: dict = field(default_factory=dict)
    place: str = ""


def read_tree(path: Path) -> Mapping:
    """The file's top-level map. Raises DataError naming file, line and column."""
    data = read_bounded(path)
    try:
        refuse_unsafe(path, data)
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {one_line(error)}", "correct that line")
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path} holds no keys", "write at least kind, model, output, sources")
    return convert(path, node)


def read_bounded(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "name an existing recipe") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES} bytes", "name a recipe, not data")
    return data


def refuse_unsafe(path: Path, data: bytes) -> None:
    """Reads events only, so that aliases, tags and deep nesting cost nothing."""
    depth = documents = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        where = f"{path}:{event.start_mark.line + 1}"
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise DataError(f"{where} uses an anchor or alias", "write the value out")
        if getattr(event, "tag", None) not in PLAIN_TAGS | {None, "!"}:
            raise DataError(f"{where} uses the tag {event.tag}", "remove the tag")
        if depth > MAX_DEPTH:
            raise DataError(f"{where} is nested deeper than {MAX_DEPTH}", "flatten the file")
        if documents > 1:
            raise DataError(f"{where} begins a second document", "keep one recipe per file")


def convert(path: Path, node: yaml.Node):
    """YAML nodes to Mapping, Listing and Scalar. Raises DataError for a key given twice."""
    place = f"line {node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        return Scalar(node.value, place, node.style in ("'", '"', "|", ">"))
    if isinstance(node, yaml.SequenceNode):
        return Listing([convert(path, item) for item in node.value], place)
    items = {}
    for key, value in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{where} has a key that is no plain word", "write `key: value`")
        if key.value in items:
            raise DataError(f"{where} gives {key.value} a second time", "keep one of the two")
        items[key.value] = convert(path, value)
    return Mapping(items, place)


def one_line(error: yaml.YAMLError) -> str:
    return re.sub(r"\s+", " ", str(error).replace('in "<byte string>", ', ""))


def override(tree: Mapping, assignment: str) -> None:
    """Applies `key.key=value` of the command line; list items by number. Raises DataError."""
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise DataError(f"{assignment!r} is not key=value", "write for instance workers=2")
    node = tree
    for key in keys[:-1]:
        node = child(node, key, assignment)
    place = "command line"
    if isinstance(node, Mapping):
        node.items[keys[-1]] = Scalar(text, place)
    elif isinstance(node, Listing) and keys[-1].isdigit() and int(keys[-1]) < len(node.items):
        node.items[int(keys[-1])] = Scalar(text, place)
    else:
        raise DataError(f"{assignment!r} does not fit the recipe", "name an existing entry")


def child(node, key: str, assignment: str):
    """The entry `key` below `node`; a missing map is made. Raises DataError."""
    if isinstance(node, Mapping):
        return node.items.setdefault(key, Mapping({}, "command line"))
    if isinstance(node, Listing) and key.isdigit() and int(key) < len(node.items):
        return node.items[int(key)]
    raise DataError(f"{assignment!r} does not fit the recipe", "name an existing entry")
