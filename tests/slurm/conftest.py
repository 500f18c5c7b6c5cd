# SPDX-License-Identifier: Apache-2.0
"""What the Slurm tests have in common: the cluster, and the result that a run must come to."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import slurm_job  # noqa: E402
import tiny_job  # noqa: E402

SKIPPED = 77  # What CTest takes for a test that could not run.


def pytest_sessionstart(session):
    if not slurm_job.is_up():
        pytest.exit("no Slurm cluster is up (see the test slurm.up); nothing is tested", SKIPPED)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> tuple:
    """Curve and final files of the run that was left alone."""
    config = slurm_job.write_run(tmp_path_factory.mktemp("undisturbed") / "job", slurm_job.STEPS)
    code, log = tiny_job.train(1, config)
    assert code == 0, log
    return tiny_job.result(config)


@pytest.fixture
def config(tmp_path) -> Path:
    """A run of its own; no job of the test outlives it."""
    yield slurm_job.write_run(tmp_path / "job", slurm_job.STEPS)
    slurm_job.end_all_jobs()
