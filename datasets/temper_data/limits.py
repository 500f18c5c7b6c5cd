# SPDX-License-Identifier: Apache-2.0
"""Bounds the memory of this process, since one operator of a template may ask for any amount."""

import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache


@cache
def open_statistics(process: int) -> int:
    """What the system knows of the memory of `process`, which is this one."""
    return os.open(f"/proc/{process}/statm", os.O_RDONLY | os.O_CLOEXEC)


def address_space() -> int:
    """Bytes of address space that this process has."""
    return int(os.pread(open_statistics(os.getpid()), 32, 0).split()[0]) * mmap.PAGESIZE


def limit_memory(headroom_bytes: int) -> tuple[int, int]:
    """From now on this process gets at most `headroom_bytes` more memory than it has.

    Beyond that Python raises MemoryError, and other code aborts. Returns the limits before.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = address_space() + headroom_bytes
    allowed = [limit for limit in (*before, wanted) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(allowed), before[1]))
    return before


@contextmanager
def bounded_memory(headroom_bytes: int) -> Iterator[None]:
    """Limits the memory of the block alone."""
    before = limit_memory(headroom_bytes)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class BoundedBlocks(AbstractContextManager):
    """`bounded_memory` for many short blocks, one after the other: each may have as much beyond
    what the process had at the first one since `renew`, which costs more to find out."""

    def __init__(self, headroom_bytes: int):
        self._headroom = headroom_bytes
        self._inside: tuple[int, int] | None = None

    def renew(self) -> None:
        self._inside = None

    def __enter__(self) -> None:
        if self._inside is None:
            self._outside = limit_memory(self._headroom)
            self._inside = resource.getrlimit(resource.RLIMIT_AS)
        else:
            resource.setrlimit(resource.RLIMIT_AS, self._inside)

    def __exit__(self, *_) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._outside)
