# SPDX-License-Identifier: Apache-2.0
"""A run's folder: what it says of itself, however much of that is there."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from temper_data.errors import DataError, printable

from .json_lines import read_json_lines
from .metrics import Metrics, read_metrics

CHECKPOINT = re.compile(r"step-([0-9]{8,})")
MAX_JSON_BYTES = 256 << 20  # of one file; a manifest of 4,096 ranks has a few hundred kilobytes


@dataclass
class Run:
    """All of one run. What is not there is empty."""

    folder: Path
    name: str
    metrics: Metrics
    config: dict[str, str] = field(default_factory=dict)  # key.path: value, with all defaults
    state: dict = field(default_factory=dict)  # state.json of the newest checkpoint
    manifest: dict = field(default_factory=dict)
    timing: dict = field(default_factory=dict)
    jobs: list[dict] = field(default_factory=list)  # starts and ends under Slurm
    kept: list[int] = field(default_factory=list)  # steps of the checkpoints that are there
    is_finished: bool = False
    is_locked: bool = False  # A job has it now, or was killed.
    problems: list[str] = field(default_factory=list)

    def save_interval(self) -> int:
        """In steps; 0 if only the end is saved, or if it is not known."""
        told = self.config.get("checkpoint.every_steps", "")
        return int(told) if told.isdecimal() else 0

    def saves(self) -> list[int]:
        """Steps after which the run was saved: those that are there, and those that were due."""
        every = self.save_interval()
        last = self.metrics.last_step
        due = range(every, last + 1, every) if every and last // every <= 10_000 else ()
        return sorted({*self.kept, *due})

    def restarts(self) -> list[int]:
        """Steps from which a later job went on."""
        starts = [job for job in self.jobs if job.get("event") == "start"]
        return [step_named(str(job.get("newest", ""))) for job in starts[1:]]

    def decided_by(self) -> dict[str, str]:
        """What decides the result, with fingerprints of model and data."""
        lines = str(self.state.get("decided_by", "")).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def step_named(name: str) -> int:
    """Of a checkpoint's folder; 0 if it is none."""
    match = CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else 0


def open_run(path: Path) -> Run:
    """`path` is a run's folder, or its metrics.jsonl. Raises DataError."""
    folder = path.parent if path.name == "metrics.jsonl" else path
    shown = printable(str(folder))
    if not folder.is_dir():
        raise DataError(f"there is no folder {shown}", "name what run.folder says")
    if not (folder / "metrics.jsonl").is_file():
        raise DataError(
            f"{shown} has no metrics.jsonl, so it is no run, or none that has begun",
            "name what run.folder says; a checkpoint or a model has no curve",
        )
    try:
        run = Run(folder, folder.name, read_metrics(folder / "metrics.jsonl"))
    except OSError as error:
        raise DataError(f"{shown}/metrics.jsonl: {error.strerror}", "check its rights") from error
    run.problems += run.metrics.problems
    read_rest(run)
    return run


def read_rest(run: Run) -> None:
    """All but the metrics. What cannot be read is said in the run's problems."""
    folder = run.folder
    checkpoints = {
        step_named(path.name): path for path in folder.glob("checkpoints/step-*") if path.is_dir()
    }
    checkpoints.pop(0, None)
    run.kept = sorted(checkpoints)
    if checkpoints:
        newest = checkpoints[max(checkpoints)]
        run.state = read_object(newest / "state.json", run)
        run.manifest = read_object(newest / "MANIFEST.json", run)
        run.config = flat_config(run)
    else:
        run.problems.append("there is no checkpoint yet, which would tell the configuration")
    if (folder / "timing.json").exists():
        run.timing = read_object(folder / "timing.json", run)
    jobs_path = folder.with_name(f"{folder.name}.jobs.jsonl")
    try:
        jobs = read_json_lines(jobs_path)
        run.jobs = jobs.entries
        run.problems += [jobs.problem(jobs_path.name)] if jobs.torn else []
    except OSError as error:
        run.problems.append(f"{jobs_path.name}: {error.strerror}")
    run.is_finished = (folder / "final").is_dir()
    run.is_locked = (folder / "lock.json").exists()


def read_object(path: Path, run: Run) -> dict:
    name = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("it is too large")
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        return value
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        run.problems.append(f"{name} cannot be read: {reason}")
        return {}


def flat_config(run: Run) -> dict[str, str]:
    """The configuration that the newest checkpoint keeps, one entry for each key."""
    text = run.state.get("config_yaml")
    if not isinstance(text, str):
        return {}
    try:
        return dict(flatten("", yaml.load(text, Loader=yaml.BaseLoader)))
    except (yaml.YAMLError, RecursionError) as error:
        run.problems.append(f"state.json: config_yaml is no YAML: {printable(str(error), 100)}")
        return {}


def flatten(prefix: str, node):
    """Yields (key.path, text). Lists of plain values are one text; those of maps are numbered."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flatten(f"{prefix}.{key}" if prefix else str(key), value)
    elif isinstance(node, list) and any(isinstance(item, (dict, list)) for item in node):
        for place, item in enumerate(node):
            yield from flatten(f"{prefix}[{place}]", item)
    else:
        yield prefix, f"[{', '.join(node)}]" if isinstance(node, list) else str(node)


def name_apart(runs: list[Run]) -> None:
    """Gives runs of the same name so much of their paths that the names differ."""
    for length in range(2, 10):
        names = [run.name for run in runs]
        twice = [run for run in runs if names.count(run.name) > 1]
        if not twice:
            return
        for run in twice:
            run.name = "/".join(run.folder.resolve().parts[-length:])
