# SPDX-License-Identifier: Apache-2.0
"""What exit codes mean. Needs Python alone."""

# README.md has the same table.
MEANINGS = {
    0: "finished", 10: "a bug in temper", 11: "configuration or command line",
    12: "a token shard", 13: "a model folder", 14: "a checkpoint",
    15: "a collective failed, or a peer was lost", 16: "too many steps that were not finite",
    17: "out of memory", 18: "the launch was refused", 19: "stopped on request after saving",
}  # fmt: skip


def meaning_of(code) -> str:
    """With the code itself; other codes are those of the launcher, or of a signal."""
    if not isinstance(code, int):
        return "unknown"
    known = f"signal {code - 128}" if code > 128 else "the launcher"
    return f"{code}, {MEANINGS.get(code, known)}"
