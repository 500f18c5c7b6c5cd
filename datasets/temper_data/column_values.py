# SPDX-License-Identifier: Apache-2.0
"""Rows of columns as the JSON objects that the same rows are in a file of JSON lines."""

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

from .column_slices import Slice, summary
from .errors import RecordRefusal

UNREADABLE = "unreadable row"
LISTS = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip
KEEPS_NULL = "content"  # of a message; its null is written out in most files of JSON, too


def json_rows(piece: Slice, max_bytes: int) -> Iterator[tuple[int, bytes | RecordRefusal]]:
    """Number and JSON of each row, or why there is none."""
    encoder = json.JSONEncoder(ensure_ascii=False, default=to_json)
    for number, row in enumerate(python_rows(piece.rows), piece.first):
        if isinstance(row, RecordRefusal):
            yield number, row
            continue
        try:
            data = encoder.encode(row).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            yield number, RecordRefusal(UNREADABLE, summary(error))
            continue
        if len(data) > max_bytes:
            detail = f"more than max_record_bytes={max_bytes} bytes"
            data = RecordRefusal("record too large", detail)
        yield number, data


def python_rows(rows: pa.RecordBatch) -> list[dict | RecordRefusal]:
    """The values of each row. A damaged value costs its row alone."""
    try:
        return values_of(rows)
    except (pa.ArrowException, ValueError, LookupError, OverflowError, TypeError) as error:
        if rows.num_rows > 1:
            single = (rows.slice(number, 1) for number in range(rows.num_rows))
            return [row for part in single for row in python_rows(part)]
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            return [RecordRefusal("invalid UTF-8", summary(error))]
        return [RecordRefusal(UNREADABLE, summary(error))]


def values_of(rows: pa.RecordBatch) -> list[dict]:
    rows.validate(full=True)  # Offsets of an Arrow file may point anywhere, and nothing else looks.
    schema = pa.schema([field.with_type(readable(field.type)) for field in rows.schema])
    if schema.types != rows.schema.types:
        rows = rows.cast(schema, safe=False)
    # What makes objects of maps is several times as slow, and maps are rare.
    options = {"maps_as_pydicts": "strict"} if "map<" in str(schema.types) else {}
    values = rows.to_pylist(**options)
    if any(pa.types.is_nested(kind) for kind in schema.types):
        values = [{key: without_nulls(value) for key, value in row.items()} for row in values]
    return values


def readable(kind: pa.DataType) -> pa.DataType:
    """`kind` with times as Python has them: to the microsecond, and as UTC where in a zone."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(readable(field.type)) for field in kind])
    if any(is_list(kind) for is_list in LISTS):
        inner = readable(kind.value_type)
        same = inner == kind.value_type
        return kind if same else pa.large_list(kind.value_field.with_type(inner))
    return kind


def without_nulls(value):
    """`value` without the null members of objects inside.

    All objects of a column have the same members there, and null stands for those that a row did
    not have. Left in, they would reach the model by templates that list or look for a member.
    """
    if isinstance(value, dict):
        return {
            key: without_nulls(item)
            for key, item in value.items()
            if item is not None or key == KEEPS_NULL
        }
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def to_json(value):
    """What stands for a value that JSON does not have: text; an object where none is meant."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (bytes, memoryview)):
        return text_or_object(bytes(value))
    return {"unsupported": type(value).__name__}


def text_or_object(value: bytes) -> str | dict:
    """Older programs write text as bytes. Others, such as images, are no text to learn: an object
    that stands where text is wanted gets its row dropped by name."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"bytes": len(value)}
