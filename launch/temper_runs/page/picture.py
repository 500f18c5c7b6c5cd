# SPDX-License-Identifier: Apache-2.0
"""The losses of one run as an SVG file of its own, for a README or slides; light and dark."""

from temper_data.page.markup import escape

from ..metrics import Points
from ..run_folder import Run
from .curve import smooth, smoothing_span, thin, usual
from .scale import Scale, short

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 470, 30, 228  # of the plot; names stand on its right
LINE = 15  # between two names
STYLE = """\
text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.n{font-size:12px;fill:#57606a}
path{fill:none;stroke-width:2;stroke-linejoin:round}.g{stroke:#d0d7de;stroke-width:1}
.r{stroke-width:1;opacity:.45}.d{stroke-width:6;stroke-linecap:round}.s{stroke:#57606a}
.c0{stroke:#0b63a8}.c1{stroke:#b8420c}.c2{stroke:#27742b}.c3{stroke:#85389f}.c4{stroke:#7d5800}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.g{stroke:#3d444d}
.s{stroke:#9198a1}.c0{stroke:#6db6f2}.c1{stroke:#ff9a62}.c2{stroke:#7fd184}.c3{stroke:#d49be8}
.c4{stroke:#e0b64a}}"""
NUM_COLOURS = 5


def make_picture(run: Run) -> str:
    """Training loss, as it is and smoothed, and each hold-out; empty if there is no step."""
    training = run.metrics.points("loss")
    if not training:
        return ""
    smoothed = smooth(training, smoothing_span(len(training)))
    curves = [("training, smoothed", smoothed)]
    curves += [(name, run.metrics.holdout_points(name, "loss")) for name in run.metrics.holdouts()]
    curves = [(name, points) for name, points in curves if points]
    steps = [step for _, points in curves for step, _ in points]
    across = Scale(min(steps), max(max(steps), min(steps) + 1))
    up = Scale.around(usual([value for _, points in [*curves, ("", training)]
                             for _, value in points]))  # fmt: skip
    drawn = [axes(across, up, run.saves()), path("r c0", training, across, up)]
    for place, (_, points) in enumerate(curves):
        colour = f"c{place % NUM_COLOURS}"
        drawn.append(path(colour, points, across, up))
        if place:  # Of a hold-out each value counts.
            drawn.append(path(f"d {colour}", points, across, up, is_dotted=True))
    told = "; ".join(f"{name} from {short(points[0][1])} to {short(points[-1][1])}"
                     for name, points in curves)  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'role="img" aria-label="{escape(f"Loss over the steps: {told}")}">\n'
        "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
        f"<style>{STYLE}</style>\n"
        '<text class="t" x="0" y="16">Loss, nats per target</text>\n'
        + "\n".join([*drawn, *names(curves, up)])
        + "\n</svg>\n"
    )


def x_of(step: float, across: Scale) -> str:
    return f"{LEFT + (RIGHT - LEFT) * across.share(step):.1f}"


def y_of(value: float, up: Scale) -> float:
    inside = min(max(value, up.low), up.high)
    return BOTTOM - (BOTTOM - TOP) * up.share(inside)


def path(kind: str, points: Points, across: Scale, up: Scale, is_dotted: bool = False) -> str:
    places = [f"{x_of(step, across)} {y_of(value, up):.1f}" for step, value in thin(points)]
    drawn = "".join(f"M{place}h0" for place in places) if is_dotted else f"M{'L'.join(places)}"
    return f'<path class="{kind}" d="{drawn}"/>'


def axes(across: Scale, up: Scale, saves: list[int]) -> str:
    """Lines and numbers; saves are ticks below."""
    parts = []
    for value in up.ticks(4):
        y = y_of(value, up)
        parts.append(f'<path class="g" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="n" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                     f"{up.label(value, 4)}</text>")  # fmt: skip
    for value in across.ticks(5):
        if value == int(value):
            parts.append(f'<text class="n" x="{x_of(value, across)}" y="{BOTTOM + 20}" '
                         f'text-anchor="middle">{int(value):,}</text>')  # fmt: skip
    inside = [step for step in saves if across.low <= step <= across.high]
    marks = "".join(f"M{x_of(step, across)} {BOTTOM}v-8" for step in inside)
    parts += [f'<path class="s" d="{marks}"/>'] if marks else []
    words = "step; ticks: checkpoints" if marks else "step"
    parts.append(f'<text class="n" x="{RIGHT + 18}" y="{BOTTOM + 20}">{words}</text>')
    return "\n".join(parts)


def names(curves: list[tuple[str, Points]], up: Scale) -> list[str]:
    """Each beside the end of its curve, as far as they leave room to each other."""
    ends = sorted((y_of(points[-1][1], up), place) for place, (_, points) in enumerate(curves))
    made, lowest = [], TOP - LINE
    for y, place in ends:
        lowest = max(y, lowest + LINE)
        name, points = curves[place]
        made.append(f'<path class="c{place % NUM_COLOURS}" d="M{RIGHT + 6} {lowest:.1f}h8"/>'
                    f'<text class="n" x="{RIGHT + 18}" y="{lowest + 4:.1f}">{escape(name)} '
                    f"{points[-1][1]:.2f}</text>")  # fmt: skip
    return made
