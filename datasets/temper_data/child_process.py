# SPDX-License-Identifier: Apache-2.0
"""Processes that work for this one and end with it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
# A forked process shares the memory of this one, such as the tokenizer's. Forking is safe: when
# one starts, this process has no thread that could hold a lock.
CONTEXT = multiprocessing.get_context("fork")


class ChildProcess:
    """A process that runs `serve(its end of the pipe, *arguments)`."""

    def __init__(self, serve: Callable, *arguments):
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=(theirs, *arguments), daemon=True)
        # An exception of a signal's handler would be lost within the hooks of fork.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def exit_code(self) -> int:
        """How it ended; negative for a signal. Waits for that."""
        self.process.join()
        return self.process.exitcode

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def begin_child() -> None:
    """What a child process does first: it leaves interruptions to its parent, and ends with it,
    even by SIGKILL. Otherwise it would wait for work forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
