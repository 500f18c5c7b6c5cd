# SPDX-License-Identifier: Apache-2.0
"""Prints the scalars of event files as JSON, [tag, step, value, seconds] each.

Run by TEMPER_BOARD_PYTHON. The messages are tensorboardX's; the records around them are taken apart
here, each with both of its checksums, by a table of CRC-32C's own polynomial.
"""

import json
import struct
import sys
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    TABLE.append(number)


def checksum(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read(path: Path):
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        message = data[12 : 12 + length]
        if len(data) < 16 + length:
            return  # Torn.
        assert struct.unpack("<I", data[8:12])[0] == checksum(data[:8])
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == checksum(message)
        yield Event.FromString(message)
        data = data[16 + length :]


found = []
for path in sorted(Path(sys.argv[1]).glob("events.out.tfevents.*")):
    events = list(read(path))
    assert events[0].file_version == "brain.Event:2"
    for event in events[1:]:
        (value,) = event.summary.value
        found.append([value.tag, event.step, value.simple_value, event.wall_time])
print(json.dumps(found))
