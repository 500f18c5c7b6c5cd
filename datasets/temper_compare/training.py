# SPDX-License-Identifier: Apache-2.0
"""Trained arms: their runs, what these cost, and the runs that teach them an edited manual."""

import io
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from temper_data.errors import DataError
from temper_data.json_text import write_json
from temper_data.preparation import Preparation, total_bytes
from temper_data.progress import Progress
from temper_data.recipe import Overlap, Source
from temper_data.yaml_tree import read_bounded

from .options import Options, Training
from .questions import Edit, QuestionSet
from .temper_runs import Usage, Weights, run_temper


@dataclass(frozen=True)
class Cost:
    """Of the runs that make an arm; all zero for one without training."""

    seconds: float = 0.0  # in steps, by the clock
    peak_bytes: int = 0  # of a rank; for a run that was trained elsewhere what is expected
    stored_bytes: int = 0  # that the task needs beside the model it begins with
    forgetting: float | None = None  # change of the loss on the general hold-out; None: none there


@dataclass(frozen=True)
class Trained:
    weights: Weights
    cost: Cost


class Trainer:
    """Makes what is not there yet, in folders below `options.folder`."""

    def __init__(self, options: Options):
        self.options = options
        self.folder = options.folder / "training"

    def check(self) -> None:
        """Raises DataError for configurations that cannot be read, or own runs that are missing."""
        for training in self.options.trainings:
            for config in filter(None, (training.after, training.config)):
                read_config(config)
                if training.existing:
                    own_folder(config)

    def train(self, training: Training, seed: int) -> Trained:
        """One arm with one seed. Raises DataError."""
        if training.existing:
            run = own_folder(training.config)
            runs = [*([own_folder(training.after)] if training.after else []), run]
            return Trained(weights_of(run, training.config), self._cost(training, runs))
        start, runs = self.options.model, []
        if training.after:
            runs.append(self.folder / f"{Path(training.after).stem}-{seed}")
            changes = {"model.path": start, "data.seed": seed}
            steps = self.options.pretraining_steps
            self._run(training.after, runs[-1], with_steps(changes, steps))
            start = str(runs[-1] / "final")
        runs.append(self.folder / f"{training.name}-{seed}")
        changes = {"model.path": start, "data.seed": seed}
        self._run(training.config, runs[-1], with_steps(changes, self.options.steps))
        return Trained(weights_of(runs[-1], training.config, start), self._cost(training, runs))

    def update(self, training: Training, trained: Trained, edits: "EditShard") -> tuple:
        """The arm after a run on the edited answers, and the seconds until it knows them: those of
        preparing the data and of the whole run. Raises DataError."""
        run = self.folder / f"{training.name}-update"
        weights = trained.weights
        changes = {
            "model.path": weights.model, "data.train": f"[{{path: {edits.shard}}}]",
            "data.holdout": "[]", "train.max_steps": self.options.update_steps,
        }  # fmt: skip
        if weights.adapter:
            changes["adapter.start"] = weights.adapter
        self._run(training.config, run, changes)
        usage = read_usage(run)
        return weights_of(run, training.config, weights.model), usage.seconds + edits.seconds

    def _run(self, config: str, run: Path, changes: dict) -> None:
        """Trains into the folder `run`, unless that is finished; goes on where it was killed.

        Raises DataError if what is there was made in another way.
        """
        words = [f"{key}={value}" for key, value in {"run.folder": run, **changes}.items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        how = {"config": read_bounded(Path(config)).decode(), "overrides": words}
        note = self.folder / f"{run.name}.json"
        if note.is_file() and json.loads(note.read_text()) != how:
            raise DataError(
                f"{run} was begun with other settings than {config} and this comparison have now",
                f"remove {run} and {note}, or set another folder",
            )
        if (run / "final").is_dir():
            return
        write_json(note, how)
        print(f"compare: training {run.name}: {config}", flush=True)
        log = self.folder / f"{run.name}.log"
        _, usage = run_temper(self.options.ranks, ["train", config, *words], log)
        write_json(run / "usage.json", asdict(usage))
        shutil.rmtree(run / "checkpoints", ignore_errors=True)  # The state is not needed any more.

    def _cost(self, training: Training, runs: list[Path]) -> Cost:
        before, after = (general_loss(run, which) for run, which in ((runs[0], 0), (runs[-1], -1)))
        known = before is not None and after is not None
        return Cost(
            seconds=sum(map(step_seconds, runs)),
            peak_bytes=max(read_usage(run).peak_bytes for run in runs)
            or estimated_bytes(training.config, self.options.ranks),
            stored_bytes=folder_bytes(runs[-1] / "final"),
            forgetting=after - before if known else None,
        )


class EditShard:
    """A shard of the edited conversations, and how long it took to prepare."""

    def __init__(self, questions: QuestionSet, edits: list[Edit], folder: Path):
        begin = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "edited.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for edit in edits:
                for question in edit.taught:
                    answer = {"role": "assistant", "content": edit.new.answer}
                    row = {"messages": [*question.messages, answer],
                           "chat_template_kwargs": question.variables}  # fmt: skip
                    file.write(json.dumps(row) + "\n")
        recipe = replace(
            questions.preparation.recipe,
            sources=(Source(str(path), "messages", "messages", None),),
            output=str(folder), holdout_fraction=0.0, holdout_by="document", page=False,
            overlap=Overlap((), False, 13, 20), shard_tokens=0, workers=1, system="",
        )  # fmt: skip
        preparation = Preparation(recipe)
        preparation.run(Progress(total_bytes(preparation.files), io.StringIO()))
        self.shard = folder / "train.h5"
        self.seconds = time.monotonic() - begin


def with_steps(changes: dict, steps: int) -> dict:
    return changes | ({"train.max_steps": steps} if steps else {})


def read_config(path: str) -> dict:
    """A configuration of temper, as far as it is needed here. Raises DataError."""
    try:
        config = yaml.safe_load(read_bounded(Path(path)))
    except yaml.YAMLError as error:
        remedy = "correct it: temper check names each problem"
        raise DataError(f"{path}: {error}", remedy) from error
    if not isinstance(config, dict) or not isinstance(config.get("run"), dict):
        raise DataError(f"{path} has no run.folder", "name a configuration of temper train")
    return config


def own_folder(config: str) -> Path:
    """The folder of a configuration's own run. Raises DataError unless it is finished."""
    folder = Path(str(read_config(config)["run"].get("folder")))
    if not (folder / "final").is_dir():
        raise DataError(
            f"{config} is to be taken as it is, but {folder} holds no final/",
            f"run launch/temper train {config}, or set existing: false",
        )
    return folder


def weights_of(run: Path, config: str, base: str = "") -> Weights:
    """What a finished run left."""
    final = run / "final"
    is_adapter = any((final / name).is_file() for name in ("adapter_config.json", "base.json"))
    if not is_adapter:
        return Weights(str(final))
    return Weights(base or str(read_config(config)["model"]["path"]), str(final))


def read_metrics(run: Path) -> list[dict]:
    try:
        return list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    except (OSError, ValueError) as error:
        raise DataError(f"{run}/metrics.jsonl: {error}", "train it again") from error


def step_seconds(run: Path) -> float:
    """Of all steps, each counted once however often the run was killed."""
    steps = {m["step"]: m["seconds"] for m in read_metrics(run) if m["kind"] == "step"}
    return sum(steps.values())


def general_loss(run: Path, which: int) -> float | None:
    """The first (0) or last (-1) loss on a hold-out that is told as forgetting."""
    metrics = [m for m in read_metrics(run) if m["kind"] == "evaluation"]
    names = {m["name"] for m in metrics if "forgetting" in m}
    losses = [m["loss"] for m in metrics if m["name"] in names]
    return losses[which] if losses else None


def read_usage(run: Path) -> Usage:
    """Of the run's last start; zeros if it was not started here."""
    path = run / "usage.json"
    return Usage(**json.loads(path.read_text())) if path.is_file() else Usage(0.0, 0.0, 0)


def estimated_bytes(config: str, ranks: int) -> int:
    """Of a rank, as `temper check` says; 0 if it says nothing. Raises DataError."""
    printed, _ = run_temper(ranks, ["check", config])
    said = re.search(r"^memory +about ([0-9.]+) ([MG])B", printed, re.MULTILINE)
    return round(float(said[1]) * {"M": 1e6, "G": 1e9}[said[2]]) if said else 0


def folder_bytes(folder: Path) -> int:
    """Of the weights alone, which are what a task needs of its own."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
