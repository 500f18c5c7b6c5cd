# SPDX-License-Identifier: Apache-2.0
"""TensorBoard's event files in one folder: written by tensorboardX, and read back, since they
themselves say what is in them already.

A file is a row of records: 8 bytes of length, their checksum, the message, and its checksum.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.crc32c import crc32c
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar as scalar_summary

from .scalars import Scalar

PATTERN = "events.out.tfevents.*"


def checksum(data: bytes) -> int:
    """As TFRecord has it: CRC-32C, rotated and moved."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(path: Path) -> Iterator[Event]:
    """Up to the end, or to where a writer that was killed left the file torn, as TensorBoard."""
    data, place = path.read_bytes(), 0
    while place + 12 <= len(data):
        length, check = struct.unpack_from("<QI", data, place)
        message = data[place + 12 : place + 12 + length]
        place += 16 + length
        if check != checksum(struct.pack("<Q", length)) or place > len(data):
            return
        try:
            yield Event.FromString(message)
        except DecodeError:
            return


class EventFolder:
    """What a folder has of a run, to which new values are added in a file of their own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.written: dict[str, tuple[int, float]] = {}  # tag: the last step, and its value
        self._files = sorted(folder.glob(PATTERN))
        self._writer: EventsWriter | None = None
        for path in self._files:
            for event in read_events(path):
                for value in event.summary.value:
                    self._note(value.tag, event.step, value.simple_value)

    def add(self, scalars: list[Scalar]) -> None:
        """On the disk when this returns. Raises OSError."""
        for scalar in scalars:
            summary = scalar_summary(scalar.tag, scalar.value)
            event = Event(wall_time=scalar.seconds, step=scalar.step, summary=summary)
            self._writer = self._writer or self._open()
            self._writer.write_event(event)
            self._note(scalar.tag, scalar.step, scalar.value)
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()

    def _open(self) -> EventsWriter:
        """Its name holds the second it was begun in, and another file of that second would be
        overwritten: so it is numbered, too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return EventsWriter(str(self.folder / "events"), f".{len(self._files):06}")

    def _note(self, tag: str, step: int, value: float) -> None:
        if tag not in self.written or step >= self.written[tag][0]:
            self.written[tag] = step, value
