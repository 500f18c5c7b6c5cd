#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model or a LoRA adapter as a GGUF file, for llama.cpp, Ollama and LM Studio.

    launch/export-gguf SOURCE FILE.gguf [--type f32|f16|bf16|q8_0|q4_0] [--base FOLDER]

SOURCE is a model folder, the folder of an adapter of peft, a checkpoint, or a run: its newest whole
checkpoint. Tokenizer and chat template go into the file. q8_0 and q4_0 keep vectors in float32, and
q4_0 embedding and head in q8_0. An adapter is written in float32; --base names its base where
adapter_config.json does not. What llama.cpp would compute otherwise is refused.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from gguf import GGUFWriter
from gguf.constants import MODEL_ARCH_NAMES
from temper_data.atomic_file import published
from temper_data.errors import DataError
from temper_data.temper_program import TEMPER
from temper_gguf.adapter import add_adapter, read_adapter_config
from temper_gguf.config import Config
from temper_gguf.families import Family, family_of
from temper_gguf.metadata import add_sizes, position_tensors
from temper_gguf.stop_notes import notes_on_stops
from temper_gguf.tensors import TYPES, data_of, plan_tensors, read_values, to_stored
from temper_gguf.tokenizer import add_tokenizer


def write_all(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()


def write_model(folder: Path, path: Path, type_name: str) -> None:
    """Holds one tensor at a time. Raises DataError."""
    config = Config.of(folder)
    family, types, weights = family_of(config), TYPES[type_name], data_of(folder)
    tensors = plan_tensors(weights, config, family, types)
    vocab_size = next(one.shape[0] for one in tensors if one.name == "token_embd.weight")
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[family.arch])
    try:
        writer.add_name(folder.resolve().name)
        writer.add_file_type(types.stated)
        writer.add_quantization_version(2)
        add_sizes(config, family, vocab_size, writer)
        add_tokenizer(folder, vocab_size, writer)
        positions = position_tensors(config)
        for name, values in positions.items():
            writer.add_tensor(name, values)
        for tensor in tensors:
            writer.add_tensor_info(tensor.name, tensor.shape, "float32", tensor.num_bytes,
                                   raw_dtype=tensor.kind)  # fmt: skip
        write_all(writer)
        writer.write_ti_data_to_file()
        for values in positions.values():
            writer.write_tensor_data(values)
        for index, tensor in enumerate(tensors):
            values = read_values(tensor, weights, config, family)
            writer.write_tensor_data(to_stored(values, tensor))
            show_progress(index + 1, len(tensors))
    finally:
        writer.close()


def show_progress(done: int, total: int) -> None:
    """On a terminal alone: a file has the line at the end."""
    if sys.stderr.isatty():
        print(f"\r\033[Kexport-gguf: {done} of {total} tensors", end="\n" if done == total else "",
              file=sys.stderr, flush=True)  # fmt: skip


def write_adapter(folder: Path, base: Path, path: Path) -> None:
    """Raises DataError."""
    config = Config.of(base)
    family: Family = family_of(config)
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[family.arch])
    try:
        writer.add_name(folder.resolve().name)
        add_adapter(folder, config, family, writer)
        write_all(writer)
        writer.write_tensors_to_file()
    finally:
        writer.close()


def base_of(folder: Path, named: Path | None) -> Path:
    """Raises DataError."""
    told = read_adapter_config(folder).get("base_model_name_or_path")
    base = named or Path(told or "")
    if not (base / "config.json").is_file():
        raise DataError(
            f"the base of the adapter, {str(base)!r}, is no model folder here", "name it by --base"
        )
    return base


def is_folder_of(path: Path) -> str:
    """ "model", "adapter", or "" for what temper export has to open."""
    if (path / "adapter_config.json").is_file():
        return "adapter"
    return "model" if (path / "config.json").is_file() else ""


def export(source: Path, path: Path, arguments: argparse.Namespace) -> None:
    """Raises DataError or OSError."""
    if path.exists():
        raise DataError(f"{path} exists", "name another file, or remove it")
    kind = is_folder_of(source)
    if not kind:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-gguf-") as scratch:
            folder = Path(scratch) / source.resolve().name
            open_checkpoint(source, folder)
            return export(folder, path, arguments)
    with published(path) as temporary:
        if kind == "adapter":
            write_adapter(source, base_of(source, arguments.base), temporary)
        else:
            for note in notes_on_stops(source):
                print(f"export-gguf: {note}", file=sys.stderr)
            write_model(source, temporary, arguments.type)
    shown = "f32" if kind == "adapter" else arguments.type
    print(f"exported={source} {kind}={shown} bytes={path.stat().st_size} to={path}")


def open_checkpoint(source: Path, folder: Path) -> None:
    """The model or adapter of a checkpoint or a run, verified. Raises DataError."""
    command = [TEMPER, "export", source, folder]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    sys.stderr.write(done.stderr if done.returncode == 0 else "")
    if done.returncode != 0:
        problem, _, remedy = done.stderr.strip().partition("\n  try: ")
        raise DataError(
            problem or f"temper export could not open {source}",
            remedy or "name a model folder, an adapter, a checkpoint or a run",
        )


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="export-gguf",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("path", type=Path, metavar="FILE.gguf")
    parser.add_argument("--type", choices=list(TYPES), default="f16", help="default: f16")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="of an adapter")
    arguments = parser.parse_args(words)
    try:
        export(arguments.source, arguments.path, arguments)
    except DataError as error:
        print(f"export-gguf: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"export-gguf: {error}\n  try: check disk space and permissions", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
