# SPDX-License-Identifier: Apache-2.0
"""From values to places on an axis, and the numbers that stand beside it."""

import math
from dataclasses import dataclass

SIZE = 1000  # of a chart's inside in both directions, whatever it has on the screen
MIN_RATIO = 50  # between the ends of an axis that asks for logarithms; arbitrary


@dataclass(frozen=True)
class Scale:
    """The range of an axis, which is never empty."""

    low: float
    high: float
    is_log: bool = False

    @staticmethod
    def around(values: list[float], may_log: bool = False) -> "Scale":
        """All of `values`, and a little room."""
        low, high = min(values), max(values)
        if may_log and low > 0 and high / low >= MIN_RATIO:
            return Scale(low / 1.2, high * 1.2, True)
        room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
        bottom = low - room
        return Scale(0.0 if low >= 0 > bottom else bottom, high + room)

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, wanted: int) -> list[float]:
        """Round numbers inside, about as many as wanted."""
        if self.is_log:
            made = [d * 10.0**e for e in self._exponents() for d in (1, 2, 5)]
            inside = [value for value in made if self.low <= value <= self.high]
            tens = [value for value in inside if math.log10(value) % 1 == 0]
            return tens if len(tens) >= 3 else inside
        raw = (self.high - self.low) / wanted
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]

    def label(self, value: float, wanted: int) -> str:
        """Of a tick, with the digits that tell it from the next one."""
        ticks = self.ticks(wanted)
        if self.is_log or len(ticks) < 2 or not 1e-3 <= abs(ticks[1] - ticks[0]) < 1e6:
            return short(value)
        digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        return f"{value:,.{digits}f}"

    def _exponents(self) -> range:
        return range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)


def short(value: float) -> str:
    """A number with as many digits as a person compares."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        digits = digits.rstrip("0").rstrip(".")
        return f"{digits}e{int(exponent)}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
