# SPDX-License-Identifier: Apache-2.0
"""What tests have shown of each family, for `launch/families`: a file for each family and test."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path


def results_folder() -> Path | None:
    """Where `launch/families` finds what tests have shown."""
    build = os.environ.get("TEMPER_BUILD_DIR")
    return Path(build) / "families" if build else None


def forget(tests: Iterable[str], model_types: Iterable[str]) -> None:
    """Removes what an earlier run has shown: one that fails now shows nothing."""
    if folder := results_folder():
        for test, model_type in itertools.product(tests, model_types):
            (folder / f"{model_type}.{test}").unlink(missing_ok=True)


def record(test: str, model_type: str, result: str) -> None:
    """Leaves what a test has shown of a family where `launch/families` finds it."""
    if folder := results_folder():
        folder.mkdir(exist_ok=True)
        (folder / f"{model_type}.{test}").write_text(f"{result}\n")
