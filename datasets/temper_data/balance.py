# SPDX-License-Identifier: Apache-2.0
"""Classes of documents, such as topics or tasks, that get set shares of the training tokens."""

from dataclasses import dataclass

import numpy as np

from .columns import look_up
from .errors import RecordRefusal, is_unicode
from .model_tokenizer import HALF_PAIR, NO_UNICODE
from .section import Section

NO_CLASS = "no class"
MAX_NAME = 100  # characters of a class's name: what is longer is no class; arbitrary
CLOSE = 1e-3  # of a class's share, that may be missing before documents are looked for that fit


@dataclass(frozen=True)
class Balance:
    """How the classes of a source, or of all, share its training tokens."""

    by: str = ""  # the field that names the class, with dots as in `columns`; "": no balance
    temperature: float = 0.0  # 0: equal shares; else tokens to the power of 1 / temperature
    epochs: int = 1  # how many times a document may be there, where a class is too small


def parse_options(section: Section) -> Balance:
    """The map `balance` of a section."""
    options = section.section("balance")
    if not options.tree.items:
        return Balance()
    balance = Balance(
        by=options.path("by"),
        temperature=options.number("temperature", 0.0, 0, 1000),
        epochs=options.integer("epochs", 1, 1, 1000),
    )
    if 0 < balance.temperature < 1:
        options.reject("temperature", "is below 1: large classes would grow",
                       "set 1 (shares as they are) or more, or 0 for equal shares")  # fmt: skip
    options.finish()
    return balance


def class_of(record: dict, balance: Balance) -> str:
    """The name of a record's class; "" where nothing is balanced. Raises RecordRefusal."""
    if not balance.by:
        return ""
    try:
        value = look_up(record, balance.by)
    except RecordRefusal as refusal:
        raise RecordRefusal(NO_CLASS, refusal.detail) from None
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, (str, int)):
        raise RecordRefusal(NO_CLASS, f"no text or whole number under {balance.by}")
    name = " ".join(str(value).split())
    if not is_unicode(name):
        raise RecordRefusal(NO_UNICODE, f"{balance.by} {HALF_PAIR}")
    if not 0 < len(name) <= MAX_NAME:
        detail = f"{balance.by} has {len(name)} characters; 1 to {MAX_NAME} name a class"
        raise RecordRefusal(NO_CLASS, detail)
    return name


def shares_of(tokens: np.ndarray, temperature: float) -> np.ndarray:
    """What part of all tokens each class is to have, with sum 1.

    Shapes: tokens [classes], all above 0; result float64 [classes].
    """
    largest = tokens / tokens.max()
    weights = largest ** (1 / temperature) if temperature else np.ones(len(tokens))
    return weights / weights.sum()


def wanted_tokens(tokens: np.ndarray, balance: Balance) -> np.ndarray:
    """Tokens that each class is to have. Shapes: tokens [classes]; result int64 [classes].

    They are in the ratio of the shares, together as many as there are, but fewer if a class has
    too few for that even if each of its documents is there `epochs` times.
    """
    if not len(tokens):
        return np.zeros(0, np.int64)
    shares = shares_of(tokens, balance.temperature)
    most = balance.epochs * tokens
    total = min(float(tokens.sum()), float((most / shares).min()))
    return np.minimum(np.rint(total * shares), most).astype(np.int64)


def times_each(lengths: np.ndarray, order: np.ndarray, wanted: int) -> np.ndarray:
    """How many times each document of a class is there, so that it has the wanted tokens.

    All are there equally often, and once more the first by `order` that fit, with at most one that
    brings the sum nearer to what is wanted from above. Shapes: lengths [documents], order
    [documents], any numbers; result int64 [documents].
    """
    whole, room = divmod(wanted, int(lengths.sum()))
    times = np.full(len(lengths), whole, np.int64)
    rest = np.argsort(order, kind="stable")
    fitting = int(np.searchsorted(np.cumsum(lengths[rest]), room, "right"))
    times[rest[:fitting]] += 1
    room -= int(lengths[rest[:fitting]].sum())
    rest = rest[fitting:]
    while room > CLOSE * wanted:  # The next one is too long; others behind it may fit.
        rest = rest[lengths[rest] <= room]
        if not len(rest):
            break
        times[rest[0]] += 1
        room -= int(lengths[rest[0]])
        rest = rest[1:]
    rest = np.flatnonzero(times == whole)
    if len(rest):
        best = rest[np.argmin(np.abs(lengths[rest] - room))]
        times[best] += int(abs(lengths[best] - room) < room)
    return times
