# SPDX-License-Identifier: Apache-2.0
"""One preparation from recipe to published shards and report."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from .atomic_file import remove_leftovers, write_text
from .digest_set import DigestSet
from .documents import MAX_EXAMPLES, DocumentMaker, Prepared
from .errors import DataError, printable
from .model_tokenizer import ModelTokenizer, load_model_tokenizer
from .progress import Progress
from .recipe import InputFile, Recipe, find_files
from .records import read_batches
from .shard_writer import ShardIdentity, ShardWriter, sha256_of_text
from .turn_ends import end_of_turn, notes_on_turns
from .workers import prepare_in_order

PROGRAM = "temper prepare 2"  # The number grows when equal input gives other documents.
REPORT = "report.json"
MAX_LISTED_SOURCES = 100


class Preparation:
    """Checks everything first, then `run` writes `<output>/train.h5`, `holdout.h5`, the report."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.model = load_model_tokenizer(Path(recipe.model), recipe.eos_token)
        self.files = find_files(recipe)
        self.identity = identify(recipe, self.model)
        self.maker = DocumentMaker(recipe, self.model)
        self.output = Path(recipe.output)
        self.dropped: Counter = Counter()
        self.turn_ends: Counter = Counter()  # how often each end of a turn is in the shards
        self.examples: dict[str, list[str]] = {}
        self._seen = DigestSet()

    def fingerprint(self) -> str:
        """Hash of all that decides the result, but for the content of the sources."""
        parts = {
            "program": PROGRAM,
            "recipe": self.recipe.identity(),
            "tokenizer": self.model.sha256,
            "bos": self.model.bos_ids,
            "eos": self.model.eos_id,
            "named_tokens": self.model.named_tokens,
            "templates": self.model.templates if self.recipe.kind == "sft" else {},
            "stops": sorted(self.model.stop_ids),
            "files": [str(file.path) for file in self.files],
        }
        return sha256_of_text(json.dumps(parts, sort_keys=True))

    def splits(self) -> list[str]:
        """The shards this recipe makes."""
        fraction = self.recipe.holdout_fraction
        return ["train"] * (fraction < 1) + ["holdout"] * (fraction > 0)

    def run(self, progress: Progress) -> dict:
        """Does the work and returns the report. Raises DataError."""
        self.output.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.output)
        unfinished = {"recipe_fingerprint": self.fingerprint(), "shards": {}}
        write_json(self.output / REPORT, unfinished)  # Until the end nothing is up to date.
        for name in ("train", "holdout"):
            if name not in self.splits():
                (self.output / f"{name}.h5").unlink(missing_ok=True)
        sources: list[dict] = []
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(
                    ShardWriter(self.output / f"{name}.h5", self.identity)
                )
                for name in self.splits()
            }
            batches = read_batches(self.files, self.recipe.max_record_bytes, sources)
            for prepared in prepare_in_order(batches, self.maker):
                self.add(prepared, writers)
                documents = sum(writer.num_documents for writer in writers.values())
                tokens = sum(writer.num_tokens for writer in writers.values())
                progress.advance(prepared.source_bytes, documents, tokens)
            progress.finish()
            self.refuse_empty(writers)
            report = self.publish(writers, sources)
        write_json(self.output / REPORT, report)
        return report

    def add(self, prepared: Prepared, writers: dict[str, ShardWriter]) -> None:
        """Counts what was dropped, drops duplicates, sends documents to their shard."""
        self.dropped += prepared.dropped
        for reason, example in prepared.examples:
            listed = self.examples.setdefault(reason, [])
            if len(listed) < MAX_EXAMPLES:
                listed.append(example)
        fresh = np.ones(len(prepared.lengths), bool)
        if self.recipe.deduplicate:
            for number, digest in enumerate(prepared.digests):
                fresh[number] = self._seen.add(digest)
            if not fresh.all():
                self.dropped["duplicate"] += int((~fresh).sum())
        kept = prepared.turn_ends[np.repeat(fresh, prepared.num_turns)]
        ends, counts = np.unique(kept, return_counts=True)
        self.turn_ends.update(dict(zip(ends.tolist(), counts.tolist(), strict=True)))
        for name, writer in writers.items():
            chosen = fresh & (prepared.in_holdout == (name == "holdout"))
            if chosen.any():
                of_tokens = np.repeat(chosen, prepared.lengths)
                mask = None if prepared.mask is None else prepared.mask[of_tokens]
                writer.append(prepared.tokens[of_tokens], prepared.lengths[chosen], mask)

    def refuse_empty(self, writers: dict[str, ShardWriter]) -> None:
        for name, writer in writers.items():
            if writer.num_documents:
                continue
            reasons = [f"{count} {reason}" for reason, count in sorted(self.dropped.items())]
            first = [f"\n  {printable(listed[0])}" for _, listed in sorted(self.examples.items())]
            raise DataError(
                f"no document is left for {name}.h5; "
                f"dropped: {', '.join(reasons) or 'none'}{''.join(first)}",
                "correct the sources, or holdout.fraction if there are just too few documents",
            )

    def publish(self, writers: dict[str, ShardWriter], sources: list[dict]) -> dict:
        """Writes the shards and returns the report, which holds no time: equal runs are equal."""
        report = {
            "program": PROGRAM,
            "recipe": self.recipe.identity(),
            "recipe_fingerprint": self.fingerprint(),
            "dropped": dict(self.dropped),
        }
        turn_end = end_of_turn(self.turn_ends)
        origin = report | {
            "sources": sources[:MAX_LISTED_SOURCES],
            "sources_total": len(sources),
        }
        shards = {}
        for name, writer in writers.items():
            text = to_json(origin | {"split": name})
            lengths = writer.document_lengths()
            shards[name] = {
                "file": writer.path.name,
                "fingerprint": writer.publish(text, turn_end),
                "bytes": writer.path.stat().st_size,
                "documents": writer.num_documents,
                "tokens": writer.num_tokens,
                "targets": writer.num_targets,
                "tokens_per_document": describe(lengths),
            }
        return report | {
            "sources": sources,
            "examples": self.examples,
            "notes": notes_on_turns(self.turn_ends, self.model),
            "shards": shards,
        }


def identify(recipe: Recipe, model: ModelTokenizer) -> ShardIdentity:
    """What the shards say about the model. Raises DataError if kind and model do not fit."""
    if recipe.kind != "sft":
        if model.eos_id is None:
            raise DataError(
                f"{recipe.model} names no end token", "set eos_token in the recipe to one"
            )
        return ShardIdentity(recipe.kind, model.vocab_size, model.sha256, "", model.eos_id)
    for_tools = model.templates.get("tool_use", "")
    template = model.templates.get("default", for_tools)
    if not template:
        names = f"; it has {', '.join(sorted(model.templates))}" if model.templates else ""
        raise DataError(
            f"{recipe.model} has no chat template named default or tool_use{names}"
            if names else f"{recipe.model} has no chat template",
            "put the model's chat_template.jinja into the folder",
        )  # fmt: skip
    if "strftime_now" in template + for_tools and not recipe.date:
        raise DataError(
            "the chat template writes today's date",
            "set date: YYYY-MM-DD in the recipe, so that equal input gives equal bytes",
        )
    identity = (recipe.kind, model.vocab_size, model.sha256, template, model.eos_id)
    return ShardIdentity(*identity, for_tools)


def to_json(value: dict, indent: int | None = None) -> str:
    """JSON that UTF-8 can hold: half a surrogate pair, as of a file's name that is no UTF-8, is
    written as an escape, from which JSON's readers make the same again."""
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, value: dict) -> None:
    write_text(path, to_json(value, indent=2) + "\n")


def describe(lengths: np.ndarray) -> dict:
    """Median, 95th percentile and maximum, in tokens."""
    ordered = np.sort(lengths)
    rank = {"median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: int(ordered[int(share * (len(ordered) - 1))]) for name, share in rank.items()}


def total_bytes(files: list[InputFile]) -> int:
    return sum(file.path.stat().st_size for file in files)
