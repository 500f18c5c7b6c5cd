# SPDX-License-Identifier: Apache-2.0
"""The set of digests against Python's own, in memory and in files; and documents found by them."""

import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from temper_data import digest_set
from temper_data.digest_set import DigestSet


@pytest.mark.parametrize("memory_bytes", [1 << 20, 1 << 9])
def test_the_digest_set_is_a_set(tmp_path, monkeypatch, memory_bytes):
    monkeypatch.setattr(digest_set, "MEMORY_BYTES", memory_bytes)
    chance = random.Random(3)
    digests = [chance.getrandbits(64) >> chance.choice([0, 40]) for _ in range(5000)]
    ours, reference = DigestSet(tmp_path, capacity=8), set()
    for digest in [0, *digests, *digests[:100]]:
        is_new = (digest or 1) not in reference
        assert ours.add(digest) == is_new
        reference.add(digest or 1)
    assert len(ours) == len(reference)
    assert not list(tmp_path.iterdir())  # Files have no names.


def test_the_digest_set_takes_as_many_bytes_as_it_says(tmp_path):
    """At any time: what is copied while it grows is little."""
    chance, most = random.Random(4), 0.0
    digests = np.frombuffer(chance.randbytes(8 * 40_000), "<u8").tolist()
    tracemalloc.start()
    ours = DigestSet(tmp_path, capacity=64)
    for count, digest in enumerate(digests, 1):
        ours.add(digest)
        if count % 500 == 0 and count > 8000:
            most = max(most, tracemalloc.get_traced_memory()[1] / count)
            assert 13 < ours.num_bytes / count < 28
        if count % 500 == 0:
            tracemalloc.reset_peak()
    tracemalloc.stop()
    assert most < 30


def test_a_large_digest_set_takes_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(digest_set, "MEMORY_BYTES", 1 << 12)
    chance = random.Random(5)
    digests = np.frombuffer(chance.randbytes(8 * 200_000), "<u8")
    ours = DigestSet(tmp_path, capacity=64)
    tracemalloc.start()
    for digest in digests:
        ours.add(int(digest))
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ours.num_bytes > 4e6 and kept < 5e5 and most < 1e6


def test_a_full_disk_ends_a_digest_set_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(digest_set, "MEMORY_BYTES", 0)
    monkeypatch.setattr(
        digest_set.tempfile, "TemporaryFile", lambda **_: open("/dev/full", "wb", 0)
    )
    ours = DigestSet(tmp_path, capacity=64)
    with pytest.raises(OSError, match="No space left"):
        for digest in range(1, 100):
            ours.add(digest)


SEARCH = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from temper_data.document_places import DocumentPlaces

def peak_bytes():
    status = Path("/proc/self/status").read_text()  # Mapped pages of files included.
    return int(status.split("VmHWM:")[1].split()[0]) << 10

places, many = DocumentPlaces(Path(sys.argv[1])), 1 << 17
for first in range(0, 32 * many, many):
    digests = np.arange(first, first + many, dtype=np.uint64)
    batch = SimpleNamespace(digests=digests, lines=digests + np.uint64(1), file=f"{first}.jsonl:")
    places.add(batch, np.ones(many, bool))
before = peak_bytes()
found = places.find([5, 31 * many + 7, 99 * many])
assert found == {5: "0.jsonl:6", 31 * many + 7: f"{31 * many}.jsonl:{31 * many + 8}"}, found
print(peak_bytes() - before)
"""


def test_documents_are_found_in_little_memory(tmp_path):
    """Of 64 MiB on the disk."""
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, tmp_path],
        cwd=Path(__file__).resolve().parents[2] / "datasets", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24 << 20
