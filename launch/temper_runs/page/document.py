# SPDX-License-Identifier: Apache-2.0
"""Puts the page of runs together. Nothing in it depends on the time or the machine."""

from dataclasses import replace
from pathlib import Path

from temper_data.page.frame import Frame, page_header, read
from temper_data.page.markup import plural

from ..run_folder import Run
from .events import describe_events, describe_notes, describe_overview
from .data import describe_data
from .identity import describe_configuration, describe_differences, describe_identity
from .samples import describe_samples
from .sections import describe_holdouts, describe_loss, describe_others, describe_steps

FRAME = Frame(
    title="How training went",
    style=read(Path(__file__).parent / "charts.css"),
    script=read(Path(__file__).parent / "charts.js"),
    search_label="Search the configuration",
    nouns=("run", "key"),
)


def make_page(runs: list[Run], refresh_seconds: int = 0) -> str:
    """The whole file. It loads itself again every `refresh_seconds`, unless that is 0."""
    made = [
        describe_notes(runs),
        describe_loss(runs),
        describe_holdouts(runs),
        describe_samples(runs),
        describe_data(runs),
        describe_steps(runs),
        describe_others(runs),
        describe_differences(runs),
        describe_events(runs),
        describe_configuration(runs),
        describe_identity(runs),
    ]
    header = page_header(plural(len(runs), "run"), FRAME.title, describe_overview(runs))
    frame = replace(FRAME, refresh_seconds=refresh_seconds)
    return frame.page(header, [part for part in made if part])
