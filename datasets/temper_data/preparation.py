# SPDX-License-Identifier: Apache-2.0
"""One preparation from recipe to published shards and report."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from .atomic_file import Publication, remove_leftovers
from .balanced_classes import notes_on_balance, shares_in
from .bad_records import stop_at_bad_record
from .decontamination import QUARANTINE
from .disk_space import explained_fullness
from .documents import MAX_EXAMPLES, DocumentMaker, Prepared
from .errors import DataError, printable
from .exact_copies import DUPLICATE, ExactCopies
from .evaluation_set import EvaluationSet
from .filters.contradictions import Contradictions
from .filters.findings import Findings
from .filters.repeated_lines import RepeatedLines
from .json_text import to_json, write_json
from .known_templates import advice, with_template
from .layout_guess import guess_layouts, list_guesses
from .licences import note_on_licenses, with_statements
from .line_counts import count_lines, require_equal
from .model_tokenizer import ModelTokenizer, load_model_tokenizer
from .parts import JoinedParts
from .progress import Progress
from .recipe import InputFile, Recipe, find_files
from .records import read_batches
from .report_page import PAGE, settle_page
from .second_pass import SecondPass
from .shard_set import ShardSet, describe_set, existing_shards
from .shard_writer import ShardIdentity, sha256_of_text
from .turn_ends import end_of_turn, notes_on_turns
from .workers import prepare_in_order

PROGRAM = "temper prepare 5"  # The number grows when equal input gives other documents.
REPORT = "report.json"
MAX_LISTED_SOURCES = 100


class Preparation:
    """Checks everything first, then `run` writes `<output>/train.h5`, `holdout.h5`, the report."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        model = load_model_tokenizer(Path(recipe.model), recipe.eos_token)
        self.model = with_template(model, recipe.conversations.chat_template)
        found, self.left_out = find_files(recipe)
        self.files = guess_layouts(found, recipe.max_record_bytes)
        self.guesses = list_guesses(found, self.files)
        self.identity = identify(recipe, self.model)
        self.maker = DocumentMaker(recipe, self.model)
        self.output = Path(recipe.output)
        self.dropped: Counter = Counter()
        self.turn_ends: Counter = Counter()  # how often each end of a turn is in the shards
        self.examples: dict[str, list[str]] = {}
        self.findings = Findings()
        self.contradictions = Contradictions(recipe.filters.conversation.max_questions)
        self.evaluation = EvaluationSet(recipe) if recipe.overlap.evaluation else None
        self.copies = ExactCopies(self.model, self.output) if recipe.deduplicate else None

    def fingerprint(self) -> str:
        """Hash of all that decides the result, but for the content of the sources."""
        parts = {
            "program": PROGRAM,
            "recipe": self.recipe.identity(),
            "tokenizer": self.model.sha256,
            "vocab_size": self.model.vocab_size,
            "bos": self.model.bos_ids,
            "eos": self.model.eos_id,
            "named_tokens": self.model.named_tokens,
            "templates": self.model.templates if self.recipe.kind == "sft" else {},
            "stops": sorted(self.model.stop_ids),
            "files": [str(file.path) for file in self.files],
            "evaluation": self.evaluation.digests() if self.evaluation else [],
        }
        return sha256_of_text(json.dumps(parts, sort_keys=True))

    def splits(self) -> list[str]:
        """The shards this recipe makes."""
        fraction = self.recipe.holdout_fraction
        return ["train"] * (fraction < 1) + ["holdout"] * (fraction > 0)

    def run(self, progress: Progress, joined: JoinedParts | None = None) -> dict:
        """Does the work, or what `joined` parts left of it, and returns the report.

        Raises DataError.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.output)
        unfinished = {"recipe_fingerprint": self.fingerprint(), "shards": {}}
        write_json(self.output / REPORT, unfinished)  # Until the end nothing is up to date.
        sources: list[dict] = []
        with ExitStack() as stack:
            shards = {
                name: stack.enter_context(
                    ShardSet(self.output, name, self.identity, self.recipe.shard_tokens)
                )
                for name in self.splits()
            }
            second = None
            if self.recipe.compares_documents():
                parts = (self.recipe, self.model, self.evaluation, self.drop)
                second = stack.enter_context(SecondPass(*parts))
            if self.copies:
                stack.enter_context(self.copies)
            stack.enter_context(explained_fullness(self.output, progress, self.identity))
            before = [] if joined else self.count_lines(progress)
            results = joined.results(sources) if joined else self.prepared(sources)
            for prepared, fresh in self.read(results):
                if second is None:
                    self.send(prepared, fresh, shards)
                else:
                    second.add(prepared, fresh)
                counts = int(fresh.sum()), int(prepared.lengths[fresh].sum())
                progress.advance(prepared.source_bytes, *counts)
            progress.finish()
            require_equal(before, sources[: len(before)])
            for prepared, kept in second.results() if second else ():
                self.send(prepared, kept, shards)
            self.refuse_empty(shards)
            report = self.publish(shards, sources, second)
        settle_page(self.output, report, self.model, self.recipe.page)
        return report

    def prepared(self, sources: list[dict]) -> Iterator[Prepared]:
        """All batches, worked at here. Adds each file that was read to `sources`."""
        batches = read_batches(self.files, self.recipe.max_record_bytes, sources)
        return prepare_in_order(batches, self.maker)

    def count_lines(self, progress: Progress) -> list[dict]:
        """The first pass, if the recipe asks for one: what it read, for comparison."""
        options = self.recipe.filters.repeated_lines
        if not options.min_documents:
            return []
        first_pass = progress.restarted(total_bytes(self.files))
        table, described = count_lines(self.recipe, self.files, first_pass)
        self.maker.filters.repeated = RepeatedLines(options, table)
        return described

    def drop(self, reason: str, example: str) -> None:
        self.dropped[reason] += 1
        self.add_example(reason, example)

    def add_example(self, reason: str, example: str) -> None:
        listed = self.examples.setdefault(reason, [])
        if len(listed) < MAX_EXAMPLES:
            listed.append(example)

    def read(self, results: Iterator[Prepared]) -> Iterator[tuple[Prepared, np.ndarray]]:
        """All documents, and which are no exact copies, bool [documents].

        Counts what was dropped. Raises DataError.
        """
        for prepared in results:
            if self.recipe.on_error == "stop":
                stop_at_bad_record(prepared)
            self.dropped += prepared.dropped
            self.findings.add(prepared.findings)
            for asked in prepared.asked:
                self.contradictions.add(asked)
            for reason, example in prepared.examples:
                self.add_example(reason, example)
            if self.copies:
                yield prepared, self.copies.fresh(prepared)
            else:
                yield prepared, np.ones(len(prepared.lengths), bool)
        if self.copies:
            self.copies.finish()
        if self.copies and self.copies.num_copies:
            self.dropped[DUPLICATE] += self.copies.num_copies
            self.examples[DUPLICATE] = self.copies.examples

    def send(self, prepared: Prepared, kept: np.ndarray, shards: dict[str, ShardSet]) -> None:
        """Puts the documents that are kept into their shard."""
        turns = prepared.turn_ends[np.repeat(kept, prepared.num_turns)]
        ends, counts = np.unique(turns, return_counts=True)
        self.turn_ends.update(dict(zip(ends.tolist(), counts.tolist(), strict=True)))
        for name, shard in shards.items():
            chosen = kept & (prepared.in_holdout == (name == "holdout"))
            if chosen.any():
                of_tokens = np.repeat(chosen, prepared.lengths)
                mask = None if prepared.mask is None else prepared.mask[of_tokens]
                shard.append(prepared.tokens[of_tokens], prepared.lengths[chosen], mask)

    def refuse_empty(self, shards: dict[str, ShardSet]) -> None:
        for name, shard in shards.items():
            if shard.num_documents:
                continue
            reasons = [f"{count} {reason}" for reason, count in sorted(self.dropped.items())]
            first = [f"\n  {printable(listed[0])}" for _, listed in sorted(self.examples.items())]
            raise DataError(
                f"no document is left for {name}.h5; "
                f"dropped: {', '.join(reasons) or 'none'}{''.join(first)}",
                "correct the sources, or holdout.fraction if there are just too few documents",
            )

    def publish(
        self, shards: dict[str, ShardSet], sources: list[dict], second: SecondPass | None
    ) -> dict:
        """Publishes shards and report, all or none, and returns the report.

        It holds no time: equal runs are equal.
        """
        with Publication() as publication:
            found = second.report if second else {}
            report = self.write(shards, sources, publication, found)
            if second is not None:
                second.publish(publication)
            write_json(publication.add(self.output / REPORT), report)
            names = [*existing_shards(self.output), QUARANTINE, PAGE]
            publication.commit([self.output / name for name in names])
        return report

    def write(
        self, shards: dict[str, ShardSet], sources: list[dict], publication: Publication,
        found: dict,
    ) -> dict:  # fmt: skip
        """Writes the shards and returns the report, with what the second pass found."""
        report = {
            "program": PROGRAM,
            "recipe": self.recipe.identity(),
            "recipe_fingerprint": self.fingerprint(),
            "dropped": dict(self.dropped),
        }
        turn_end = end_of_turn(self.turn_ends)
        sources = with_statements(sources, self.files)
        origin = report | {
            "sources": sources[:MAX_LISTED_SOURCES],
            "sources_total": len(sources),
        }
        described = {}
        for name, shard in shards.items():
            lengths = describe(shard.length_counts())
            own = origin | {"split": name}
            if name == "train" and "balance" in found:
                own["balance"] = shares_in(found["balance"])
            files = shard.write(publication, to_json(own), turn_end)
            described[name] = describe_set(files, self.recipe.shard_tokens > 0)
            described[name]["tokens_per_document"] = lengths
        return report | found | {
            "model": self.recipe.model,
            "layouts": self.guesses,
            "sources": sources,
            "examples": self.examples,
            "notes": [
                *self.model.notes,
                *notes_on_turns(self.turn_ends, self.model),
                *self.left_out,
                *note_on_licenses(self.recipe.sources),
                *self.findings.notes(),
                *notes_on_balance(found.get("balance", [])),
            ],
            "filters": self.describe_filters(),
            "duplicates": self.copies.report if self.copies else None,
            "shards": described,
        }

    def describe_filters(self) -> dict:
        """What the filters dropped, changed and found."""
        report = self.findings.report()
        if self.recipe.filters.conversation.contradictions:
            report["contradictions"] = self.contradictions.report()
        return report


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
        names = ", ".join(sorted(model.templates))
        raise DataError(
            f"{recipe.model} has no chat template"
            + f" named default or tool_use; it has {names}" * bool(names),
            f"put the model's chat_template.jinja into the folder, or {advice(model)}",
        )
    if "strftime_now" in template + for_tools and not recipe.date:
        raise DataError(
            "the chat template writes today's date",
            "set date: YYYY-MM-DD in the recipe, so that equal input gives equal bytes",
        )
    identity = (recipe.kind, model.vocab_size, model.sha256, template, model.eos_id)
    return ShardIdentity(*identity, for_tools)


def describe(counts: Counter[int]) -> dict:
    """Median, 95th percentile and maximum, in tokens, of documents counted by their tokens."""
    lengths = sorted(counts)
    ends = np.cumsum([counts[length] for length in lengths])  # Ranks below these.
    shares = {"median": 0.5, "p95": 0.95, "max": 1.0}
    ranks = {name: int(share * (int(ends[-1]) - 1)) for name, share in shares.items()}
    return {name: lengths[np.searchsorted(ends, rank, "right")] for name, rank in ranks.items()}


def total_bytes(files: list[InputFile]) -> int:
    return sum(file.path.stat().st_size for file in files)
