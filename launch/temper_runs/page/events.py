# SPDX-License-Identifier: Apache-2.0
"""The sections on what happened and what could not be read."""

import math
from datetime import datetime, timezone

from temper_data.page.markup import (
    MAX_ROWS, Html, Section, facts, foreign, number, plural, section, table, tag,
)  # fmt: skip

from ..ending import meaning_of
from ..metrics import number_of
from ..run_folder import Run
from .scale import short
from .sections import last_of


def describe_overview(runs: list[Run]) -> Html:
    """The key figures above all else; of several runs they are a table."""
    if len(runs) > 1:
        heads = ["run", "state", *(name for name, _ in key_figures(runs[0]))]
        rows = [
            [foreign(run.name), state_of(run), *(v for _, v in key_figures(run))] for run in runs
        ]
        return table("Runs", None, heads, rows, "tt" + "n" * (len(heads) - 2))
    heading = tag("h3", foreign(runs[0].name), f", {state_of(runs[0])}")
    return tag("div", tag("div", heading, facts(key_figures(runs[0]))), class_="figures")


def key_figures(run: Run) -> list[tuple[str, str]]:
    tokens, seconds = run.metrics.tokens(), run.metrics.points("seconds")
    speeds = [value for _, value in run.metrics.points("tokens_per_second")]
    recent = sorted(speeds[-100:])
    planned = run.decided_by().get("steps")
    last = run.metrics.last_step
    return [
        ("steps", f"{number(last)} of {planned}" if planned else number(last)),
        ("tokens", number(int(tokens[-1][1])) if tokens else "0"),
        ("last loss", last_of(run, "loss")),
        ("tokens/s, median", short(recent[len(recent) // 2]) if recent else "none"),
        ("time in steps", duration(sum(value for _, value in seconds))),
    ]


def state_of(run: Run) -> str:
    if run.is_finished:
        return "finished"
    return "a job has it, or was killed" if run.is_locked else "not finished"


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def describe_notes(runs: list[Run]) -> Section | None:
    items = [
        tag("li", tag("em", foreign(run.name)), ": ", foreign(problem))
        for run in runs for problem in run.problems
    ]  # fmt: skip
    return section("notes", "Not read", tag("ul", items)) if items else None


def describe_events(runs: list[Run]) -> Section:
    """Saves, jobs and skipped steps of each run."""
    parts = []
    for run in runs:
        skipped = run.metrics.skipped()
        shown = ", ".join(number(step) for step in skipped[:MAX_ROWS])
        more = ", ..." if len(skipped) > MAX_ROWS else ""
        kept = ", ".join(number(step) for step in run.kept[-MAX_ROWS:]) or "none"
        pairs = [
            ("checkpoints that are there, by step", kept),
            ("steps without an update", f"{shown}{more}" if skipped else "none"),
        ]
        if run.save_interval():
            pairs.append(("saved", f"every {plural(run.save_interval(), 'step')}"))
        for key in ("save", "step"):
            seconds = number_of(run.timing.get(f"{key}_seconds"))
            if math.isfinite(seconds):
                pairs.append((f"longest {key} of the last job", f"{short(seconds)} s"))
        parts += [tag("h3", foreign(run.name)), facts(pairs), jobs_table(run)]
    return section("events", "Saves and jobs", parts)


def jobs_table(run: Run) -> Html | None:
    rows = []
    for job in run.jobs[-MAX_ROWS:]:
        word = str(job.get("event", ""))
        if word == "end":
            word = f"end: {meaning_of(job.get('code'))}"
        newest = str(job.get("newest", "")) or "none yet"
        rows.append([when(job.get("time")), foreign(job.get("job", "")), foreign(word),
                     foreign(newest), foreign(job.get("nodes", ""))])  # fmt: skip
    heads = ["time (UTC)", "job", "what", "newest checkpoint", "nodes"]
    return table(f"Jobs of {run.name}", None, heads, rows, "ttttt") if rows else None


def when(seconds) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown"
