# SPDX-License-Identifier: Apache-2.0
"""Curves made ready to be drawn: smoothed, and with no more points than a screen shows."""

from ..metrics import Points

COLUMNS = 500  # that a chart tells apart; it is a few hundred pixels wide
FEW = 500  # values that are all shown
FAR = 2.0  # times the range of the usual values, that are still shown; arbitrary
SMOOTHED_SHARE = 30  # of the steps, one part of so many counts as the near past; arbitrary


def smoothing_span(num_steps: int) -> int:
    return max(3, num_steps // SMOOTHED_SHARE)


def smooth(points: Points, span: int) -> Points:
    """The mean of all values so far, of which each weighs less the older it is: the exponential
    moving average with 2 / (span + 1) as the newest one's share, corrected for its begin."""
    share = 2.0 / (span + 1)
    total = weight = 0.0
    made = []
    for step, value in points:
        total = (1 - share) * total + share * value
        weight = (1 - share) * weight + share
        made.append((step, total / weight))
    return made


def usual(values: list[float]) -> list[float]:
    """Without the few that lie so far out that they would make a line of all others: of many values
    the lowest and the highest five hundredth, if these are most of the range."""
    if len(values) < FEW:
        return values
    ordered = sorted(values)
    cut = len(ordered) // 500
    inside = ordered[cut : len(ordered) - cut]
    is_far = ordered[-1] - ordered[0] > FAR * (inside[-1] - inside[0])
    return inside if is_far else values


def thin(points: Points, columns: int = COLUMNS) -> Points:
    """Of each column the first, the lowest, the highest and the last point, so that the line is
    drawn as with all of them."""
    if len(points) <= 4 * columns:
        return points
    begin, end = points[0][0], points[-1][0]
    groups: dict[int, Points] = {}
    for point in points:
        groups.setdefault((point[0] - begin) * columns // (end - begin + 1), []).append(point)
    made = []
    for group in groups.values():
        low, high = min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])
        made += sorted({group[0], low, high, group[-1]})
    return made
