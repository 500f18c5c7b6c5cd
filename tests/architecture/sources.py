# SPDX-License-Identifier: Apache-2.0
"""Which files the rules read: what git tracks or would track, so no build folder, no downloads."""

import re
import subprocess

FOLDERS = ("src", "tests", "datasets", "launch", "slurm", ".ci")


def tracked(root, *folders):
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--",
         *folders], stdout=subprocess.PIPE, text=True, check=True)
    paths = (root / name for name in sorted(listed.stdout.split("\0")) if name)
    return [path for path in paths if path.is_file()]


def cpp(root, *folders):
    return [path for path in tracked(root, *folders) if path.suffix in (".h", ".cpp", ".cu")]


def first_line(path):
    with open(path, "rb") as file:
        return file.readline(200)


def is_shell(path):
    return b"bash" in first_line(path) or path.suffix == ".sh" or path.name == "env"


def is_python(path):
    return path.suffix == ".py" or b"python" in first_line(path)


def scripts(root):
    """What can be run, and what launch/ sources: files without a suffix."""
    return [path for path in tracked(root, "launch", "slurm", "datasets", "tests", ".ci")
            if first_line(path).startswith(b"#!") or path.name == "env" or path.suffix == ".sh"]


def python(root):
    return [path for path in tracked(root, "datasets", "launch", "tests", "slurm")
            if is_python(path)]


def all_sources(root):
    cmake = [path for path in tracked(root, *FOLDERS, "CMakeLists.txt")
             if path.suffix == ".cmake" or path.name == "CMakeLists.txt"]
    return sorted({*cpp(root, *FOLDERS), *cmake, *python(root), *scripts(root)})


def includes(path, opening):
    """Yields (line number, name) of each #include that opens with `opening`, a quote or <."""
    pattern = re.compile(rf'\s*#\s*include\s*{opening}([^">]+)[">]')
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := pattern.match(line):
            yield number, match[1]
