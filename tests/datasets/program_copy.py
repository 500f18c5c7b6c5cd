# SPDX-License-Identifier: Apache-2.0
"""Runs a program of datasets/ in a copy of this process, which has imported what it imports."""

import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path
from subprocess import CompletedProcess
from typing import NoReturn

FAILED = 1  # What Python ends with after an exception.


def run_copy(script: Path, arguments: list[str], given: str, environment: dict) -> CompletedProcess:
    """Exit status and output, as text, of a script with these arguments and this input."""
    files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(3)]
    files[0].write(given)
    files[0].seek(0)
    child = os.fork()
    if child == 0:
        become(script, arguments, environment, files)
    _, status = os.waitpid(child, 0)
    output = []
    for file in files[1:]:
        file.seek(0)
        output.append(file.read())
    return CompletedProcess([script, *arguments], os.waitstatus_to_exitcode(status), *output)


def become(script: Path, arguments: list[str], environment: dict, files: list) -> NoReturn:
    """Goes on as the script; what the copied process had begun is not ended a second time."""
    code = FAILED
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin = open(0, encoding="utf-8")
        sys.stdout = open(1, "w", encoding="utf-8")
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")
        sys.argv = [str(script), *arguments]
        # The tokenizers' threads are not copied, and without a word each copy would say so.
        os.environ.clear()
        os.environ.update(environment | {"TOKENIZERS_PARALLELISM": "false"})
        runpy.run_path(str(script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = exit_code(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def exit_code(value: int | str | None) -> int:
    """As Python takes what sys.exit() is given."""
    if isinstance(value, str):
        print(value, file=sys.stderr)
        return FAILED
    return value or 0
