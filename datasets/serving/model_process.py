# SPDX-License-Identifier: Apache-2.0
"""A `temper generate` that lives as long as the server, and answers many requests at once."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

from serving.api_error import ApiError

MAX_LINE_BYTES = 1 << 28  # Of an answer; far above need.
SECONDS_TO_END = 5.0


class ModelProcess:
    """Starts with the first request, and again with the next one if it has ended."""

    def __init__(self, command: list[str]):
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count()
        self._takers: dict[int, tuple[asyncio.Queue, int]] = {}  # By id: queue, place in its call.

    async def ask(self, requests: list[dict]) -> AsyncIterator[tuple[int, dict]]:
        """The lines that answer each of the requests, with its place among them, as they come.

        What nobody waits for any more is cancelled. Raises ApiError.
        """
        await self._start()
        queue: asyncio.Queue = asyncio.Queue()
        open_ids = {next(self._numbers): place for place in range(len(requests))}
        self._takers |= {number: (queue, place) for number, place in open_ids.items()}
        try:
            for number, request in zip(list(open_ids), requests, strict=True):
                self._send(request | {"id": number})
            while open_ids:
                number, place, line = await queue.get()
                if "ended" in line:
                    raise ApiError(500, f"the model's process ended with code {line['ended']}")
                if "error" in line:
                    del open_ids[number]
                    problem = line["error"].partition(": ")[2]  # After "line 7".
                    raise ApiError(400, f"{problem}; try: {line['remedy']}")
                if "answers" in line:
                    del open_ids[number]
                    self._takers.pop(number, None)
                yield place, line | {"id": number}
        finally:
            for number in open_ids:
                self._takers.pop(number, None)
                self.cancel(number)

    def cancel(self, number: int, answer: int | None = None) -> None:
        """Ends the answers of a request, or one of them, where they are."""
        self._send({"cancel": number} | ({} if answer is None else {"answer": answer}))

    async def end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), SECONDS_TO_END)
        except TimeoutError:
            process.kill()

    async def _start(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, limit=MAX_LINE_BYTES
            )
            self._reading = asyncio.create_task(self._read(self._process))

    def _send(self, line: dict) -> None:
        process = self._process
        if process is not None and process.returncode is None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        async for text in process.stdout:
            line = json.loads(text)
            if line["id"] in self._takers:
                queue, place = self._takers[line["id"]]
                queue.put_nowait((line["id"], place, line))
        code = await process.wait()
        for number, (queue, place) in self._takers.items():
            queue.put_nowait((number, place, {"ended": code}))
        self._takers.clear()
