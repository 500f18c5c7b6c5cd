# SPDX-License-Identifier: Apache-2.0
"""Figures of one answer beside the right one."""

import re
import string
from collections import Counter

# What an answer says that does not know; in lower case. Of the models' own ways to say so.
ABSTENTIONS = (
    "i do not know", "i don't know", "do not have information", "don't have information",
    "no information", "not in the manual", "not mentioned", "does not mention", "doesn't mention",
    "not specified in", "does not say", "doesn't say", "not documented", "does not exist",
    "doesn't exist", "no such option", "not a valid option", "not a standard option",
    "unknown option", "cannot find", "can't find", "could not find", "couldn't find",
    "not aware of", "not familiar with", "i'm not sure", "i am not sure", "unable to answer",
    "cannot answer", "can't answer",
)  # fmt: skip


def normalised(text: str) -> list[str]:
    """Words as SQuAD compares them: lower case, without punctuation and articles."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def exact_match(answer: str, right: str) -> float:
    return float(normalised(answer) == normalised(right))


def f1(answer: str, right: str) -> float:
    """The harmonic mean of the shares of words that both have.

    Source: Rajpurkar et al., arXiv:1606.05250, section 6.1.
    """
    said, wanted = normalised(answer), normalised(right)
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def abstains(answer: str) -> bool:
    """Whether an answer is empty or says that it does not know."""
    text = answer.lower().replace("\u2019", "'")
    return not text.strip() or any(phrase in text for phrase in ABSTENTIONS)
