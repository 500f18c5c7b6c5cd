#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a model folder with new tokens: in its tokenizer, its embedding and its head.

    add_tokens.py MODEL DESTINATION --token '<|tool|>' [--token ...] [--tokens-file FILE] [--plain]

The new folder appears whole or not at all; MODEL is left as it is. Prepare shards with the new one.
"""

import argparse
import math
import os
import shutil
import sys
from pathlib import Path

from temper_data.added_tokens import extend_tokenizer, write_tokenizer
from temper_data.atomic_file import published_folder
from temper_data.errors import DataError, printable
from temper_data.json_text import write_json
from temper_data.model_tokenizer import ModelTokenizer, load_model_tokenizer, read_json
from temper_data.token_rows import Growth, read_entry, read_header, write_with_rows

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
MATRICES = (EMBEDDING, HEAD, "lm_head.bias")  # those of them that the folder has
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_PADDING = 128  # rows stay a multiple of what they are one of, up to this power of two
TEMPLATES = "additional_chat_templates"
OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot",
                 ".bin.index.json", ".safetensors.index.json")  # fmt: skip


def find_weights(folder: Path) -> dict[str, str]:
    """The file of each tensor, by name, as transformers and temper find it. Raises DataError."""
    if (folder / SINGLE).exists():
        header, _ = read_header(folder / SINGLE)
        return {name: SINGLE for name in header if name != "__metadata__"}
    files = read_json(folder / INDEX).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise DataError(
            f"{folder} has neither {SINGLE} nor an index of such files",
            "name a Hugging Face model folder with weights as safetensors",
        )
    for name in sorted({str(name) for name in files.values()}):
        if Path(name).name != name or not (folder / name).is_file():
            raise DataError(
                f"{folder}/{INDEX} names {name!r}, which is not in the folder",
                "copy the model folder again",
            )
    return files


def count_rows(folder: Path, weights: dict[str, str]) -> int:
    """The rows that embedding, head and config.json agree on. Raises DataError."""
    config = read_json(folder / "config.json")
    if config.get("quantization_config"):
        raise DataError(
            f"{folder} is quantised", "add tokens to the model that it was made of, and quantise it"
        )
    # Some families' heads are tied where the file does not say so.
    is_tied = config.get("tie_word_embeddings", HEAD not in weights)
    wanted = [EMBEDDING] if is_tied else [EMBEDDING, HEAD]
    for name in wanted:
        if name not in weights:
            raise DataError(
                f"{folder} has no tensor {name}",
                "name a model of a family that temper trains",
            )
    rows = {"vocab_size in config.json": config.get("vocab_size")}
    for name in MATRICES:
        if name in weights:
            rows[name] = read_entry(folder / weights[name], name)["shape"][0]
    if len(set(rows.values())) > 1 or not rows[EMBEDDING]:
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise DataError(f"{folder} disagrees about its rows: {listed}", "copy the folder again")
    return rows[EMBEDDING]


def plan_rows(model: ModelTokenizer, folder: Path, entries: list[dict], rows: int) -> Growth:
    """Unused rows first; where they do not suffice, as many more as keep the multiple.

    `model` is the tokenizer without the tokens of `entries`. Raises DataError.
    """
    pieces = {
        entry["id"]: model.tokenizer.encode(entry["content"], add_special_tokens=False).ids
        for entry in entries
    }
    for entry in entries:
        ids = pieces[entry["id"]]
        if not ids or max(ids) >= rows:
            raise DataError(
                f"token {printable(repr(entry['content']))} has no mean to begin from: {folder} "
                f"cuts it into ids {ids}, and has {rows} rows",
                "choose another text",
            )
    multiple = math.gcd(rows, MOST_PADDING)
    total = max(rows, math.ceil((max(pieces) + 1) / multiple) * multiple)
    return Growth(start=min(rows, *pieces), total=total, pieces=pieces)


def write_weights(source: Path, folder: Path, weights: dict[str, str], growth: Growth) -> None:
    """Files without embedding and head are linked, or copied where links are not possible."""
    for file in sorted(set(weights.values())):
        names = {name for name in MATRICES if weights.get(name) == file}
        if names:
            write_with_rows(source / file, folder / file, names, growth)
            continue
        try:
            os.link((source / file).resolve(), folder / file)
        except OSError:
            shutil.copyfile(source / file, folder / file)
    config = read_json(source / "config.json") | {"vocab_size": growth.total}
    write_json(folder / "config.json", config, sort_keys=False)
    if SINGLE not in weights.values():
        write_index(source, folder, weights)


def write_index(source: Path, folder: Path, weights: dict[str, str]) -> None:
    """The index of `source` with the sums of what is in `folder`."""
    index = read_json(source / INDEX)
    sums = index.get("metadata", {})
    for name in MATRICES:
        if name in weights:
            old, new = (read_entry(place / weights[name], name) for place in (source, folder))
            grown = {
                "total_size": new["data_offsets"][1] - new["data_offsets"][0]
                - old["data_offsets"][1] + old["data_offsets"][0],
                "total_parameters": math.prod(new["shape"]) - math.prod(old["shape"]),
            }  # fmt: skip
            sums |= {key: sums[key] + grown[key] for key in grown if key in sums}
    write_json(folder / INDEX, index, sort_keys=False)


def copy_others(source: Path, folder: Path) -> list[str]:
    """Copies what else belongs to the model. Returns the names of what is left out."""
    left_out = []
    for path in sorted(source.iterdir()):
        if (folder / path.name).exists():
            continue
        if path.name == TEMPLATES and path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path.is_file() and not path.name.startswith(".") and not is_other_weight(path):
            shutil.copyfile(path, folder / path.name)
        else:
            left_out.append(path.name)
    return left_out


def is_other_weight(path: Path) -> bool:
    """Whether a file is of another format or index than what is loaded, so with the old rows."""
    return path.name.endswith(OTHER_WEIGHTS)


def add_tokens(source: Path, folder: Path, tokens: list[str], is_special: bool) -> list[str]:
    """Makes `folder` and says what is in it. Raises DataError."""
    if folder.exists():
        raise DataError(f"{folder} exists", "remove the folder or choose another")
    model = load_model_tokenizer(source)
    weights = find_weights(source)
    rows = count_rows(source, weights)
    tokenizer, entries = extend_tokenizer(source, tokens, is_special)
    growth = plan_rows(model, source, entries, rows)
    with published_folder(folder) as new:
        write_tokenizer(source, new, tokenizer, entries)
        write_weights(source, new, weights, growth)
        left_out = copy_others(source, new)
    return [
        *(f"{entry['id']}  {printable(repr(entry['content']))}, the mean of "
          f"{len(growth.pieces[entry['id']])} pieces" for entry in entries),
        *describe_rows(rows, growth),
        *([f"left out: {', '.join(map(printable, left_out))}"] if left_out else []),
        f"{folder} written from {source}",
    ]  # fmt: skip


def describe_rows(rows: int, growth: Growth) -> list[str]:
    first = min(growth.pieces)
    lines = [f"rows: {rows} as before; the new tokens have some that no token had"]
    if growth.total > rows:
        multiple = math.gcd(rows, MOST_PADDING)
        lines = [f"rows: {rows} to {growth.total}, a multiple of {multiple} as before; those that "
                 "no token has are the mean of all old ones"]  # fmt: skip
    if growth.start < first:
        lines.append(f"ids {growth.start} to {first - 1} had no row, and have that mean")
    return lines


def read_tokens(path: Path) -> list[str]:
    """One token a line; blanks are part of it, empty lines are none. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}", "name a UTF-8 text file with a token a line") from error
    return [line for line in lines if line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="Hugging Face model folder, which stays as it is")
    parser.add_argument("destination", type=Path, help="model folder to create")
    parser.add_argument("--token", action="append", default=[], help="text of a new token")
    parser.add_argument("--tokens-file", type=Path, help="more of them, one a line")
    parser.add_argument("--plain", action="store_true", help="words instead of special tokens")
    arguments = parser.parse_args()
    try:
        more = read_tokens(arguments.tokens_file) if arguments.tokens_file else []
        destination = arguments.destination.absolute()
        tokens = [*arguments.token, *more]
        print(*add_tokens(arguments.model, destination, tokens, not arguments.plain), sep="\n")
    except (DataError, OSError) as error:
        print(f"add_tokens: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
