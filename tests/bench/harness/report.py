# SPDX-License-Identifier: Apache-2.0
"""What a person reads: the machine, the table, and loud words where a figure cannot be trusted."""

import os
from pathlib import Path
from typing import Callable, NamedTuple


class Column(NamedTuple):
    heading: str
    text: Callable[[dict], str]  # of a record


def number(key: str, pattern: str) -> Callable[[dict], str]:
    return lambda record: "-" if record[key] is None else format(record[key], pattern)


HEADING_COLUMNS = (
    Column("system", lambda record: record["system"]),
    Column("ranks x threads", lambda record: f"{record['ranks']} x {record['threads']}"),
    Column("dtype", lambda record: record["dtype"]),
)

MEMORY_COLUMNS = (
    Column("peak GB/rank", number("peak_rss_gb_per_rank", ".2f")),
    Column("idle", number("idle_rss_gb_per_rank", ".2f")),
)


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself, which is when temper's `auto` uses it."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def print_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    bfloat16 = "bf16 instructions" if cpu_has_bfloat16() else "no bf16 instructions"
    load = os.getloadavg()[0]
    print(f"machine: {cpu_model()}, {cores} cores, {bfloat16}, load average {load:.2f}")
    if load > 0.5:
        print("WARNING: the machine is busy; these figures are noise. Run again when it is idle.")
    if cores < 2:
        print("WARNING: two threads, or two ranks, share one core here.")


def print_table(records: list[dict], columns: tuple[Column, ...], warnings: list[str]) -> None:
    """One line a record; what has a problem tells it instead of figures."""
    lines = [[column.heading for column in HEADING_COLUMNS + columns]]
    lines += [cells(record, columns) for record in records]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    print()
    for line, record in zip(lines, [{"problem": None}] + records):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        print(f"{text}  {record['problem']}" if record["problem"] else text)
    print_versions(records)
    for message in warnings:
        print(f"WARNING: {message}")


def cells(record: dict, columns: tuple[Column, ...]) -> list[str]:
    texts = [column.text(record) for column in HEADING_COLUMNS]
    return texts + ["" if record["problem"] else column.text(record) for column in columns]


def print_versions(records: list[dict]) -> None:
    versions = {}
    for record in records:
        versions |= record["versions"]
    if versions:
        print("\n" + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
