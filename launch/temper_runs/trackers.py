# SPDX-License-Identifier: Apache-2.0
"""Other places for curves, whose libraries the user brings: Weights & Biases, and MLflow."""

import hashlib
import importlib
import json
from itertools import groupby
from pathlib import Path

from temper_data.errors import DataError
from temper_data.json_text import write_json

from .run_folder import Run
from .scalars import Scalar

BATCH = 1000  # values of one call, as MLflow allows
STORE = "mlflow.db"


def load_library(name: str, package: str):
    """Raises DataError if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"{name} cannot be imported ({error}): temper does not install it",
            f"pip install --target LIBRARIES {package}, then PYTHONPATH=LIBRARIES launch/board ...",
        ) from error


def identity_of(run: Run) -> str:
    """The same at each call for the same folder."""
    return hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:16]


class WandbRun:
    """A run of Weights & Biases on this disk, which asks nothing of the network.

    What was written stands in a file of its own, since an offline run cannot be read. Each call is
    a new part of the run of the same id: `wandb sync --append` puts them together.
    """

    def __init__(self, run: Run, name: str, folder: Path):
        self._wandb = load_library("wandb", "wandb")
        self._source, self._name, self._folder = run, name, folder
        self._note = folder / f"{name}.wandb.json"
        self.written = read_note(self._note)
        self._run = None  # Until there is something to write, since it makes a folder.

    def _open(self):
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._wandb.Settings(console="off", x_disable_stats=True, silent=True)
        return self._wandb.init(
            mode="offline", project="temper", id=identity_of(self._source), name=self._name,
            dir=str(self._folder), config=self._source.config, settings=settings,
        )  # fmt: skip

    def add(self, scalars: list[Scalar]) -> None:
        if not scalars:
            return
        self._run = self._run or self._open()
        for step, group in groupby(scalars, key=lambda scalar: scalar.step):
            values = {scalar.tag: scalar.value for scalar in group}
            self._run.log({**values, "train/global_step": step})
            self.written |= {tag: (step, value) for tag, value in values.items()}
        write_json(self._note, self.written)

    def close(self) -> None:
        if self._run:
            self._run.finish()


def read_note(path: Path) -> dict[str, tuple[int, float]]:
    if not path.exists():
        return {}
    return {tag: (step, value) for tag, (step, value) in json.loads(path.read_text()).items()}


class MlflowRun:
    """A run in MLflow's store below a folder, a database that its server and its library open."""

    def __init__(self, run: Run, name: str, folder: Path):
        mlflow = load_library("mlflow", "mlflow")
        self._entities = load_library("mlflow.entities", "mlflow")
        folder.mkdir(parents=True, exist_ok=True)
        store = f"sqlite:///{(folder / STORE).resolve()}"
        try:
            self._client = mlflow.MlflowClient(tracking_uri=store)
            experiment = self._experiment(folder)
        except ImportError as error:  # Its small package has no database.
            raise DataError(
                f"mlflow cannot open {store}: {error}",
                "install the whole of it: pip install --target LIBRARIES mlflow",
            ) from error
        self._id = self._find(run, name, experiment)
        self.written = self._read()

    def add(self, scalars: list[Scalar]) -> None:
        values = [
            self._entities.Metric(s.tag, s.value, int(1000 * s.seconds), s.step) for s in scalars
        ]
        for begin in range(0, len(values), BATCH):
            self._client.log_batch(self._id, metrics=values[begin : begin + BATCH])
        self.written |= {scalar.tag: (scalar.step, scalar.value) for scalar in scalars}

    def close(self) -> None:
        self._client.set_terminated(self._id)

    def _experiment(self, folder: Path) -> str:
        found = self._client.get_experiment_by_name("temper")
        if found:
            return found.experiment_id
        artifacts = (folder / "artifacts").resolve().as_uri()
        return self._client.create_experiment("temper", artifact_location=artifacts)

    def _find(self, run: Run, name: str, experiment: str) -> str:
        identity = identity_of(run)
        found = self._client.search_runs([experiment], f"tags.`temper.run` = '{identity}'")
        if found:
            return found[0].info.run_id
        made = self._client.create_run(experiment, run_name=name, tags={"temper.run": identity})
        texts = {key: value[:500] for key, value in run.config.items()}
        parameters = [
            self._entities.Param(key.replace("[", ".").replace("]", ""), value)
            for key, value in texts.items()
        ]
        for begin in range(0, len(parameters), 100):  # As many as MLflow takes at once.
            self._client.log_batch(made.info.run_id, params=parameters[begin : begin + 100])
        return made.info.run_id

    def _read(self) -> dict[str, tuple[int, float]]:
        written = {}
        for tag in self._client.get_run(self._id).data.metrics:
            last = max(self._client.get_metric_history(self._id, tag), key=lambda m: m.step)
            written[tag] = last.step, last.value
        return written
