# SPDX-License-Identifier: Apache-2.0
"""Figures of one answer beside the right one."""

from temper_data.tasks.metrics import normalised

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


def exact_match(answer: str, right: str) -> float:
    """As SQuAD compares them."""
    return float(normalised(answer) == normalised(right))


def abstains(answer: str) -> bool:
    """Whether an answer is empty or says that it does not know."""
    text = answer.lower().replace("\u2019", "'")
    return not text.strip() or any(phrase in text for phrase in ABSTENTIONS)
