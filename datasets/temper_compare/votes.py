# SPDX-License-Identifier: Apache-2.0
"""What people chose on the blind page: win rates, strengths, and how far they agree."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from temper_data.errors import DataError

from .bootstrap import DRAWS, Estimate, estimate

PRIOR = 0.5  # wins that each of two arms gets over the other, so that no strength is infinite
ROUNDS = 10_000
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Vote:
    """One choice. `won` is 1 if `first` was better, 0 if `second` was, 0.5 for neither."""

    rater: str
    pair: int
    question: int
    first: str  # the names of the arms, in the order of the alphabet
    second: str
    won: float


def read_votes(key_path: Path, paths: list[Path]) -> list[Vote]:
    """Raises DataError for files that do not belong together or were changed."""
    key = read_json(key_path, ("page", "pairs"))
    questions = list(dict.fromkeys(pair["question"] for pair in key["pairs"]))
    votes, raters = [], set()
    for path in paths:
        given = read_json(path, ("page", "rater", "votes"))
        rater = given["rater"] or path.stem
        if given["page"] != key["page"]:
            raise DataError(
                f"{path} is of the page {given['page']}, {key_path} of {key['page']}",
                "name the blind-key.json that was written with the page",
            )
        if rater in raters:
            raise DataError(f"{path}: the rater '{rater}' has a file already", "name each once")
        raters.add(rater)
        for vote in given["votes"]:
            try:
                pair = key["pairs"][vote["pair"]]
                won = {1: 1.0, 2: 0.0, 0: 0.5}[vote["choice"]]
            except (KeyError, IndexError, TypeError) as error:
                raise DataError(f"{path} has the vote {vote}", "save it from the page") from error
            first, second = pair["first"], pair["second"]
            if first > second:
                first, second, won = second, first, 1 - won
            question = questions.index(pair["question"])
            votes.append(Vote(rater, vote["pair"], question, first, second, won))
    if not votes:
        raise DataError(f"{', '.join(map(str, paths))} hold no votes", "name files with some")
    return votes


def read_json(path: Path, keys: tuple[str, ...]) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}", "name blind-key.json and files of votes") from error
    if not isinstance(value, dict) or any(key not in value for key in keys):
        raise DataError(f"{path} lacks one of {', '.join(keys)}", "save it from the page again")
    return value


def with_interval(votes: list[Vote], figure: Callable[[list[Vote]], float]) -> Estimate:
    """Of a figure of votes, by resampling questions with all that was said about them."""
    groups: dict[int, list[Vote]] = {}
    for vote in votes:
        groups.setdefault(vote.question, []).append(vote)
    parts = list(groups.values())
    random = np.random.default_rng(0)
    draws = [
        figure([vote for place in random.integers(0, len(parts), len(parts))
                for vote in parts[place]])
        for _ in range(DRAWS)
    ]  # fmt: skip
    known = [draw for draw in draws if not np.isnan(draw)]
    return estimate(figure(votes), np.array(known or [np.nan]))


def win_rate(votes: list[Vote], first: str, second: str) -> float:
    """How often `first` was better, ties counted half."""
    wins = [vote.won for vote in votes if (vote.first, vote.second) == (first, second)]
    return float(np.mean(wins)) if wins else float("nan")


def strengths(votes: list[Vote]) -> dict[str, float]:
    """Natural log-odds of the Bradley-Terry model, with mean zero; a tie is half a win of each.

    Source: Hunter, "MM algorithms for generalized Bradley-Terry models", 2004, equation 3.
    """
    names = sorted({name for vote in votes for name in (vote.first, vote.second)})
    wins = np.zeros((len(names), len(names)))  # [winner, loser]
    for vote in votes:
        a, b = names.index(vote.first), names.index(vote.second)
        wins[a, b] += vote.won
        wins[b, a] += 1 - vote.won
    wins += PRIOR * ((wins + wins.T) > 0)
    games, strength = wins + wins.T, np.ones(len(names))
    for _ in range(ROUNDS):
        share = games / (strength[:, None] + strength[None, :])
        new = wins.sum(1) / share.sum(1)
        new /= np.exp(np.log(new).mean())
        moved = np.abs(new - strength).max()
        strength = new
        if moved < TOLERANCE:
            break
    return dict(zip(names, np.log(strength).tolist(), strict=True))


def agreement(votes: list[Vote]) -> float:
    """How often two people chose the same of a pair that both have seen; NaN if there is none."""
    of_pair: dict[int, list[float]] = {}
    for vote in votes:
        of_pair.setdefault(vote.pair, []).append(vote.won)
    same = [a == b for choices in of_pair.values() for a, b in combinations(choices, 2)]
    return float(np.mean(same)) if same else float("nan")


def describe_votes(votes: list[Vote]) -> list[str]:
    """Lines for a person."""
    raters = {vote.rater for vote in votes}
    lines = [f"raters={len(raters)} votes={len(votes)}"]
    for first, second in sorted({(vote.first, vote.second) for vote in votes}):
        rate = with_interval(votes, lambda some: win_rate(some, first, second))  # noqa: B023
        verdict = "" if rate.low > 0.5 or rate.high < 0.5 else ": no difference beyond the interval"
        lines.append(f"{first} is better than {second} in {share(rate)}{verdict}")
    names = strengths(votes)
    if len(names) > 2:
        for name in sorted(names, key=names.get, reverse=True):
            by = with_interval(votes, lambda some: strengths(some).get(name, np.nan))  # noqa: B023
            lines.append(f"strength of {name}: {by.value:.2f} ({by.low:.2f} to {by.high:.2f})")
    else:
        lines += [f"strength of {name}: {value:.2f}" for name, value in names.items()]
    both = agreement(votes)
    if np.isnan(both):
        lines.append("agreement: no pair was seen by two people")
    else:
        lines.append(f"two people agree on {share(with_interval(votes, agreement))}")
    return lines


def share(found: Estimate) -> str:
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f} %)"
