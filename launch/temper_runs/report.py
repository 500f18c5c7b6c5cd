# SPDX-License-Identifier: Apache-2.0
"""One page for the browser that shows how one or several runs went.

RUN is what run.folder says. The page needs no network and no other file; with --live it is written
again, and loads itself again, until every run has its result, or until this program is stopped.
"""

import argparse
import sys
import time
from pathlib import Path

from temper_data.atomic_file import write_text
from temper_data.errors import DataError, printable

from .page.document import make_page
from .page.picture import make_picture
from .run_folder import Run, name_apart, open_run

LIVE_SECONDS = 10
REST = 20  # times what a page takes, so that following a long run takes little of a login node


def open_runs(paths: list[Path]) -> list[Run]:
    """Raises DataError."""
    runs = [open_run(path) for path in dict.fromkeys(paths)]
    name_apart(runs)
    return runs


def picture_of(runs: list[Run]) -> str:
    """Raises DataError."""
    text = make_picture(runs[0]) if len(runs) == 1 else ""
    if not text:
        raise DataError(
            "--svg draws one run that has done a step", "name one, or leave --svg out"
        )
    return text


def write_page(paths: list[Path], output: Path, is_live: bool, picture: Path | None) -> bool:
    """Whether something is still to come. Raises DataError or OSError."""
    runs = open_runs(paths)
    is_open = is_live and not all(run.is_finished for run in runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, make_page(runs, LIVE_SECONDS if is_open else 0))
    if picture:
        write_text(picture, picture_of(runs))
    return is_open


def report(arguments: argparse.Namespace) -> None:
    """Raises DataError or OSError."""
    asked = arguments.runs, arguments.output
    begin = time.process_time()
    is_open = write_page(*asked, arguments.live, arguments.svg)
    try:
        print(f"{printable(str(arguments.output))} written", flush=True)
        while is_open:
            time.sleep(max(LIVE_SECONDS, REST * (time.process_time() - begin)))
            begin = time.process_time()
            is_open = write_page(*asked, True, arguments.svg)
    except KeyboardInterrupt:
        write_page(*asked, False, arguments.svg)  # One that does not load itself again.


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument("-o", dest="output", type=Path, default=Path("report.html"),
                        metavar="PAGE", help="report.html if not given")  # fmt: skip
    parser.add_argument("--svg", type=Path, metavar="FILE",
                        help="the losses of one run as a picture, too")  # fmt: skip
    parser.add_argument("--live", action="store_true", help="until the runs are finished")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    try:
        report(parse_arguments(words))
    except DataError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"report: {error}\n  try: check disk space and permissions", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
