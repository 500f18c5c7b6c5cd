# SPDX-License-Identifier: Apache-2.0
"""How full rows will be, beside the trainer's rule applied to one document after the other."""

import random

import numpy as np

from temper_data import shard_lengths
from temper_data.packed_rows import SEQUENCE_LENGTHS, PackedRows, count_rows
from temper_data.shard_file import ShardFile
from temper_data.shard_writer import ShardIdentity, ShardWriter


def rows_by_the_rule(lengths: list[int], capacity: int) -> int:
    """src/data/packing.h: the longest first, each into the row with the least room that fits."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if not fitting:
            rooms.append(capacity - length)
            continue
        rooms[rooms.index(min(fitting))] -= length
    return len(rooms)


def test_rows_are_as_many_as_the_rule_makes():
    for seed in range(800):
        chance = random.Random(seed)
        capacity = chance.randint(1, 50)
        longest = chance.randint(1, capacity)
        lengths = [chance.randint(1, longest) for _ in range(chance.randint(1, 120))]
        counts = np.bincount(lengths, minlength=capacity + 1)
        assert count_rows(counts, capacity) == rows_by_the_rule(lengths, capacity), seed


def test_documents_may_come_in_any_number():
    counts = np.zeros(101, np.int64)
    counts[[60, 40, 30]] = 10**12
    assert count_rows(counts, 100) == 10**12 + 10**12 // 3 + 1


def test_long_documents_are_cut_and_those_without_target_left_out():
    rows = PackedRows(10)
    rows.add(np.array([4, 12, 25]), np.array([1, 9, 10]))
    rows.add(np.array([6, 30]), np.array([5, 3]))
    fill = rows.packed()
    assert (fill.rows, fill.tokens, fill.cut, fill.without_target) == (3, 30, 3, 1)
    assert fill.share == 1.0


def test_text_fills_all_rows_but_the_last():
    fill = PackedRows(512).sliced(1025)
    assert (fill.rows, fill.tokens, round(fill.share, 4)) == (3, 1025, round(1025 / 1536, 4))


def test_the_longest_rows_take_no_long_time():
    counts = np.ones(SEQUENCE_LENGTHS[-1] + 1, np.int64)
    counts[0] = 0
    total = int(counts @ np.arange(len(counts)))
    assert count_rows(counts, SEQUENCE_LENGTHS[-1]) >= -(-total // SEQUENCE_LENGTHS[-1])


def test_targets_are_counted_wherever_a_piece_of_the_mask_ends(tmp_path, monkeypatch):
    """How many each document has, and where the first is; some have none."""
    chance = random.Random(2)
    masks = [np.array(chance.choices([0, 1], k=n)) for n in chance.choices(range(1, 40), k=200)]
    masks = [mask * chance.choice([0, 1, 1]) for mask in masks]
    lengths = [len(mask) for mask in masks]
    with ShardWriter(tmp_path / "a.h5", ShardIdentity("sft", 9, "ab" * 32, "x", 2)) as writer:
        writer.append(np.ones(sum(lengths)), np.array(lengths), np.concatenate(masks))
        writer.publish("{}")
    offsets = np.cumsum([0, *lengths])
    expected = [(int(m.sum()), m.tolist().index(1) if m.any() else len(m)) for m in masks]
    with ShardFile(tmp_path / "a.h5") as shard:
        for at_once in (1, 7, 100, 10**6):
            monkeypatch.setattr(shard_lengths, "AT_ONCE", at_once)
            counts, first = shard_lengths.find_targets(shard, offsets)
            assert list(zip(counts.tolist(), first.tolist(), strict=True)) == expected
