# SPDX-License-Identifier: Apache-2.0
"""One chart: curves of several runs over the steps, as plain SVG in three parts.

Only the middle part is stretched to the room there is; the numbers beside the axes keep their size.
The policy of the page forbids styles of single elements, so that places are attributes.
"""

import math
from dataclasses import dataclass, field

from temper_data.page.markup import Html, escape, plural, tag

from ..metrics import Points
from .curve import smooth, thin, usual
from .scale import SIZE, Scale, short

NUM_COLOURS = 8  # as in charts.css
NUM_TICKS = 4
MAX_MARKS = 200  # of a kind on one axis; more would be a bar


@dataclass
class Curve:
    """Of one run."""

    name: str
    colour: int  # the number of the run on the page
    points: Points
    saves: list[int] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    title: str
    unit: str
    span: int = 0  # of the smoothed line; 0: there is none
    may_log: bool = False
    shows_points: bool = False  # Few values, each of which counts.
    limit: float | None = None  # drawn across, such as where gradients are clipped

    def html(self, curves: list[Curve]) -> Html | None:
        """None if there is nothing to draw."""
        curves = [curve for curve in curves if curve.points]
        if not curves:
            return None
        steps = [step for curve in curves for step, _ in curve.points]
        values = [value for curve in curves for _, value in curve.points]
        shown = usual(values)
        first, last = min(steps), max(steps)
        across = Scale(first, max(last, first + 1))
        has_limit = self.limit is not None and self.limit <= 3 * max(shown)
        up = Scale.around(shown + [self.limit] * has_limit, self.may_log)
        num_outside = sum(not up.low <= value <= up.high for value in values)
        note = f"; {plural(num_outside, 'value')} beyond the edge" if num_outside else ""
        parts = [grid(up)]
        parts += [self._limit(up)] if has_limit else []
        parts += [self._curve(curve, across, up) for curve in curves]
        parts += [marks(curve, across) for curve in curves]
        told = "; ".join(describe(curve) for curve in curves)
        inside = Html(
            f'<svg class="plot" viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(f"{self.title}: {told}")}">{"".join(parts)}</svg>'
        )
        caption = tag("figcaption", self.title, tag("small", self.unit, note), tag("output"))
        return tag(
            "figure", caption, tag("div", numbers_up(up), inside, numbers_across(across),
                                   class_="axes"),
            class_="chart", data_x=f"{across.low} {across.high}", data_y=f"{up.low!r} {up.high!r}",
            data_log="yes" if up.is_log else None, data_cut="yes" if num_outside else None,
        )  # fmt: skip

    def _curve(self, curve: Curve, across: Scale, up: Scale) -> Html:
        colour = f"c{curve.colour % NUM_COLOURS}"
        if curve.colour >= NUM_COLOURS:
            colour += " again"
        name = escape(curve.name)
        if not self.span or len(curve.points) < 4:
            made = line(curve.points, across, up, f"line {colour}", name)
        else:
            smoothed = smooth(curve.points, self.span)
            made = line(curve.points, across, up, f"raw {colour}", name)
            made += line(smoothed, across, up, f"line {colour}", f"{name} (smoothed)")
        if self.shows_points or len(curve.points) < 4:
            dots = "".join(f"M{at(step, value, across, up)}h0" for step, value in curve.points)
            made += f'<path class="dots {colour}" d="{dots}"/>'
        return Html(made)

    def _limit(self, up: Scale) -> Html:
        y = SIZE * (1 - up.share(self.limit))
        return Html(f'<path class="limit" d="M0 {y:.1f}H{SIZE}"/>')


def at(step: int, value: float, across: Scale, up: Scale) -> str:
    """What lies beyond the edge is drawn on it."""
    inside = min(max(value, up.low), up.high)
    return f"{short_place(across.share(step))} {short_place(1 - up.share(inside))}"


def short_place(share: float) -> str:
    return f"{SIZE * share:.2f}".rstrip("0").rstrip(".")


def line(points: Points, across: Scale, up: Scale, kind: str, name: str) -> str:
    places = ",".join(at(step, value, across, up) for step, value in thin(points))
    return f'<polyline class="{kind}" data-name="{name}" points="{places}"/>'


def marks(curve: Curve, across: Scale) -> Html:
    """On the axis: saves below, skipped steps above, and where a later job went on."""

    def path(kind: str, steps: list[int], stroke: str) -> str:
        inside = [step for step in steps if across.low <= step <= across.high]
        every = math.ceil(len(inside) / MAX_MARKS) or 1
        begins = (short_place(across.share(step)) for step in inside[::every])
        places = "".join(f"M{x} {stroke}" for x in begins)
        colour = f"c{curve.colour % NUM_COLOURS}"
        return f'<path class="{kind} {colour}" d="{places}"/>' if places else ""

    return Html(
        path("save", curve.saves, f"{SIZE}v-35")
        + path("restart", sorted(set(curve.restarts)), f"0v{SIZE}")
        + path("skipped", curve.skipped, "0v50")
    )


def grid(up: Scale) -> Html:
    places = "".join(f"M0 {short_place(1 - up.share(v))}H{SIZE}" for v in up.ticks(NUM_TICKS))
    return Html(f'<path class="grid" d="{places}"/>')


def numbers_up(up: Scale) -> Html:
    places = [(f"{100 * (1 - up.share(v)):.1f}%", v) for v in up.ticks(NUM_TICKS)]
    texts = "".join(
        f'<text x="100%" y="{y}" dy=".32em">{up.label(v, NUM_TICKS)}</text>' for y, v in places
    )
    return Html(f'<svg class="up" aria-hidden="true">{texts}</svg>')


def numbers_across(across: Scale) -> Html:
    whole = [value for value in across.ticks(5) if value == int(value)]
    texts = "".join(
        f'<text x="{100 * across.share(v):.1f}%" y="1em">{int(v):,}</text>' for v in whole
    )
    return Html(f'<svg class="across" aria-hidden="true">{texts}</svg>')


def describe(curve: Curve) -> str:
    """What the curve does, for those who do not see it."""
    (first, begin), (last, end) = curve.points[0], curve.points[-1]
    lowest = min(curve.points, key=lambda point: point[1])
    highest = max(curve.points, key=lambda point: point[1])
    return (
        f"{curve.name} from {short(begin)} at step {first} to {short(end)} at step {last}, "
        f"lowest {short(lowest[1])} at {lowest[0]}, highest {short(highest[1])} at {highest[0]}"
    )
