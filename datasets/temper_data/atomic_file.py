# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear under their name whole or not at all."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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


def discard(file: IO, path: Path) -> None:
    """Closes and removes a temporary file that is not wanted any more."""
    path.unlink(missing_ok=True)
    try:
        file.close()
    except OSError:
        pass  # The disk is full, and what is left to write need not be written.


def current_umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class Publication:
    """Files that appear together: all are whole on the disk before the first has its name.

    Use as a context manager: leaving it without `commit` leaves everything as it was.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []  # temporary name, name

    def __enter__(self) -> "Publication":
        return self

    def __exit__(self, *_) -> None:
        for temporary, _ in self._files:
            temporary.unlink(missing_ok=True)

    def add(self, path: Path) -> Path:
        """The temporary name under which to write what will be `path`."""
        temporary = temporary_path(path, "new")
        self._files.append((temporary, path))
        return temporary

    def commit(self, former: list[Path]) -> None:
        """Removes `former` files and gives the new ones their names.

        Whoever is killed in between leaves some of the new files, never a mixture with older ones.
        """
        mode = 0o666 & ~current_umask()  # Some libraries create files for the owner.
        for temporary, _ in self._files:
            os.chmod(temporary, mode)
            sync_path(temporary)
        for path in former:
            path.unlink(missing_ok=True)
        for temporary, path in self._files:
            os.replace(temporary, path)
        for folder in {path.parent for _, path in self._files}:
            sync_path(folder)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced and renamed to `path`.

    On an exception the temporary file is removed and `path` is left as it was.
    """
    with Publication() as publication:
        yield publication.add(path)
        publication.commit([])


@contextmanager
def published_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder beside `folder`; on success it is synced and renamed to `folder`.

    On an exception it is removed. Raises OSError where `folder` has files by then.
    """
    temporary = temporary_path(folder, "new")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync_path(path)
        os.replace(temporary, folder)
        sync_path(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Publishes `text` as a UTF-8 file."""
    with published(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
