# SPDX-License-Identifier: Apache-2.0
"""What a page shows of the shards: their documents' lengths, and some of the documents."""

from dataclasses import dataclass

from ..joint_shards import JointShards
from ..shard_lengths import ShardLengths
from ..token_pieces import Piece, TokenBytes, pieces_of

MAX_BEGINNING = 280  # tokens of a sample's beginning, and of its end: with MAX_END all, if it fits
MAX_END = 120


@dataclass(frozen=True)
class Sample:
    """A document, all of it or its beginning and end."""

    split: str
    number: int  # of its split, from 0
    length: int  # tokens
    beginning: list[Piece]
    end: list[Piece]

    @property
    def left_out(self) -> int:
        """Tokens between beginning and end."""
        return self.length - len(self.beginning) - len(self.end)


@dataclass(frozen=True)
class Split:
    """One shard, or one set of them."""

    name: str
    header: dict
    lengths: ShardLengths
    samples: list[Sample]


def collect(name: str, shards: JointShards, vocabulary: TokenBytes, num_samples: int) -> Split:
    """Reads the shards once, and the documents at equal distances a second time."""
    count = min(num_samples, shards.num_documents)
    numbers = [place * shards.num_documents // count for place in range(count)]
    samples = [take_sample(name, shards, number, vocabulary) for number in numbers]
    return Split(name, shards.header, ShardLengths(shards), samples)


def take_sample(name: str, shards: JointShards, number: int, vocabulary: TokenBytes) -> Sample:
    most = MAX_BEGINNING + MAX_END
    ids, mask, length = shards.document(number, 0, most)
    if length <= most:
        return Sample(name, number, length, pieces_of(ids, mask, vocabulary), [])
    beginning = pieces_of(ids[:MAX_BEGINNING], mask[:MAX_BEGINNING], vocabulary)
    ids, mask, _ = shards.document(number, length - MAX_END)
    return Sample(name, number, length, beginning, pieces_of(ids, mask, vocabulary))
