# SPDX-License-Identifier: Apache-2.0
"""Intervals of means and of their differences, by a paired bootstrap."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two, with its interval."""

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Sample:
    """A figure of one arm: its mean, and the means of resampled questions and seeds."""

    values: np.ndarray  # [seed, question]
    arm: int  # its number: seeds of two arms have nothing to do with each other

    @cached_property
    def draws(self) -> np.ndarray:
        """[draw]. The questions of a draw are the same for all arms, which makes them pairs."""
        seeds, questions = self.values.shape
        picked = np.random.default_rng(0).integers(0, questions, (DRAWS, questions))
        own = np.random.default_rng([1, self.arm]).integers(0, seeds, (DRAWS, seeds))
        return np.array([
            self.values[np.ix_(own[draw], picked[draw])].mean() for draw in range(DRAWS)
        ])  # fmt: skip

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def estimate(self) -> Estimate:
        return estimate(self.mean, self.draws)

    def minus(self, other: "Sample") -> Estimate:
        """The difference of two arms on the same questions."""
        return estimate(self.mean - other.mean, self.draws - other.draws)


def estimate(value: float, draws: np.ndarray) -> Estimate:
    """With the percentile interval. Source: Efron and Tibshirani, 1993, chapter 13."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))
