# SPDX-License-Identifier: Apache-2.0
"""Spreads batches over processes and brings the results back in the order of the batches."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from .documents import DocumentMaker, Prepared, prepare_in_worker, start_worker
from .errors import DataError
from .recipe import Recipe
from .records import Batch

BATCHES_PER_WORKER = 3  # in flight: bounds memory and still hides uneven batches


def available_cores() -> int:
    """Cores that this process may use, which under Slurm are fewer than the node has."""
    return len(os.sched_getaffinity(0))


def prepare_in_order(batches: Iterator[Batch], recipe: Recipe) -> Iterator[Prepared]:
    """Results do not depend on the number of workers. Raises DataError if a worker dies."""
    count = recipe.workers or available_cores()
    if count == 1:
        yield from map(DocumentMaker(recipe).prepare, batches)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the tokenizer's threads
    pool = ProcessPoolExecutor(count, context, start_worker, (recipe,))
    pending: deque = deque()
    finished = False
    try:
        for batch in batches:
            pending.append(pool.submit(prepare_in_worker, batch))
            if len(pending) >= count * BATCHES_PER_WORKER:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        finished = True
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, most likely for want of memory",
            f"use fewer than {count} workers (workers=N) or a smaller max_record_bytes",
        ) from error
    finally:
        if not finished:  # Their work is lost anyway; do not wait for it.
            for worker in multiprocessing.active_children():
                worker.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
