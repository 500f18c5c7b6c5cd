# SPDX-License-Identifier: Apache-2.0
"""What the campaigns share: cases drawn from a seed, some in every test run or as long as asked.

TEMPER_SEED=N draws others, TEMPER_CAMPAIGN_MINUTES=M goes on for M minutes. A case that fails tells
its own seed, and TEMPER_SEED with TEMPER_CAMPAIGN_CASES=1 repeats it alone.
"""

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))
sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))

import tiny_job  # noqa: E402

KILLED, BUG = 128, 10
NO_MEANING = 1  # What a process ends with that nobody wrote an ending for.


def run(name: str, num_cases: int, case: Callable[[random.Random], None]) -> None:
    """Calls `case` with one generator after another; the first one has the seed itself."""
    first = int(os.environ.get("TEMPER_SEED", 1))
    minutes = float(os.environ.get("TEMPER_CAMPAIGN_MINUTES", 0))
    num_cases = int(os.environ.get("TEMPER_CAMPAIGN_CASES", num_cases))
    end = time.monotonic() + 60 * minutes
    done = 0
    while time.monotonic() < end if minutes else done < num_cases:
        try:
            case(random.Random(first + done))
        except BaseException:
            print(f"{name}: failed with TEMPER_SEED={first + done} TEMPER_CAMPAIGN_CASES=1",
                  file=sys.stderr)  # fmt: skip
            raise
        done += 1
    print(f"{name}: {done} cases, seeds {first} to {first + done - 1}")


def result(config: Path) -> tuple:
    """Curve and final weights; an adapter's other files say where its base lies."""
    curve, files = tiny_job.result(config)
    return curve, {name: sha for name, sha in files.items() if name.endswith(".safetensors")}


def assert_honest_end(code: int, log: str) -> None:
    """Ended well, or refused in words: neither a crash nor a bug that was caught."""
    assert 0 <= code < KILLED and code not in (NO_MEANING, BUG), f"code {code}:\n{log}"
    assert code == 0 or "\n  try: " in log, f"code {code} without a remedy:\n{log}"
    assert "AddressSanitizer" not in log and "terminate called" not in log, log
