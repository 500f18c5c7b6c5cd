# SPDX-License-Identifier: Apache-2.0
"""What shards hold, in lines for a terminal."""

from .joint_shards import JointShards
from .page.markup import number, percent
from .shard_lengths import Distribution, ShardLengths
from .shard_model import describe_origin

BAR = 40  # characters of the longest bar


def summarise(shards: JointShards) -> str:
    lengths = ShardLengths(shards)
    header, count = shards.header, len(shards.paths)
    name = str(shards.paths[0]) if count == 1 else f"{count} shards, from {shards.paths[0]}"
    lines = [
        f"{name}: {header['kind']}, {number(lengths.documents)} documents, "
        f"{number(lengths.tokens)} tokens, {number(lengths.targets)} targets "
        f"({percent(lengths.targets / lengths.tokens)})",
        f"tokenizer {header['tokenizer_sha256']}, {number(header['vocab_size'])} tokens",
    ]
    lines += [f"fingerprint {one['fingerprint']}" for one in shards.headers[:10]]
    lines += describe_origin(shards)
    lines += histogram("tokens per document", lengths.lengths)
    if lengths.kind == "sft":
        lines += histogram("targets per document", lengths.trained)
    lines += ["", "rows of a batch, as the trainer fills them"]
    heads = ("tokens in a row", "rows", "cut", "left out", "filled")
    lines.append("  " + "  ".join(heads))
    for fill in lengths.fills():
        values = (number(fill.sequence_length), number(fill.rows), number(fill.cut),
                  number(fill.without_target), percent(fill.share))  # fmt: skip
        cells = [value.rjust(len(head)) for value, head in zip(values, heads, strict=True)]
        lines.append("  " + "  ".join(cells))
    return "\n".join(lines)


def histogram(name: str, values: Distribution) -> list[str]:
    buckets = values.buckets()
    most = max(count for _, _, count in buckets)
    spans = [f"{low:,} to {high:,}" if low < high else f"{low:,}" for low, high, _ in buckets]
    wide, digits = max(map(len, spans)), len(number(most))
    lines = ["", f"{name}: {values.summary()}"]
    for text, (_, _, count) in zip(spans, buckets, strict=True):
        length = -(-BAR * count // most)
        lines.append(f"  {text:>{wide}}  {count:>{digits},}  {'#' * length}".rstrip())
    return lines
