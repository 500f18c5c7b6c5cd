# SPDX-License-Identifier: Apache-2.0
"""The set of digests against Python's own, in memory and in files."""

import random
import tracemalloc

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
