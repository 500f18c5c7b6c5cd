# SPDX-License-Identifier: Apache-2.0
"""A job knows when its time ends, what its own saves take, and stops at the last safe step."""

import re
import time
from pathlib import Path

import tiny_job
from slurm_job import (
    FINISHED, FOREVER, RESUME, SILENCE_SECONDS, STEPS, Job, add_site, assert_finished, change,
    end_codes, last_step, slow_down, slurm, wait_until, write_run,
)  # fmt: skip


def test_jobs_come_to_the_end_of_their_time_and_one_does_not_know_it(config, tmp_path, undisturbed):
    """Slurm's own limit, of one minute, side by side since that is what they wait for."""
    job = start_that_knows_its_end(write_run(tmp_path / "knows", STEPS))
    other = start_that_cannot_know_its_end(config)
    assert_stops_before_its_end(job)
    assert_saves_when_slurm_ends_it_and_returns(other, undisturbed)


def start_that_knows_its_end(config: Path) -> Job:
    """By squeue."""
    change(config, (f"max_steps: {STEPS}", f"max_steps: {FOREVER}"))
    return Job(config, options=("--time=1", "--signal=B:USR1@0", "--no-requeue"))


def assert_stops_before_its_end(job: Job) -> None:
    job.wait_for_end(1, 75)
    slurm("scancel", job.id, check=False)
    assert end_codes(job.config) == [RESUME]
    assert job.step_codes() == [RESUME]
    assert re.search(r" time_left=(1m00s|5\ds) ", job.text()), job.text()
    assert "stop reason=time saving=yes" in job.text()
    assert tiny_job.checkpoints(job.config)[-1].name == f"step-{last_step(job.config):08d}"


def start_that_cannot_know_its_end(config: Path) -> Job:
    """No squeue, no warning signal: only the SIGTERM that comes KillWait before the SIGKILL."""
    folder = config.parent / "without squeue"
    folder.mkdir()
    (folder / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (folder / "squeue").chmod(0o755)
    add_site(config.parent, f"PATH='{folder}':$PATH")
    slow_down(config.parent, 1.8)  # So that it does not finish in the minute and a half it has.
    return Job(config, options=("--time=1", "--signal=B:USR1@0"))


def assert_saves_when_slurm_ends_it_and_returns(job: Job, undisturbed: tuple) -> None:
    """And its slow rank 0 is named meanwhile."""
    assert_finished(job, undisturbed)
    assert [row[1] for row in job.records("-D") if row[0] == job.id] == ["REQUEUED", "COMPLETED"]
    assert "stop reason=" not in job.text() and "signal=USR1" not in job.text()
    assert end_codes(job.config) == job.step_codes() == [RESUME, FINISHED]
    stopped, resumed = job.text().split(f" ended: code={RESUME} newest=step-")
    assert int(resumed[:8]) == int(re.findall(r" step=(\d+)/", stopped)[-1])
    assert "time_left=" not in job.text() and "stop signal=" in job.text()
    straggler = job.line("straggler=0 ")
    assert f"node={job.nodes()[0]} own_seconds_per_step=1." in straggler


def test_without_time_for_a_save_the_old_checkpoint_stays(config):
    """A step takes longer than any before it, since a rank stands still for a while."""
    change(
        config,
        (f"max_steps: {STEPS}", f"max_steps: {FOREVER}"),
        (f"silence_seconds: {SILENCE_SECONDS}", "silence_seconds: 60"),
        ("threads: 1", "threads: 1, time_limit_minutes: 0.5"),
    )
    job = Job(config, options=("--no-requeue",))
    job.wait_for_step(7)
    wait_until(lambda: tiny_job.checkpoints(config), "a checkpoint")
    end = time.time() + 31  # The ranks were started before now, and have 30 seconds.
    job.signal_rank(1, "STOP")
    wait_until(lambda: time.time() > end, "the end of the job's time")
    before = tiny_job.checkpoints(config)[-1].name
    job.signal_rank(1, "CONT")
    job.wait_for_end(1)
    assert end_codes(config) == [RESUME]
    assert "stop reason=time saving=no" in job.text()
    kept = tiny_job.checkpoints(config)[-1].name
    said = job.line("saved=no step=")
    assert f" kept_step={int(kept.removeprefix('step-'))} seconds_left=" in said
    assert before in [checkpoint.name for checkpoint in tiny_job.checkpoints(config)]
