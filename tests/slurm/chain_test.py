# SPDX-License-Identifier: Apache-2.0
"""slurm/submit and slurm/status: a chain of jobs that carries on by itself."""

import re
import subprocess
from pathlib import Path

import pytest
import slurm_job
import tiny_job
from slurm_job import (
    CONFIGURATION, DATA, FINISHED, LOST, ROOT, add_site, cluster, end_codes, slow_down, slurm,
    wait_until,
)  # fmt: skip

STEPS = 130  # More than two time limits hold, with slow steps on any machine.
MINUTES = 0.3


def write_chain(folder: Path, steps: int = STEPS, minutes: float = MINUTES) -> list[Path]:
    """Two stages, of which the second starts from the result of the first."""
    config = slurm_job.write_run(folder, steps)
    text = config.read_text().replace("threads: 1", f"threads: 1, time_limit_minutes: {minutes}")
    stages = [folder / "cpt.yaml", folder / "sft.yaml"]
    stages[0].write_text(text.replace("folder: run", "folder: cpt"))
    text = text.replace("folder: run", "folder: sft").replace("path: model", "path: cpt/final")
    stages[1].write_text(text.replace(f"max_steps: {steps}", "max_steps: 30"))
    slow_down(folder, 0.5)
    add_site(folder, f"TEMPER_PARTITION={slurm_job.PARTITION} TEMPER_NODES=2 TEMPER_TIME=5")
    return stages


def command(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """slurm/submit or slurm/status on the head, in the folder."""
    return cluster("run", ROOT / "slurm" / name, *arguments, check=False, cwd=folder,
                   env=slurm_job.job_environment(folder))  # fmt: skip


def submit(folder: Path, *arguments: str) -> tuple[str, str, str]:
    """Name, first and second job of the chain that slurm/submit starts."""
    done = command("submit", folder, *arguments)
    assert done.returncode == 0, done
    name = re.search(r"--name=(\S+)", done.stdout)[1]
    return (name, *re.search(r"submitted job (\d+), and (\d+) to follow it", done.stdout).groups())


def result(folder: Path, run: str) -> tuple:
    """Curve and final files of a stage."""
    lines = tiny_job.steps_of(folder / run)
    curve = [[line["step"], line["loss"], line["grad_norm"]] for line in lines]
    return curve, tiny_job.file_digests(folder / run / "final")


def jobs_of(name: str) -> list[list[str]]:
    rows = slurm("squeue", "-h", "-n", name, "-o", "%A %T %R").splitlines()
    return [row.split(" ", 2) for row in rows]


@pytest.fixture
def folder(tmp_path):
    """One whose name has to be quoted; no job outlives it."""
    yield tmp_path / "it's a $HOME \"run\""
    slurm_job.end_all_jobs()


def test_a_dry_run_prints_plan_and_script_and_submits_nothing(folder):
    write_chain(folder)
    done = command("submit", folder, "--dry-run", "--spare-nodes", "1", "cpt.yaml", "sft.yaml")
    assert done.returncode == 0, done
    assert f"stage 1  cpt.yaml: {STEPS} steps in cpt, from model\n" in done.stdout
    second = "stage 2  sft.yaml: 30 steps in sft, from the result of the stage before\n"
    assert second in done.stdout
    for line in ("--nodes=3", "--no-kill", "--dependency=singleton", "--signal=B:USR1@5"):
        assert f"#SBATCH {line}\n" in done.stdout
    assert slurm("squeue", "-h", "-p", slurm_job.PARTITION) == ""
    assert not (folder / "cpt.chain.sbatch").exists()
    script = done.stdout[done.stdout.index("#!/usr/bin/env bash") :]
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_a_stage_that_cannot_run_is_refused_on_the_login_node(folder):
    stages = write_chain(folder)
    stages[1].write_text(stages[1].read_text().replace("max_steps", "max_step"))
    done = command("submit", folder, "cpt.yaml", "sft.yaml")
    assert done.returncode == CONFIGURATION, done
    assert "train.max_step (line" in done.stderr
    assert "submit: sft.yaml does not pass 'temper check'; nothing was submitted" in done.stderr
    assert slurm("squeue", "-h", "-p", slurm_job.PARTITION) == ""


def test_the_status_names_the_newest_checkpoint_that_is_complete(folder):
    config = tiny_job.write(folder)
    code, log = tiny_job.train(1, config)
    assert code == FINISHED, log
    newest, before = tiny_job.checkpoints(config)[:-3:-1]
    weights = next((newest / "model").glob("*.safetensors"))
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-1])
    done = command("status", folder, "run.yaml")
    damage = f"{newest.name}: model/{weights.name} has {size - 1} of {size} bytes"
    assert f"  checkpoint  {before.name}, complete; {damage}\n" in done.stdout, done
    weights.write_bytes(bytes(size))
    done = command("status", folder, "run.yaml")
    assert f"  checkpoint  {newest.name}, complete\n" in done.stdout, done
    done = command("status", folder, "--verify", "run.yaml")
    assert f"  checkpoint  {before.name}, verified; {newest.name}: " in done.stdout, done
    assert f"model/{weights.name} was altered: bytes [0, " in done.stdout, done


def test_a_chain_runs_through_time_limits_and_a_node_failure_unattended(folder, tmp_path):
    write_chain(tmp_path / "undisturbed", minutes=0)
    for stage in ("cpt.yaml", "sft.yaml"):
        code, log = tiny_job.train(1, tmp_path / "undisturbed" / stage)
        assert code == 0, log

    write_chain(folder)
    name, *jobs = submit(folder, "cpt.yaml", "sft.yaml")
    assert sorted(job[0] for job in jobs_of(name)) == sorted(jobs)

    codes = lambda: end_codes(folder / "cpt.yaml", "cpt")  # noqa: E731
    starts = lambda: slurm_job.starts(folder / "cpt.yaml", "cpt")  # noqa: E731
    newest = lambda: (folder / "cpt" / "checkpoints" / "latest").resolve().name  # noqa: E731
    wait_until(lambda: len(starts()) == 3, "the third job")  # After two time limits.
    assert codes() == [19, 19]
    text = (folder / "cpt.yaml").read_text()  # The rest without limits, to come to an end.
    (folder / "cpt.yaml").write_text(text.replace(f"minutes: {MINUTES}", "minutes: 0"))
    wait_until(lambda: newest() != starts()[-1]["newest"], "a checkpoint of the third job")
    status = command("status", folder, "cpt.yaml", "sft.yaml").stdout
    assert re.search(rf"^  step +\d+/{STEPS}$", status, re.M), status
    assert re.search(r"^  checkpoint  step-\d+, complete$", status, re.M), status
    assert f"on {starts()[-1]['nodes']} running" in status and "3, with 3 starts" in status

    hosts = slurm("scontrol", "show", "hostnames", starts()[-1]["nodes"]).split()
    cluster("kill-node", hosts[1])
    try:
        wait_until(lambda: len(starts()) == 4, "the start after the lost node")
        slurm_job.hurry(folder)
        wait_until(lambda: not jobs_of(name), "the end of the chain")
    finally:
        cluster("start-node", hosts[1])
    for stage in ("cpt", "sft"):
        assert result(folder, stage) == result(tmp_path / "undisturbed", stage)
    assert codes()[:2] == [19, 19] and codes()[-1] == FINISHED and codes()[2] in (LOST, 137)
    status = command("status", folder, "cpt.yaml", "sft.yaml").stdout
    assert f"{STEPS}/{STEPS} finished" in status and "30/30 finished" in status
    assert status.count(" ended: 0, finished\n") == 2, status


def test_whoever_cancels_a_job_ends_the_chain(folder):
    write_chain(folder, minutes=0)
    name, job, _ = submit(folder, "cpt.yaml", "sft.yaml")
    wait_until(lambda: (folder / "cpt" / "checkpoints" / "latest").exists(), "a checkpoint")
    again = command("submit", folder, "cpt.yaml", "sft.yaml")
    assert again.returncode == CONFIGURATION
    assert f"the chain {name} is queued already" in again.stderr
    slurm("scancel", job)
    wait_until(lambda: not jobs_of(name), "the end of the chain")
    logs = "".join(path.read_text() for path in sorted(folder.glob(f"{name}-*.log")))
    assert f"job {job} was cancelled, so the chain ends" in logs
    assert not (folder / "cpt" / "final").exists()


def test_a_lost_node_is_kept_from_the_jobs_to_come_and_a_cancelled_job_ends_the_chain(folder):
    write_chain(folder, minutes=0)
    name, first, second = submit(folder, "--spare-nodes", "1", "cpt.yaml")
    starts = lambda: slurm_job.starts(folder / "cpt.yaml", "cpt")  # noqa: E731
    log = folder / f"{name}-{first}.log"
    wait_until(lambda: tiny_job.steps_of(folder / "cpt"), "the first step")
    victim = slurm("scontrol", "show", "hostnames", starts()[0]["nodes"]).split()[1]
    cluster("kill-node", victim)
    try:
        wait_until(lambda: len(starts()) == 2, lambda: f"the start without it in {log.read_text()}")
        assert f"bad_node={victim}: " in log.read_text()
        assert f"ExcNodeList={victim} " in slurm("scontrol", "-o", "show", "job", second)
        slurm("scancel", first)
        wait_until(lambda: not jobs_of(name), "the end of the chain")
    finally:
        cluster("start-node", victim)
    follower = (folder / f"{name}-{second}.log").read_text()
    assert f"job {first} was cancelled, so the chain ends" in follower
    assert [start["job"] for start in starts()] == [int(first)] * 2


def test_an_ending_that_a_new_start_does_not_mend_ends_the_chain(folder):
    write_chain(folder)
    add_site(folder, "TEMPER_SBATCH_OPTIONS=(--begin=now+4)")
    name, *_ = submit(folder, "cpt.yaml", "sft.yaml")
    shard = folder / "train.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    wait_until(lambda: not jobs_of(name), "the end of the chain")
    assert end_codes(folder / "cpt.yaml", "cpt") == [DATA]
    status = command("status", folder, "cpt.yaml").stdout
    assert "ended: 12, a token shard" in status
