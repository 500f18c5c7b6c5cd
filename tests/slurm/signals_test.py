# SPDX-License-Identifier: Apache-2.0
"""Everything that Slurm does to a job: it saves, says so by its exit code, and carries on.

What a disturbed run must come to is the result of the undisturbed one, bit for bit.
"""

import time

import pytest
import tiny_job
from slurm_job import (
    FINISHED, LOST, RESUME, SILENCE_SECONDS, STEPS, TRAIN, Job, add_site, assert_finished, change,
    end_codes, hurry, last_step, notes, slow_down, slurm, wait_until, write_run,
)  # fmt: skip

SIGKILL = 9


def assert_saved_at_stop(job) -> int:
    """That the first launch stopped at a step, saved it, and was started again from there."""
    first = next(note for note in notes(job.config) if note["event"] == "end")
    assert first["code"] == RESUME, job.text()
    step = int(first["newest"].removeprefix("step-"))
    assert step % 5 or "stop signal=" in job.text()
    assert f"resumed step={step} " in job.text()
    return step


def test_a_warning_signal_saves_and_the_job_is_started_again(config, tmp_path, undisturbed):
    """To the script of one job, and to the ranks of another. Slurm sends it a minute before it is
    due, or later: 37 to 57 s after the start."""
    jobs = {}
    for target, own in (("B:", config), ("", write_run(tmp_path / "ranks", STEPS))):
        slow_down(own.parent, 1.3)
        script = own.parent / "own.sbatch"  # A `B:` in train.sbatch itself could not be undone.
        options = f"--requeue --open-mode=append --time=2 --signal={target}USR1@60"
        script.write_text(f"#!/bin/bash\n#SBATCH {options}\nsource {TRAIN}\n")
        jobs[target] = Job(own, script=script)
    for target, job in jobs.items():
        assert_finished(job, undisturbed)
        assert 7 <= assert_saved_at_stop(job) < tiny_job.step_lines(job.config)[-1]["step"]
        assert "stop signal=10 saving=yes" in job.text()
        assert ("signal=USR1: asking the ranks to save" in job.text()) == bool(target)
        assert job.step_codes() == [RESUME, FINISHED]


def test_a_cancelled_job_saves_and_the_next_one_carries_on(config, undisturbed):
    job = Job(config)
    job.wait_for_step(7)
    slurm("scancel", job.id)
    assert job.wait() == "CANCELLED"
    assert end_codes(config) == [RESUME]
    assert job.step_codes() == [RESUME]
    assert tiny_job.checkpoints(config)[-1].name == notes(config)[-1]["newest"]
    assert not (config.parent / "run" / "final").exists()
    assert_finished(Job(config, nodes=3), undisturbed)  # The second start of this run.


def test_a_requeued_job_saves_and_carries_on_in_one_log(config, undisturbed):
    job = Job(config)
    job.wait_for_step(7)
    slurm("scontrol", "requeue", job.id)
    assert_finished(job, undisturbed)
    assert_saved_at_stop(job)
    assert job.field("Restarts") == "1"
    assert job.text().count("restart=") == 2
    assert [row[1] for row in job.records("-D") if row[0] == job.id][0] == "REQUEUED"


def test_a_job_that_another_one_preempts_carries_on_after_it(config, undisturbed):
    job = Job(config)
    job.wait_for_step(7)
    urgent = slurm("sbatch", "--parsable", "-p", "urgent", "--exclusive", "--nodes=2",
                   "--nodelist", ",".join(job.nodes()), "-o/dev/null", "--wrap", "sleep 1")
    assert_finished(job, undisturbed)
    assert_saved_at_stop(job)
    assert slurm("squeue", "-h", "-t", "all", "-j", urgent, "-o", "%T") == "COMPLETED"


def test_signals_at_any_time_do_no_harm(config, undisturbed):
    """During start-up, in steps, in saves, twice and more, and after the last step."""
    change(config, ("every_steps: 5", "every_steps: 1"))
    add_site(config.parent, "TEMPER_MOST_STARTS=20")  # A signal may come in any of them.
    job = Job(config)
    for name, pause in [("USR2", 0.5), ("USR1", 0.9), ("TERM", 0.3), ("TERM", 0.05)] * 2:
        time.sleep(pause)
        job.signal_ranks(name)
    job.wait_for_step(25)
    for _ in range(5):
        job.signal_ranks("USR2")
    hurry(config.parent)
    wait_until(lambda: last_step(config) == STEPS, lambda: f"the last step of {job.report()}")
    num_ends = len(end_codes(config))
    while len(end_codes(config)) == num_ends and "all stages are finished" not in job.text():
        job.signal_ranks("TERM")
    assert_finished(job, undisturbed)
    assert SIGKILL + 128 not in end_codes(config)[num_ends:]


@pytest.mark.parametrize("name", ["USR2", "TERM"])
def test_a_signal_before_a_rank_can_listen_asks_it_to_stop_too(config, undisturbed, name):
    add_site(config.parent, "TEMPER_MOST_STARTS=1")  # It does not count as one.
    first = "[[ -e began ]] || { touch began; sleep 1000; }"
    add_site(config.parent, f"""TEMPER_CONTAINER=(bash -c '{first}; exec "$@"' late)""")
    job = Job(config, nodes=1)  # With more, srun may report a task that it ended itself.
    wait_until((config.parent / "began").exists, lambda: f"the first start of {job.report()}")
    job.signal_ranks(name)
    assert_finished(job, undisturbed)
    assert end_codes(config) == [RESUME, FINISHED]
    assert [note["begun"] for note in notes(config) if note["event"] == "end"] == [False, True]
    assert job.field("Restarts") == "1"


def test_a_rank_that_dies_is_named_and_the_others_start_again(config, undisturbed):
    job = Job(config)
    job.wait_for_step(12)
    job.signal_rank(1, "KILL")
    assert_finished(job, undisturbed)
    assert end_codes(config) == [LOST, FINISHED]
    assert job.step_codes() == [LOST, FINISHED]
    lost = job.line(f"rank=0 lost rank=1 node={job.nodes()[1]} step=")
    assert 'reason="its process has ended" exit=15' in lost
    assert 'last="#' in lost and "all_" in lost
    assert "starting again in this allocation" in job.text()
    assert job.field("Restarts") == "0"


def test_a_rank_that_stands_still_is_named_and_the_others_end_in_time(config, undisturbed):
    job = Job(config)
    job.wait_for_step(12)
    before = time.time()
    job.signal_rank(0, "STOP")
    job.wait_for_end(1)
    assert time.time() - before < SILENCE_SECONDS + 2 + 10  # A look, and Slurm's KillWait.
    assert_finished(job, undisturbed)
    assert end_codes(config) == [LOST, FINISHED]
    lost = job.line(f"rank=1 lost rank=0 node={job.nodes()[0]} step=")
    assert "nothing was heard of it for" in lost


def test_a_crash_prints_its_rank_and_stack(config, undisturbed):
    job = Job(config)
    job.wait_for_step(7)
    job.signal_rank(1, "SEGV")
    assert_finished(job, undisturbed)
    assert "rank=1 crash signal=11 " in job.text()
    assert f"node={job.nodes()[1]}" in job.line("rank=1 crash signal=11 ")
    assert "libc.so.6" in job.text().split("stack:")[1]
