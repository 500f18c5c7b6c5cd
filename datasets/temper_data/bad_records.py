# SPDX-License-Identifier: Apache-2.0
"""Ends the preparation at a bad record, for recipes that count none of them away."""

from collections import Counter

from .documents import Prepared
from .errors import DataError

# What a recipe or a row asks to be left out is no defect. Neither is what filters drop.
WANTED = ("too long", "too long to cut", "flagged as not to be trained")


def stop_at_bad_record(prepared: Prepared) -> None:
    """Raises DataError for the first record of the batch that was dropped for a defect."""
    bad = Counter(prepared.dropped)
    bad.subtract(prepared.findings.dropped)
    reasons = {reason for reason, count in bad.items() if count > 0} - set(WANTED)
    if reasons:
        reason, place = next(pair for pair in prepared.examples if pair[0] in reasons)
        raise DataError(
            f"{place}: {reason}, and on_error is stop",
            "correct the record, or set on_error: count, which leaves such records out",
        )
