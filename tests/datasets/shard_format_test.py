# SPDX-License-Identifier: Apache-2.0
"""The writer against an independent reader, and against the bytes of HDF5 itself."""

import json
import os
import socket
import time

import h5py
import numpy as np
import pytest
from shard_reader import Shard

from temper_data.atomic_file import published, remove_leftovers
from temper_data.shard_writer import ShardIdentity, ShardWriter

BLOCK = 1 << 20


def write(path, kind="pretrain", vocab_size=300, documents=((5, 6, 7), (8, 9)), origin="{}"):
    template = "{{ messages }} é" if kind == "sft" else ""
    identity = ShardIdentity(kind, vocab_size, "ab" * 32, template, 2)
    with ShardWriter(path, identity) as writer:
        for document in documents:
            mask = np.arange(len(document)) > 0 if kind == "sft" else None
            writer.append(np.array(document, np.uint32), np.array([len(document)]), mask)
        writer.publish(origin)
    return Shard(path)


@pytest.mark.parametrize("kind", ["pretrain", "sft"])
@pytest.mark.parametrize("vocab_size", [300, 65536, 65537, 2**31])
def test_what_is_written_is_read_back(tmp_path, kind, vocab_size):
    documents = [[1, vocab_size - 1, 3], [4, 5], [6, 7, 8, 9]]
    shard = write(tmp_path / "a.h5", kind, vocab_size, documents, origin='{"é": 1}')
    assert shard.documents() == documents
    assert shard["kind"] == kind and shard["num_targets"] == 6 and shard["origin"] == '{"é": 1}'


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_payloads_around_a_whole_number_of_blocks(tmp_path, extra):
    length = 2 * BLOCK // 2 + extra  # two blocks of uint16, and one token less or more
    shard = write(tmp_path / "a.h5", "sft", 300, [np.arange(length) % 300])
    assert len(shard.payload["tokens_sha256"]) == (3 if extra > 0 else 2)
    assert shard["num_tokens"] == length


def test_long_attributes_are_kept(tmp_path):
    origin = json.dumps({"text": "x" * 200_000})
    assert write(tmp_path / "a.h5", origin=origin)["origin"] == origin


def test_the_file_has_the_format_that_old_hdf5_reads(tmp_path):
    write(tmp_path / "a.h5")
    head = (tmp_path / "a.h5").read_bytes()[:9]
    assert head == b"\x89HDF\r\n\x1a\n\x02"  # superblock 2: HDF5 1.8 and later


def test_equal_documents_give_equal_bytes_at_any_time_and_cut(tmp_path):
    write(tmp_path / "a.h5", "sft")
    time.sleep(1.1)  # HDF5 would record whole seconds
    identity = ShardIdentity("sft", 300, "ab" * 32, "{{ messages }} é", 2)
    with ShardWriter(tmp_path / "b.h5", identity) as writer:
        tokens = np.array([5, 6, 7, 8, 9], np.uint32)
        writer.append(tokens, np.array([3, 2]), np.array([0, 1, 1, 0, 1]))
        writer.publish("{}")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    write(tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(RuntimeError), published(tmp_path / "a.h5") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError):
        with ShardWriter(tmp_path / "a.h5", ShardIdentity("pretrain", 9, "", "", 2)):
            raise RuntimeError
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    dead = tmp_path / f".a.h5.new.{socket.gethostname()}.{2**22 + 1}.tmp"
    alive = tmp_path / f".a.h5.new.{socket.gethostname()}.{os.getpid()}.tmp"
    elsewhere = tmp_path / f".a.h5.new.another-node.{2**22 + 1}.tmp"
    for path in (dead, alive, elsewhere):
        path.touch()
    remove_leftovers(tmp_path)
    assert not dead.exists() and alive.exists() and elsewhere.exists()


@pytest.mark.parametrize("place", ["tokens", "document_offsets", "target_mask"])
def test_the_reader_notices_a_flipped_bit(tmp_path, place):
    path = tmp_path / "a.h5"
    write(path, "sft", documents=[np.arange(50)])
    with h5py.File(path) as file:
        offset = file[place].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset + 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError):
        Shard(path)
