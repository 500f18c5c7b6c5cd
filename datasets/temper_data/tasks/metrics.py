# SPDX-License-Identifier: Apache-2.0
"""What is counted of a model's answers, each figure with its standard error.

Means have that of a mean, sqrt(sum (x - mean)^2 / (n - 1) / n), as lm-evaluation-harness has it;
a ratio of sums s over n that of Cochran, "Sampling Techniques", 1977, equation 2.46.
"""

import functools
import math
import re
import string
from collections import Counter
from dataclasses import dataclass

from ..errors import DataError

ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Figure:
    value: float
    standard_error: float | None  # None for fewer than two examples


def mean(values: list[float]) -> Figure:
    value = math.fsum(values) / len(values)
    if len(values) < 2:
        return Figure(value, None)
    squares = math.fsum((x - value) ** 2 for x in values)
    return Figure(value, math.sqrt(squares / (len(values) - 1) / len(values)))


def ratio(sums: list[float], counts: list[int]) -> Figure:
    total = sum(counts)
    value = math.fsum(sums) / total
    if len(sums) < 2:
        return Figure(value, None)
    squares = math.fsum((s - value * n) ** 2 for s, n in zip(sums, counts, strict=True))
    return Figure(value, math.sqrt(len(sums) / (len(sums) - 1) * squares) / total)


def exponential(figure: Figure) -> Figure:
    """Of a figure, with the error to first order."""
    value = math.exp(figure.value)
    error = figure.standard_error
    return Figure(value, None if error is None else value * error)


def best(scores: list[float]) -> int:
    """The first of the highest."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def normalised(text: str) -> str:
    """Without case, punctuation, articles and runs of white space, as SQuAD's evaluation."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact_match(answer: str, right: str) -> float:
    """White space around them apart."""
    return float(answer.strip() == right.strip())


def f1(answer: str, right: str) -> float:
    """Of words, after `normalised`. Source: Rajpurkar et al., "SQuAD", arXiv:1606.05250."""
    said, wanted = normalised(answer).split(), normalised(right).split()
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def chrf(answer: str, right: str) -> float:
    """sacrebleu's of one sentence, from 0 to 1."""
    return load_chrf().sentence_score(answer, [right]).score / 100.0


def load_chrf():
    """Raises DataError if sacrebleu is not installed."""
    try:
        from sacrebleu.metrics import CHRF
    except ImportError as error:
        raise not_installed("chrf", "sacrebleu") from error
    return CHRF()


def rouge(kind: str, answer: str, right: str) -> float:
    """F1 of Google's rouge-score, without its stemmer: `rouge1` and `rouge2` of words and pairs of
    words, `rougeL` of the longest common subsequence. Its words are of a to z and digits.

    Source: Lin, "ROUGE", 2004.
    """
    return load_rouge().score(right, answer)[kind].fmeasure


@functools.cache
def load_rouge():
    """Raises DataError if rouge-score is not installed."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise not_installed("rouge", "rouge-score") from error
    return RougeScorer(ROUGE)


def not_installed(metric: str, library: str) -> DataError:
    remedy = f"run launch/setup --lm-eval, or leave {metric} out of the task's metrics"
    return DataError(f"{metric} needs {library}, which is not installed", remedy)


ROUGE = ("rouge1", "rouge2", "rougeL")
GENERATED = {"exact_match": exact_match, "f1": f1, "chrf": chrf} | {
    kind: functools.partial(rouge, kind) for kind in ROUGE
}
LIBRARIES = {"chrf": load_chrf} | dict.fromkeys(ROUGE, load_rouge)
