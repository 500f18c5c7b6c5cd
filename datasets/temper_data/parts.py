# SPDX-License-Identifier: Apache-2.0
"""One preparation shared by several processes, each of which works at a part of the source bytes.

What depends on one record alone is done by the parts, and what needs them all by the process that
joins them: it takes the parts' batches in order, as a single process would have made them.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from .atomic_file import published, remove_leftovers
from .bad_records import stop_at_bad_record
from .disk_space import explained_fullness
from .documents import Prepared
from .errors import DataError
from .part_file import PartReader, PartWriter
from .recipe import InputFile
from .records import Batch, read_batches
from .workers import prepare_in_order

FOLDER = "parts"  # in the output folder
FORMAT = "temper part 2"
PART_NAME = re.compile(r"(\d{5})-of-(\d{5})\.part")
PART_FORM = re.compile(r"(0|[1-9]\d{0,4})/([1-9]\d{0,4})")
SLURM_FORM = re.compile(r"slurm(/([1-9]\d{0,4}))?")
ARRAY = "sbatch --array=0-7"


@dataclass(frozen=True)
class Part:
    """Which share of the work a process does."""

    number: int  # from 0
    of: int

    @property
    def file_name(self) -> str:
        return f"{self.number:05}-of-{self.of:05}.part"


def parse_part(text: str, environment: Mapping[str, str]) -> Part:
    """From K/N, or from Slurm's array job for `slurm` or `slurm/N`. Raises DataError."""
    if given := PART_FORM.fullmatch(text):
        number, of = int(given[1]), int(given[2])
    elif given := SLURM_FORM.fullmatch(text):
        number, of = part_of_array(environment, int(given[2] or 0))
    else:
        problem = f"--part is '{text}'"
        raise DataError(problem, "set it to K/N, such as 0/8, or to slurm within an array job")
    if number >= of:
        problem = f"there is no part {number} of {of}"
        raise DataError(problem, f"the parts of {of} are numbered 0 to {of - 1}")
    return Part(number, of)


def part_of_array(environment: Mapping[str, str], of: int) -> tuple[int, int]:
    """The task's number, and `of` or else the number of tasks."""
    try:
        number = int(environment["SLURM_ARRAY_TASK_ID"])
        first, last, count = (
            int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("MIN", "MAX", "COUNT")
        )
    except (KeyError, ValueError):
        problem = "--part slurm is for a task of an array job, and this is none"
        raise DataError(problem, f"submit it with {ARRAY}, or set --part K/N") from None
    if not of and (first != 0 or last != count - 1):
        raise DataError(
            f"the array's {count} tasks go from {first} to {last}: how many parts there are "
            "cannot be told from it",
            "say it, as in --part slurm/8, or begin the array at 0 without gaps",
        )
    return number, of or count


@dataclass(frozen=True)
class Inputs:
    """The state of all source files, by which parts and their join know that they saw the same."""

    sizes: list[int]
    times: list[int]  # when last modified, in ns

    @staticmethod
    def of(files: list[InputFile]) -> "Inputs":
        states = [file.path.stat() for file in files]
        return Inputs([s.st_size for s in states], [s.st_mtime_ns for s in states])

    def difference(self, other: "Inputs") -> int | None:
        """The number of the first file that is not the same."""
        pairs = zip(zip(self.sizes, self.times), zip(other.sizes, other.times), strict=True)
        return next((number for number, (one, two) in enumerate(pairs) if one != two), None)


class Share:
    """Which batches are a part's: those that begin within its share of all bytes, end to end.

    So a file within one share is read by that part alone, and one across a border by both, the
    second of which passes over what the first has.
    """

    def __init__(self, part: Part, files: list[InputFile], inputs: Inputs):
        self.weights = [max(1, size) for size in inputs.sizes]
        self.begins = [0, *accumulate(self.weights)]
        total = self.begins[-1]
        self.begin, self.end = (total * (part.number + step) // part.of for step in (0, 1))
        self.first = bisect_right(self.begins, self.begin) - 1
        last = next((n for n in range(len(files)) if self.begins[n] >= self.end), len(files))
        self.files = files[self.first : last] if self.begin < self.end else []

    def batches(self, max_bytes: int, described: list[dict]) -> Iterator[Batch]:
        number, name, done = self.first - 1, None, 0
        for batch in read_batches(self.files, max_bytes, described):
            if batch.file != name:
                number, name, done = number + 1, batch.file, 0
            # What a buffer has read ahead makes no batch begin behind its file's end.
            place = self.begins[number] + min(done, self.weights[number] - 1)
            done += batch.source_bytes
            if place >= self.end:
                return
            if place >= self.begin:
                yield batch


def make_part(preparation, part: Part, progress) -> bool:
    """Writes a part; False if it is there already. Raises DataError."""
    folder = preparation.output / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    path, inputs = folder / part.file_name, Inputs.of(preparation.files)
    head = {
        "format": FORMAT, "recipe_fingerprint": preparation.fingerprint(), "sizes": inputs.sizes,
        "times": inputs.times,
    }  # fmt: skip
    if path.is_file() and is_whole(path, head):
        return False
    share = Share(part, preparation.files, inputs)
    progress.total_bytes = share.end - share.begin
    with explained_fullness(folder, progress, None), published(path) as temporary:
        preparation.count_lines(progress)
        with open(temporary, "wb") as file:
            write_part(preparation, share, PartWriter(file, head), progress)
    differs = inputs.difference(Inputs.of(preparation.files))
    if differs is not None:
        path.unlink()
        problem = f"{preparation.files[differs].path} changed while it was read"
        raise DataError(problem, "run all parts again when it rests")
    return True


def is_whole(path: Path, head: dict) -> bool:
    """Whether a part that was made before is as it would be made now."""
    try:
        reader = PartReader(path)
        if reader.head != head:
            return False
        for _ in reader.batches():
            pass
        return True
    except DataError:
        return False


def write_part(preparation, share: Share, writer: PartWriter, progress) -> None:
    recipe, sources = preparation.recipe, []
    batches = share.batches(recipe.max_record_bytes, sources)
    for prepared in prepare_in_order(batches, preparation.maker):
        if recipe.on_error == "stop":
            stop_at_bad_record(prepared)
        writer.add(prepared)
        tokens = int(prepared.lengths.sum())
        progress.advance(prepared.source_bytes, len(prepared.lengths), tokens)
    progress.finish()
    writer.finish(sources)


class JoinedParts:
    """The parts of one preparation, all there and of one input. Raises DataError if not."""

    def __init__(self, preparation):
        self.folder, self.files = preparation.output / FOLDER, preparation.files
        self.readers = [PartReader(path) for path in find_parts(self.folder)]
        inputs, fingerprint = Inputs.of(self.files), preparation.fingerprint()
        for reader in self.readers:
            head = reader.head
            if head.get("format") != FORMAT or head.get("recipe_fingerprint") != fingerprint:
                problem = f"{reader.path} is of another recipe, model or version"
                raise DataError(problem, "run this part again with this recipe")
            differs = inputs.difference(Inputs(head["sizes"], head["times"]))
            if differs is not None:
                name = self.files[differs].path
                problem = f"{name} is another file than the one that {reader.path} was made from"
                raise DataError(problem, "run again all parts that this is said of")

    def results(self, sources: list[dict]) -> Iterator[Prepared]:
        """All batches in the order of one process. Adds what the files were to `sources`."""
        found: dict[str, dict] = {}
        for reader in self.readers:
            yield from reader.batches()
            for source in reader.sources:
                if found.setdefault(source["file"], source) != source:
                    problem = f"{source['file']} was not the same for all parts"
                    raise DataError(problem, "run all parts again")
        sources += [found[str(file.path)] for file in self.files]

    def remove(self) -> None:
        """When the shards are published: all parts, also what killed tasks left of them."""
        for pattern in ("*.part", ".*.part.*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def find_parts(folder: Path) -> list[Path]:
    """The files of all parts in order. Raises DataError if any is missing."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = [PART_NAME.fullmatch(name) for name in sorted(names)]
    counts = {int(name[2]): name for name in found if name}
    if not counts:
        raise DataError(f"{folder} holds no parts", "run the parts first: --part 0/8 to --part 7/8")
    if len(counts) > 1:
        listed = " and of ".join(str(count) for count in sorted(counts))
        raise DataError(f"{folder} holds parts of {listed}", "remove those that are not meant")
    (of,) = counts
    parts = [Part(number, of) for number in range(of)]
    missing = [part for part in parts if part.file_name not in names]
    if missing:
        numbers = ", ".join(str(part.number) for part in missing[:20]) + ", ..." * (
            len(missing) > 20
        )
        raise DataError(
            f"{folder} lacks {len(missing)} of {of} parts: {numbers}",
            f"run what is missing, such as --part {missing[0].number}/{of}, and join again",
        )
    return [folder / part.file_name for part in parts]
