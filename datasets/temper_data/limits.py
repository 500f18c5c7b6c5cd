# SPDX-License-Identifier: Apache-2.0
"""Bounds the memory of this process, since one operator of a template may ask for any amount."""

import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
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
