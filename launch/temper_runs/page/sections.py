# SPDX-License-Identifier: Apache-2.0
"""The sections with curves: losses, hold-outs, and how the steps went."""

from collections.abc import Callable

from temper_data.page.markup import Html, Section, foreign, number, section, table, tag

from ..metrics import Metrics, Points
from ..run_folder import Run
from .chart import Chart, Curve
from .curve import smoothing_span
from .scale import short


UNIT_TABLES = (("unit_grad_norms", "Gradient norm"), ("unit_update_ratios", "Update to weights"))


def describe_loss(runs: list[Run]) -> Section | None:
    """The training loss alone, large: with its marks it tells most."""
    span = smoothing_span(max(len(run.metrics.steps) for run in runs))
    chart = Chart("Training loss", "nats per target", span=span)
    made = chart.html(curves_of(runs, "loss"))
    if not made:
        return None
    lead = (
        f"Faint: each step; strong: smoothed over about {number(span)} steps. Marks below: saves; "
        "above, in red: steps without an update; dashed across: a later job went on from there."
    )
    return section("loss", "Training loss", tag("p", lead, class_="lead"), keys(runs), made)


def keys(runs: list[Run]) -> Html | None:
    """Which colour is whose."""
    if len(runs) == 1:
        return None
    items = [
        tag("li", foreign(run.name), class_=f"c{place % 8}") for place, run in enumerate(runs)
    ]
    return tag("ul", items, class_="runs")


def curves_of(runs: list[Run], name: str) -> list[Curve]:
    return [
        Curve(run.name, place, run.metrics.points(name), run.saves(), run.restarts(),
              run.metrics.skipped())
        for place, run in enumerate(runs)
    ]  # fmt: skip


def holdout_curves(runs: list[Run], points_of: Callable[[Metrics], Points]) -> list[Curve]:
    return [
        Curve(run.name, place, points_of(run.metrics), run.saves())
        for place, run in enumerate(runs)
    ]


def describe_holdouts(runs: list[Run]) -> Section | None:
    names = list(dict.fromkeys(name for run in runs for name in run.metrics.holdouts()))
    if not names:
        return None
    charts = []
    for name in names:
        chart = Chart(f"Loss on {name}", "nats per target", shows_points=True)
        losses = holdout_curves(runs, lambda m, n=name: m.holdout_points(n, "loss"))
        charts.append(chart.html(losses))
        forgetting = Chart(f"Forgetting on {name}", "above the first loss", shows_points=True)
        charts.append(forgetting.html(holdout_curves(runs, lambda m, n=name: m.forgetting(n))))
    rows = [row for run in runs for row in holdout_rows(run, names, len(runs) > 1)]
    heads = [*["run"] * (len(runs) > 1), "hold-out", "first", "lowest", "at step", "last", "change"]
    kinds = "t" * (1 + (len(runs) > 1)) + "nnnnn"
    lead = "Never trained on. What a general one rises is forgetting."
    shown = table("Hold-out losses", None, heads, rows, kinds) if rows else None
    drawn = tag("div", [chart for chart in charts if chart], class_="curves")
    return section("holdouts", "Hold-outs", tag("p", lead, class_="lead"), shown, drawn)


def holdout_rows(run: Run, names: list[str], names_run: bool) -> list[list]:
    rows = []
    roles = holdout_roles(run)
    for name in names:
        points = run.metrics.holdout_points(name, "loss")
        if not points:
            continue
        step, lowest = min(points, key=lambda point: point[1])
        first, last = points[0][1], points[-1][1]
        role = roles.get(name)
        label = [foreign(name), tag("small", role) if role else None]
        cells = [f"{first:.4f}", f"{lowest:.4f}", f"{step:,}", f"{last:.4f}"]
        cells.append(f"{last - first:+.4f}")
        rows.append([*[foreign(run.name)] * names_run, label, *cells])
    return rows


def holdout_roles(run: Run) -> dict[str, str]:
    """What the configuration says each is for."""
    roles = {}
    for key, name in run.config.items():
        if key.startswith("data.holdout[") and key.endswith("].name"):
            roles[name] = run.config.get(key.removesuffix("name") + "role", "")
    return {name: role for name, role in roles.items() if role not in ("", "any")}


def describe_steps(runs: list[Run]) -> Section | None:
    """Rate, gradient and speed."""
    clip = float_of(runs[0].config.get("train.max_grad_norm")) if len(runs) == 1 else None
    span = smoothing_span(max(len(run.metrics.steps) for run in runs))
    norm = Chart("Gradient norm", "before clipping", span, True, limit=clip or None)
    rows = [
        (Chart("Learning rate", "of the weights without a group"), "learning_rate"),
        (norm, "grad_norm"),
        (Chart("Speed", "tokens per second", span), "tokens_per_second"),
        (Chart("Share of the limit", "that the matrix products alone set", span), "limit_share"),
        (Chart("Step", "seconds", span, True), "seconds"),
        (Chart("Waiting for data", "seconds of a step", span, True), "data_seconds"),
        (Chart("Forward", "seconds of a step", span, True), "forward_seconds"),
        (Chart("Backward", "seconds of a step", span, True), "backward_seconds"),
        (Chart("Exchange", "seconds of a step, waiting for ranks", span, True), "exchange_seconds"),
        (Chart("Update", "seconds of a step", span, True), "update_seconds"),
        (Chart("Saving", "seconds of a step", span, True), "save_seconds"),
        (Chart("Sent", "bytes of rank 0 in a step", span), "bytes_sent"),
        (Chart("Tokens", "of a step", span), "num_tokens"),
        (Chart("Targets", "tokens of a step that carry loss", span), "num_targets"),
        (Chart("Padding", "places of a step's rows that no token fills", span), "num_padding"),
        (Chart("Stragglers", "seconds that the slowest rank is above the mean", span, True),
         "straggler_seconds"),
        (Chart("Processors", "joules of a step", span), "cpu_joules"),
    ]
    charts = [chart.html(curves_of(runs, name)) for chart, name in rows]
    shown = [chart for chart in charts if chart]
    if not shown:
        return None
    tables = [unit_table(run, field, name, len(runs) > 1) for run in runs
              for field, name in UNIT_TABLES]  # fmt: skip
    return section("steps", "Steps", keys(runs), tag("div", shown, class_="curves"), *tables)


def unit_table(run: Run, field: str, name: str, names_run: bool) -> Html | None:
    """What was logged of each unit of the model."""
    rows = []
    for unit, points in run.metrics.by_unit(field).items():
        if points:
            step, highest = max(points, key=lambda point: point[1])
            ends = [short(points[0][1]), short(highest), f"{step:,}", short(points[-1][1])]
            rows.append([foreign(unit), *ends])
    title = f"{name} by unit of {run.name}" if names_run else f"{name} by unit"
    heads = ["unit", "first", "highest", "at step", "last"]
    return table(title, None, heads, rows, "tnnnn") if rows else None


def describe_others(runs: list[Run]) -> Section | None:
    """Numbers that this page has no words for are drawn under their own names."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics.other_fields()))
    span = smoothing_span(max(len(run.metrics.steps) for run in runs))
    charts = [Chart(name, "", span).html(curves_of(runs, name)) for name in names]
    shown = [chart for chart in charts if chart]
    if not shown:
        return None
    lead = "What else the steps record, under the names that it has there."
    return section("others", "Other values", tag("p", lead, class_="lead"),
                   tag("div", shown, class_="curves"))  # fmt: skip


def float_of(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def last_of(run: Run, name: str) -> str:
    points = run.metrics.points(name)
    return short(points[-1][1]) if points else "none"
