# SPDX-License-Identifier: Apache-2.0
"""What a worker says of a document beyond its tokens, so that documents can be compared later."""

from dataclasses import dataclass

import numpy as np

from .conversations import Conversation
from .digest_set import digest
from .minhash import BandKeys
from .recipe import Recipe
from .text_units import units_of


@dataclass
class Trace:
    """Of one document."""

    units: np.ndarray  # uint32 [n], see text_units
    bands: np.ndarray  # uint64 [bands], see minhash; empty if nobody looks for near duplicates
    key: int  # 64-bit hash of what the hold-out goes by
    class_name: str  # in its source's balance; "" without


@dataclass
class Traces:
    """Of the documents of one batch, end to end."""

    source: str  # the path that the recipe names
    units: np.ndarray  # uint32 [n]
    num_units: np.ndarray  # int64 [documents]
    bands: np.ndarray  # uint64 [documents, bands]
    keys: np.ndarray  # uint64 [documents]
    classes: list[str]  # [documents]


class Tracer:
    """Makes traces as the recipe asks for them."""

    def __init__(self, recipe: Recipe):
        self.keys = None
        if recipe.near.action != "off":
            self.keys = BandKeys(recipe.near.threshold, recipe.near.ngram)
        self.num_bands = self.keys.bands if self.keys else 0
        self.compares_texts = recipe.compares_texts()

    def of(self, text: str, key: str, class_name: str) -> Trace:
        units = units_of(text) if self.compares_texts else np.zeros(0, np.uint32)
        bands = self.keys.of(units) if self.keys else np.zeros(0, np.uint64)
        plain = " ".join(key.split()).encode("utf-8")
        return Trace(units, bands, digest(plain), class_name)

    def gather(self, source: str, traces: list[Trace]) -> Traces:
        units = [np.zeros(0, np.uint32), *(trace.units for trace in traces)]
        bands = [trace.bands for trace in traces]
        return Traces(
            source=source,
            units=np.concatenate(units),
            num_units=np.array([len(part) for part in units[1:]], np.int64),
            bands=np.array(bands, np.uint64).reshape(len(traces), self.num_bands),
            keys=np.array([trace.key for trace in traces], np.uint64),
            classes=[trace.class_name for trace in traces],
        )


def make_tracer(recipe: Recipe) -> Tracer | None:
    """None if no document waits for others, which spares the time."""
    return Tracer(recipe) if recipe.compares_documents() else None


def text_of(conversation: Conversation) -> str:
    """What is said in it. System messages do not count: they are often the same in all rows."""
    said = []
    for message in conversation.messages:
        content = message.get("content")
        if message["role"] == "system":
            continue
        if isinstance(content, str):
            said.append(content)
        elif isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            said.extend(part for part in parts if isinstance(part, str))
        if message.get("tool_calls"):
            said.append(str(message["tool_calls"]))
    return "\n".join(said)
