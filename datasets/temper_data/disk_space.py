# SPDX-License-Identifier: Apache-2.0
"""What to say when the disk is full: how much is needed, and how much is free."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError
from .progress import Progress
from .shard_writer import ShardIdentity

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDY = "check disk space, quota and limits, or choose another output"


@contextmanager
def explained_fullness(
    folder: Path, progress: Progress, identity: ShardIdentity | None
) -> Iterator[None]:
    """Turns the system's error into a DataError that estimates what the preparation needs.

    Enter it last, so that it is left while the temporary files still tell how much was written.
    Without `identity` no shards are written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        kept, others = written_by_us(folder)
        free = shutil.disk_usage(folder).free + kept + others
        problem = f"{folder}: {os.strerror(error.errno)}"
        if share := min(1.0, progress.share()):
            shards = 0 if identity is None else shard_bytes(progress, identity)
            need = (kept + 2 * shards) / share
            problem += f" after {100 * share:.0f} % of the input; about {size(need)} are needed"
        raise DataError(f"{problem}, and {size(free)} are free there", REMEDY) from error


def written_by_us(folder: Path) -> tuple[int, int]:
    """Bytes of this process's temporary files: of those that wait for the end, and of the rest."""
    kept = others = 0
    for path in folder.glob(f".*.{os.getpid()}.tmp"):
        if ".waiting" in path.name or ".part." in path.name:
            kept += path.stat().st_size
        else:
            others += path.stat().st_size
    return kept, others


def shard_bytes(progress: Progress, identity: ShardIdentity) -> int:
    """What the shards of the documents so far take, of which the largest lies there twice."""
    per_token = identity.token_dtype.itemsize + (identity.kind == "sft")
    return progress.tokens * per_token + progress.documents * 8


def size(num_bytes: float) -> str:
    """Bytes in the unit that people read them in."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}" if unit != "bytes" else f"{num_bytes:.0f} bytes"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
