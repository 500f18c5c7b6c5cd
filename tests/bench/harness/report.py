# SPDX-License-Identifier: Apache-2.0
"""What a person reads: the machine, the table, and loud words where a figure cannot be trusted."""

import os
from pathlib import Path

from measurement import disagreements, format_losses

HEADINGS = (
    "system", "ranks x threads", "dtype", "tokens/s", "s/step", "min", "of limit",
    "peak GB/rank", "idle", "losses",
)  # fmt: skip


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


def print_table(records: list[dict]) -> None:
    lines = [HEADINGS] + [cells(record) for record in records]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    print()
    for line, record in zip(lines, [{"problem": None}] + records):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        print(f"{text}  {record['problem']}" if record["problem"] else text)
    print_versions(records)
    for message in disagreements(records):
        print(f"WARNING: NOT THE SAME STEP: {message}")


def cells(record: dict) -> tuple[str, ...]:
    def number(key: str, pattern: str) -> str:
        return "-" if record[key] is None else format(record[key], pattern)

    if record["problem"]:
        return (*heading_cells(record), *[""] * 7)
    return (
        *heading_cells(record),
        number("tokens_per_second", ".1f"),
        number("step_seconds_median", ".3f"),
        number("step_seconds_min", ".3f"),
        number("share_of_limit", ".0%"),
        number("peak_rss_gb_per_rank", ".2f"),
        number("idle_rss_gb_per_rank", ".2f"),
        format_losses(record) or "-",
    )


def heading_cells(record: dict) -> tuple[str, str, str]:
    return record["system"], f"{record['ranks']} x {record['threads']}", record["dtype"]


def print_versions(records: list[dict]) -> None:
    versions = {}
    for record in records:
        versions |= record["versions"]
    if versions:
        print("\n" + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
