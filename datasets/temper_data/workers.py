# SPDX-License-Identifier: Apache-2.0
"""Spreads batches over processes and brings the results back in the order of the batches.

A chat template is a stranger's program, and a tokenizer meets text that nobody foresaw. So records
are worked at in processes with limits: one that takes too much memory, crashes, or does not come
back in time costs the record, not the preparation.
"""

import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any, Protocol

from .child_process import ChildProcess, begin_child
from .documents import on_time_up, timed_out
from .errors import DataError, RecordRefusal
from .limits import limit_memory
from .recipe import Recipe
from .records import Batch

BATCHES_PER_WORKER = 3  # in flight: bounds memory and still hides uneven batches
LOOK_SECONDS = 0.5  # How often busy workers are looked after.
# A worker that waits, or that is in C code, which no signal interrupts, is killed when a record has
# taken so many times the processor time that it may, by the clock.
PATIENCE = 10
BASE_BYTES = 1 << 30  # memory of a worker, beside
BYTES_PER_BYTE = 256  # of the longest record: tokenising takes up to about 200
# How a process ends by what it does itself; SIGKILL comes from a machine short of memory.
OWN_DOING = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def available_cores() -> int:
    """Cores that this process may use, which under Slurm are fewer than the node has."""
    return len(os.sched_getaffinity(0))


class Maker(Protocol):
    """What a worker does with a batch, such as documents.DocumentMaker."""

    recipe: Recipe

    def prepare(self, batch: Batch, begin: Callable[[int], None]) -> Any: ...


class Place:
    """Tells the main process at which record a worker is, and since when; shared memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)
        self.begin(-1)

    def begin(self, record: int) -> None:
        struct.pack_into("=qd", self._memory, 0, record, time.monotonic())

    def record(self) -> int:
        """-1 between two batches."""
        return struct.unpack_from("=q", self._memory, 0)[0]

    def seconds(self) -> float:
        return time.monotonic() - struct.unpack_from("=d", self._memory, 8)[0]


class Worker(ChildProcess):
    """A process that prepares one batch at a time."""

    def __init__(self, maker: Maker):
        self.number = -1  # of the batch
        self.batch: Batch | None = None  # what it works at; None if it is idle
        self.place = Place()
        super().__init__(serve, maker, self.place)

    def give(self, number: int, batch: Batch) -> None:
        self.number, self.batch = number, batch
        try:
            self.pipe.send(batch)
        except BrokenPipeError:
            pass  # It died; who waits for its answer notices.


class Pool:
    """Workers, made when there is work for them, and the results that wait for their turn."""

    def __init__(self, maker: Maker, most: int):
        self.maker = maker
        self.most = most
        self.workers: list[Worker] = []
        self.done: dict[int, Any] = {}

    def run(self, batches: Iterator[Batch]) -> Iterator[Any]:
        numbered = enumerate(batches)
        item = next(numbered, None)  # the next batch, which no worker has yet
        given = taken = 0
        while True:
            while item is not None and given - taken < self.most * BATCHES_PER_WORKER:
                worker = self.idle_worker()
                if worker is None:
                    break
                worker.give(*item)
                given += 1
                item = next(numbered, None)
            if taken in self.done:
                yield self.done.pop(taken)
                taken += 1
            elif taken == given:
                return
            else:
                self.collect()

    def idle_worker(self) -> Worker | None:
        for worker in self.workers:
            if worker.batch is None:
                return worker
        if len(self.workers) == self.most:
            return None
        self.workers.append(Worker(self.maker))
        return self.workers[-1]

    def collect(self) -> None:
        """Waits a moment for results, and replaces workers that died or do not come back."""
        busy = [worker for worker in self.workers if worker.batch is not None]
        ready = wait([worker.pipe for worker in busy], LOOK_SECONDS)
        for worker in busy:
            if worker.pipe in ready:
                self.receive(worker)
            elif worker.place.record() >= 0 and worker.place.seconds() > self.patience():
                self.replace(worker, timed_out(self.maker.recipe))

    def patience(self) -> float:
        return PATIENCE * self.maker.recipe.seconds_per_document

    def receive(self, worker: Worker) -> None:
        """Raises DataError if the worker died of something else than a record."""
        try:
            self.done[worker.number] = worker.pipe.recv()
            worker.batch = None
        except (EOFError, OSError):
            code = worker.exit_code()
            if worker.place.record() < 0 or -code not in OWN_DOING:
                raise DataError(
                    f"a worker process died, most likely for want of memory (exit code {code})",
                    f"use fewer than {self.most} workers (workers=N), if more than one, "
                    "or a smaller max_record_bytes",
                ) from None
            name = signal.Signals(-code).name
            self.replace(worker, RecordRefusal("crashes the program", f"with signal {name}"))

    def replace(self, worker: Worker, refusal: RecordRefusal) -> None:
        """Gives the batch to another worker, without the record that this one is at."""
        number, batch, record = worker.number, worker.batch, worker.place.record()
        worker.end()
        batch.refuse(record, refusal)
        fresh = Worker(self.maker)
        self.workers[self.workers.index(worker)] = fresh
        fresh.give(number, batch)

    def end(self) -> None:
        for worker in self.workers:
            worker.end()


def prepare_in_order(batches: Iterator[Batch], maker: Maker) -> Iterator[Any]:
    """Results do not depend on the number of workers. Raises DataError if a worker dies."""
    pool = Pool(maker, maker.recipe.workers or available_cores())
    try:
        yield from pool.run(batches)
    finally:
        pool.end()


def serve(pipe, maker: Maker, place: Place) -> None:
    """The life of a worker process, which is parallel across documents, so not inside one."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGPROF, on_time_up)
    begin_child()
    limit_memory(BASE_BYTES + BYTES_PER_BYTE * maker.recipe.max_record_bytes)
    while True:
        batch = pipe.recv()
        prepared = maker.prepare(batch, place.begin)
        place.begin(-1)
        pipe.send(prepared)
