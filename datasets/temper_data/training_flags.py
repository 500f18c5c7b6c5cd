# SPDX-License-Identifier: Apache-2.0
"""Keys by which a row says what of it shall be trained, as other trainers and services read them.

`weight` is OpenAI's, Mistral's and Together's; `train` and `training` are Axolotl's, `loss` is
ms-swift's, `masked` torchtune's. What this program cannot do with such a key it refuses: ignoring
it would train what its author kept out.
"""

import re
from functools import lru_cache
from itertools import chain

from .errors import RecordRefusal

UNTRAINABLE = "training flag that is not supported"
FLAGS = {"weight": True, "train": True, "training": True, "trainable": True, "loss": True}
FLAGS |= {"masked": False}  # Key to what a 1 says: whether the message is trained.
# Keys of messages that sound like training: train_detail, loss_scale, loss_mask, labels, ...
SUSPICIOUS = re.compile(r"(^|_)(weights?|train\w*|loss|mask\w*|labels|supervised?)(_|$)", re.I)
# Keys of whole rows; a row has many more keys than a message, and "label" may be anything.
OF_ROWS = ("loss_mask", "mask", "loss_weight", "loss_scale", "sample_weight", "train_detail")
OF_ROWS += ("training_detail", "labels", "input_ids")
SPEAKING = frozenset((*OF_ROWS, *FLAGS, "label"))  # All that `check_row` looks at.


@lru_cache(1024)  # of the few keys that rows have
def is_flag(key: str) -> bool:
    return key in FLAGS or SUSPICIOUS.search(key) is not None


def read_flags(values: dict, where: str) -> bool | None:
    """Whether the flags among `values` ask for training; None without any. Null is no flag.

    Raises RecordRefusal for a flag that is not understood, and for two that disagree.
    """
    answers = {}
    for key, value in values.items():
        if value is None or not is_flag(key):
            continue
        if key not in FLAGS or not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise RecordRefusal(UNTRAINABLE, f"{where} has {key}: {value!r}")
        answers[key] = bool(value) == FLAGS[key]
    if len(set(answers.values())) > 1:
        raise RecordRefusal(UNTRAINABLE, f"{where}: {' and '.join(answers)} disagree")
    return next(iter(answers.values()), None)


def take_flags(messages: list[dict]) -> tuple[list[dict], frozenset[int]]:
    """The messages without flags, as the model will meet them, and which are not to be trained."""
    if not any(map(is_flag, chain.from_iterable(messages))):  # As almost always.
        return messages, frozenset()
    untrained = set()
    for index, message in enumerate(messages):
        asked = read_flags(message, f"message {index}")
        if asked is False:
            untrained.add(index)
        if asked and message["role"] != "assistant":
            detail = f"message {index} of role {message['role']!r} asks to be trained"
            raise RecordRefusal(UNTRAINABLE, detail)
    plain = [{k: v for k, v in message.items() if not is_flag(k)} for message in messages]
    return plain, frozenset(untrained)


def check_row(record: dict) -> None:
    """Raises RecordRefusal for a row that is not to be trained, or not as this program does it."""
    if SPEAKING.isdisjoint(record):
        return
    for key in OF_ROWS:
        if record.get(key) is not None:
            raise RecordRefusal(UNTRAINABLE, f"the row has {key}")
    if read_flags({key: record.get(key) for key in FLAGS}, "the row") is False:
        raise RecordRefusal("flagged as not to be trained")
    if record.get("label") is False:  # Of unpaired preferences: an example of what not to say.
        raise RecordRefusal("flagged as not to be trained", "label is false")
