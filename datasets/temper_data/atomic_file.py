# SPDX-License-Identifier: Apache-2.0
"""Files that appear under their name whole or not at all."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_path(path: Path) -> None:
    """Forces a file's, or a folder's, content to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_path(path: Path, purpose: str) -> Path:
    """A hidden name beside `path` that tells which process of which machine it belongs to."""
    return path.with_name(f".{path.name}.{purpose}.{socket.gethostname()}.{os.getpid()}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files of processes of this machine that were killed."""
    for path in folder.glob(f".*.{socket.gethostname()}.*.tmp"):
        owner = path.name.split(".")[-2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            path.unlink(missing_ok=True)


def current_umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced and renamed to `path`.

    On an exception the temporary file is removed and `path` is left as it was.
    """
    temporary = temporary_path(path, "new")
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~current_umask())  # Some libraries create files for the owner.
        sync_path(temporary)
        os.replace(temporary, path)
        sync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Publishes `text` as a UTF-8 file."""
    with published(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
