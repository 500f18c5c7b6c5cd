#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning, in-context examples and retrieval on one question set, as a table and a page.

    compare.py CONFIG [key=value ...]   trains and asks what is not done yet
    compare.py --votes KEY FILE...      what people chose on the page blind.html

configs/compare/manual.yaml is a commented CONFIG.
Writes into the folder that CONFIG names: compare.html, table.md, findings.txt, and, if asked for,
blind.html with blind-key.json. Arms that are finished are not done again.
"""

import argparse
import sys
from pathlib import Path

from temper_compare.blind_page import make_blind
from temper_compare.compare_page import make_page
from temper_compare.comparison import Comparison
from temper_compare.findings import write_findings
from temper_compare.options import load_options
from temper_compare.text_table import make_text_table
from temper_compare.votes import describe_votes, read_votes
from temper_data.atomic_file import write_text
from temper_data.errors import DataError
from temper_data.json_text import write_json


def compare(config: Path, assignments: list[str]) -> None:
    """Raises DataError."""
    compared = Comparison(load_options(config, assignments)).run()
    folder = compared.options.folder
    table = make_text_table(compared.rows)
    said = [f"{title}. {' '.join(sentences)}" for title, sentences in write_findings(compared.rows)]
    write_text(folder / "table.md", table)
    write_text(folder / "findings.txt", "\n".join(said) + "\n")
    write_text(folder / "compare.html", make_page(compared))
    print(table)
    print("\n".join(said))
    print(f"\npage: {folder / 'compare.html'}")
    if compared.options.blind.arms:
        page, key = make_blind(compared)
        write_text(folder / "blind.html", page)
        write_json(folder / "blind-key.json", key)
        print(f"blind: {folder / 'blind.html'}, to be judged with launch/compare --votes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="YAML, see configs/compare/manual.yaml; or a key")
    parser.add_argument("others", nargs="*", metavar="key=value", help="overrides; or votes")
    parser.add_argument("--votes", action="store_true", help="judge KEY FILE... of the blind page")
    arguments = parser.parse_intermixed_args()
    try:
        if arguments.votes:
            votes = read_votes(arguments.config, list(map(Path, arguments.others)))
            print("\n".join(describe_votes(votes)))
        else:
            compare(arguments.config, arguments.others)
    except (DataError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: interrupted; what is finished is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
