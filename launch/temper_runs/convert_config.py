# SPDX-License-Identifier: Apache-2.0
"""A configuration of Axolotl, LLaMA-Factory or TRL, as YAML or JSON, in temper's keys.

Prints what became of each key, and writes two files: the configuration, and beside it the recipe
from which datasets/prepare.py makes its shards. A key that has no counterpart is named with the
reason; nothing is left out in silence.
"""

import argparse
import sys
from pathlib import Path

from temper_data.atomic_file import write_text
from temper_data.errors import DataError, printable

from .convert.tables import TABLES
from .convert.translate import read_source, recognise, to_yaml, translate, write_config
from .convert.translation import Translation


def describe(made: Translation) -> list[str]:
    """What became of each key, line by line."""
    lines = [f"{key}: {printable(why)}" for key, why in made.left.items()]
    return [
        *(f"translated      {printable(key)} -> {ours}" for key, ours in made.done.items()),
        *(f"not translated  {printable(line)}" for line in lines),
        *(f"to do           {printable(note)}" for note in made.notes),
    ]


def convert(arguments: argparse.Namespace) -> None:
    """Raises DataError or OSError."""
    path = arguments.file
    source = read_source(path)
    kind = arguments.kind or recognise(path, source)
    made = translate(source, kind, path.parent, arguments.devices)
    output = arguments.output or path.with_name(f"{path.stem}.temper.yaml")
    recipe = output.with_name(f"{output.stem}-data.yaml")
    for file in (output, recipe):
        if file.exists() and not arguments.force:
            raise DataError(f"{printable(str(file))} is there already", "add --force, or name -o")
    head = f"# From {printable(path.name)} of {kind}.\n"
    left = "".join(
        f"# not translated: {key}: {printable(str(why))}\n" for key, why in made.left.items()
    )
    write_text(output, f"{head}{left}{write_config(made)}")
    write_text(recipe, f"{head}{to_yaml(made.recipe)}")
    print("\n".join(describe(made)))
    print(f"\n{printable(str(output))} and {printable(str(recipe))} written; next:")
    print(f"  datasets/prepare.py {printable(str(recipe))} --dry-run")
    print(f"  temper check {printable(str(output))}")


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="convert-config", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", type=Path, metavar="FILE", help="their configuration")
    parser.add_argument("-o", dest="output", type=Path, metavar="CONFIG",
                        help="FILE's name with .temper.yaml if not given")  # fmt: skip
    parser.add_argument("--from", dest="kind", choices=sorted(TABLES), help="else it is recognised")
    parser.add_argument("--devices", type=int, default=1, metavar="N",
                        help="that theirs ran on; their batch is per device (1)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write over what is there")
    arguments = parser.parse_args(words)
    if arguments.devices < 1:
        parser.error("--devices must be 1 or more")
    return arguments


def main(words: list[str]) -> int:
    try:
        convert(parse_arguments(words))
    except DataError as error:
        print(f"convert-config: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"convert-config: {error}\n  try: check disk space and permissions", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
