# SPDX-License-Identifier: Apache-2.0
"""The house rules that a program can check.

usage: check.py <rule> <root of the project>

Each rule yields one line for each offender; any offender fails the test.
"""

import re
import subprocess
import sys
from pathlib import Path

import functions
import sources

FLOORS = [
    {"core"},
    {"comm", "io", "model", "optim"},
    {"data", "zero"},
    {"checkpoint"},
    {"train"},
    {"config"},
    {"app"},
]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}

TENSOR_MODULES = {"comm", "model", "optim", "data", "zero", "checkpoint", "train", "app"}

# Beginning of an included header: the folders of src/ that may include it.
OUTSIDE_LIBRARIES = {
    "mpi.h": {"comm"},
    "nccl": {"comm"},
    "cuda": {"comm"},
    "c10/cuda/": {"comm"},
    "ATen/cuda/": {"comm"},
    "hdf5": {"io"},
    "nlohmann/": {"io"},
    "openssl/": {"core"},
    "yaml-cpp/": {"config"},
    "CLI/": {"app"},
    "boost/": set(),
    "ATen/": TENSOR_MODULES,
    "c10/": TENSOR_MODULES,
    "torch/": TENSOR_MODULES,
}

# Kind of file, and the most lines that it may have.
MAX_LINES = {".h": 250, ".cpp": 400, ".py": 400, ".cmake": 400, "": 400}
MAX_COLUMNS = 100


def may_use(module, used):
    return used == module or FLOOR_OF.get(used, len(FLOORS)) < FLOOR_OF[module]


def floors(root):
    """Includes go down; siblings never include each other."""
    for path in sources.cpp(root, "src"):
        module = path.relative_to(root / "src").parts[0]
        if module not in FLOOR_OF:
            yield f"{path}: {module} is on no floor"
            continue
        for line, name in sources.includes(path, '"'):
            used = name.split("/")[0]
            if not may_use(module, used):
                yield f"{path}:{line}: {module} (floor {FLOOR_OF[module]}) must not use {name}"


def outside_libraries(root):
    """Each outside library enters through its own folders."""
    for path in sources.cpp(root, "src"):
        module = path.relative_to(root / "src").parts[0]
        for line, name in sources.includes(path, "<"):
            # The longest beginning decides, since c10/cuda/ is not c10/.
            known = [prefix for prefix in OUTSIDE_LIBRARIES if name.startswith(prefix)]
            if known and module not in OUTSIDE_LIBRARIES[max(known, key=len)]:
                yield f"{path}:{line}: {module} must not include <{name}>"


def sizes(root):
    """Files have few lines, lines few columns."""
    for path in sources.all_sources(root):
        lines = path.read_text().splitlines()
        allowed = MAX_LINES.get(path.suffix, MAX_LINES[""])
        if len(lines) > allowed:
            yield f"{path}: {len(lines)} lines, allowed are {allowed}"
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS:
                yield f"{path}:{number}: {len(line)} columns, allowed are {MAX_COLUMNS}"


def function_sizes(root):
    """Functions are short, flat, and take few parameters."""
    for path in sources.cpp(root, "src", "tests"):
        yield from functions.cpp_offenders(path)
    for path in sources.python(root):
        yield from functions.python_offenders(path)


def todos(root):
    """What is left to do has an issue."""
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\): )")
    for path in sources.all_sources(root):
        if path.parent.name == "architecture":
            continue  # This rule and its test must name the words.
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if unfinished.search(line):
                yield f"{path}:{number}: write TODO(#issue): and what; found {line.strip()}"


def licences(root):
    """Each source file says its licence in its first lines."""
    for path in sources.all_sources(root):
        head = path.read_text().splitlines()[:3]
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            yield f"{path}: no line 'SPDX-License-Identifier: Apache-2.0'"


def formatting(root):
    """C++ is as clang-format leaves it."""
    files = list(sources.cpp(root, "src", "tests"))
    style = f"--style=file:{Path(__file__).resolve().parents[2] / '.clang-format'}"
    run = subprocess.run(
        ["clang-format", style, "--dry-run", "--ferror-limit=1", *files],
        stderr=subprocess.PIPE, text=True, check=True)
    for line in run.stderr.splitlines():
        if "warning:" in line or "error:" in line:
            yield f"{line.split(': ')[0]}: run clang-format -i"


def scripts(root):
    """Shell scripts pass shellcheck."""
    files = [path for path in sources.scripts(root) if sources.is_shell(path)]
    if files:
        run = subprocess.run(
            ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR/..", "--format=gcc",
             *files], stdout=subprocess.PIPE, text=True)
        yield from run.stdout.splitlines()


RULES = {
    "floors": floors, "outside_libraries": outside_libraries, "sizes": sizes,
    "functions": function_sizes, "todos": todos, "licences": licences,
    "formatting": formatting, "scripts": scripts,
}


def main(rule, root):
    offenders = list(RULES[rule](Path(root)))
    for offender in offenders:
        print(offender)
    if offenders:
        sys.exit(f"{len(offenders)} against the rule: {RULES[rule].__doc__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
