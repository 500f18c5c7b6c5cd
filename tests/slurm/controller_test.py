# SPDX-License-Identifier: Apache-2.0
"""Slurm's controller is away for a while: what runs goes on, and what must start again waits."""

import pytest
from slurm_job import (
    FINISHED, LOST, Job, assert_finished, cluster, end_codes, hurry, starts, wait_until,
)  # fmt: skip


@pytest.fixture
def controller():
    """To be stopped by a test."""
    yield
    if not is_up():
        start()


def stop() -> None:
    """As for maintenance: it saves its state, and ends."""
    cluster("run", "pkill", "-TERM", "-x", "slurmctld")
    wait_until(lambda: not is_up(), "the end of the controller")


def is_up() -> bool:
    return cluster("run", "pgrep", "-x", "slurmctld", check=False).returncode == 0


def start() -> None:
    cluster("run", "slurmctld")
    wait_until(lambda: cluster("run", "squeue", check=False).returncode == 0, "the controller")


def test_a_run_goes_on_without_the_controller(config, undisturbed, controller):
    job = Job(config)
    job.wait_for_step(12)
    stop()
    hurry(job.folder)
    wait_until((config.parent / "run" / "final").exists, lambda: f"the end of {job.report()}")
    start()
    assert_finished(job, undisturbed, num_starts=1)


def test_a_new_start_waits_for_the_controller(config, undisturbed, controller):
    job = Job(config)
    job.wait_for_step(12)
    node = job.nodes()[1]
    stop()
    cluster("run-on", node, "pkill", "-KILL", "-x", "temper")
    wait_until(lambda: "Slurm does not answer" in job.text(), lambda: f"a wait of {job.report()}")
    assert len(starts(config)) == 1
    start()
    assert_finished(job, undisturbed)
    assert end_codes(config) == [LOST, FINISHED]
    assert "bad_node=" not in job.text()
