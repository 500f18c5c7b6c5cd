# SPDX-License-Identifier: Apache-2.0
"""The section on what steps learnt from: losses by source, and how long documents were."""

from temper_data.page.markup import (
    Html, Section, bar, foreign, number, percent, section, table, tag,
)  # fmt: skip

from ..run_folder import Run
from .chart import NUM_COLOURS, Chart, Curve
from .curve import smooth, smoothing_span
from .scale import short


def describe_data(runs: list[Run]) -> Section | None:
    parts = []
    for run in runs:
        made = [source_chart(run), source_table(run), length_table(run)]
        shown = [part for part in made if part]
        if shown:
            parts += [tag("h3", foreign(run.name)) if len(runs) > 1 else None, *shown]
    if not parts:
        return None
    lead = "Sources of the mixture, or their files; documents that rows cut count as pieces."
    return section("data", "Data of the steps", tag("p", lead, class_="lead"), *parts)


def source_chart(run: Run) -> Html | None:
    """A line a source."""
    span = smoothing_span(len(run.metrics.steps))
    curves = [
        Curve(name, place, run.metrics.source_points(place, "source_losses"), run.saves(),
              run.restarts())
        for place, name in enumerate(run.metrics.sources())
    ]  # fmt: skip
    return Chart("Training loss by source", "nats per target", span).html(curves)


def source_table(run: Run) -> Html | None:
    """What each gave, with the colour of its line."""
    metrics, rows = run.metrics, []
    targets = [sum(value for _, value in metrics.source_points(place, "source_targets"))
               for place, _ in enumerate(metrics.sources())]  # fmt: skip
    span = smoothing_span(len(metrics.steps))
    for place, name in enumerate(metrics.sources()):
        losses = smooth(metrics.source_points(place, "source_losses"), span)
        if not losses:
            continue
        share = targets[place] / max(1, sum(targets))
        key = tag("ul", tag("li", foreign(name), class_=f"c{place % NUM_COLOURS}"), class_="runs")
        rows.append([key, number(int(targets[place])), percent(share), bar(share),
                     short(losses[0][1]), short(losses[-1][1])])  # fmt: skip
    heads = ["source", "targets", "share", "", "first loss", "last, smoothed"]
    return table(f"Sources of {run.name}", None, heads, rows, "tnnbnn") if rows else None


def length_table(run: Run) -> Html | None:
    """A histogram over all steps."""
    counts = run.metrics.document_lengths()
    total = sum(counts)
    rows = [
        [f"{2**k:,} to {2 ** (k + 1) - 1:,}" if k else "1", number(count),
         percent(count / total), bar(count / total)]
        for k, count in enumerate(counts) if any(counts[: k + 1])
    ]  # fmt: skip
    heads = ["tokens of a document", "documents", "share", ""]
    return table(f"Lengths in {run.name}", None, heads, rows, "tnnb") if rows else None
