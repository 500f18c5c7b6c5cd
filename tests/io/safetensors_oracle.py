# SPDX-License-Identifier: Apache-2.0
"""Compares the safetensors reader and layout with the reference implementation."""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

PROBE = sys.argv[1]


def probe(*arguments, given=None, text=True):
    command = [PROBE, *map(str, arguments)]
    run = subprocess.run(command, check=True, input=given, capture_output=True, text=text)
    return run.stdout


def check_reading(folder):
    """Names, shapes, places and values of a file that the reference wrote."""
    torch.manual_seed(0)
    numbers = torch.randn(1000, 7) * 10.0 ** torch.randint(-44, 38, (1000, 7))
    tensors = {
        "single": numbers,
        "brain": numbers.bfloat16(),
        "half": numbers.half(),
        "double": numbers.double(),
        "long": torch.arange(5),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
    }
    path = folder / "reference.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    listed = [line.split() for line in probe("list", path).splitlines()]
    assert {words[0] for words in listed} == set(tensors)
    for name, dtype, first, last, *shape in listed:
        entry = header[name]
        assert dtype == entry["dtype"], name
        assert [int(first) - begin, int(last) - begin] == entry["data_offsets"], name
        assert list(map(int, shape)) == entry["shape"], name
    for name in ("single", "brain", "half", "scalar", "empty"):
        ours = probe("floats", path, name, text=False)
        assert ours == tensors[name].float().numpy().tobytes(), name


def check_layout(folder):
    """The reference reads a file that the layout describes."""
    path = folder / "layout.safetensors"
    specs = [("z", "BF16", 70), ("a", "F32", 3), ('q"é', "F16", 0), ("b", "F16", 9)]
    probe("layout", path, *(word for spec in specs for word in spec))
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == {name for name, _, _ in specs}
        for name, _, length in specs:
            assert torch.equal(file.get_tensor(name).float(), torch.arange(length).float()), name


def damaged(generator):
    """A small file, with something in its header changed."""
    info = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [24, 28]},
        "c": {"dtype": "BF16", "shape": [], "data_offsets": [28, 30]},
        "__metadata__": {"format": "pt"},
    }
    choice = generator.randrange(4)
    if choice == 0:
        info[generator.choice("abc")]["data_offsets"][generator.randrange(2)] = generator.choice(
            [0, 1, 24, 26, 28, 30, 31, -1, 1.5, 2**40, 2**64, None]
        )
    elif choice == 1:
        info[generator.choice("abc")]["shape"] = generator.choice(
            [[], [4], [2, 2], [1, 4, 1], [0], [6], [-4], [2**62, 4], [2**63, 2**63, 0], ["4"], None]
        )
    elif choice == 2:
        info[generator.choice("abc")]["dtype"] = generator.choice(
            ["F32", "I32", "U8", "I8", "BOOL", "F8_E4M3", "BF16", "F16", "F64", "X", "f32", 1, None]
        )
    header = bytearray(json.dumps(info, separators=(",", ":")), "ascii")
    for _ in range(generator.randrange(3) if choice == 3 else 0):
        header[generator.randrange(len(header))] = generator.randrange(256)
    header += b" " * generator.randrange(3)
    tail = generator.choice([0, 0, 0, 0, 0, -1, 1])
    return len(header).to_bytes(8, "little") + header + bytes(30 + tail)


def is_accepted(path):
    try:
        with safe_open(path, "pt") as file:
            file.keys()
    except Exception:
        return False
    return True


def check_refusals(folder):
    """Whatever the reference refuses, we refuse; and we read what it reads."""
    generator = random.Random(1)
    paths = []
    for index in range(3000):
        paths.append(folder / str(index))
        paths[-1].write_bytes(damaged(generator))
    ours = probe("refusals", given="".join(f"{path}\n" for path in paths)).splitlines()
    num_accepted = 0
    for path, answer in zip(paths, ours, strict=True):
        theirs = is_accepted(path)
        num_accepted += theirs
        assert (answer == "ok") == theirs, f"{path.read_bytes()}: {theirs}, but we say {answer}"
    assert 100 < num_accepted < 2500, num_accepted


def main():
    with tempfile.TemporaryDirectory() as name:
        check_reading(Path(name))
        check_layout(Path(name))
        check_refusals(Path(name))


if __name__ == "__main__":
    main()
