# SPDX-License-Identifier: Apache-2.0
"""A launch that is wrong is refused before it makes anything; one that is right may be mpirun's."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import tiny_job
from slurm_job import (
    FINISHED, FOREVER, LOST, PARTITION, REFUSED, RESUME, ROOT, SLOW_STEPS, STEPS, Job, add_site,
    assert_finished, change, cluster, end_codes, notes, slurm,
)  # fmt: skip

BINARY = Path(os.environ["TEMPER_BINARY"])


@pytest.fixture
def nodes() -> list[str]:
    """The first two of this third of the cluster."""
    names = slurm("sinfo", "-h", "-N", "-p", PARTITION, "-o", "%N").split()
    return sorted(names, key=lambda name: int(name[1:]))[:2]


def assert_refused(job: Job, *messages: str) -> None:
    """At once, with a code of its own, for good, and with nothing made."""
    assert job.wait() == "FAILED", job.text()
    assert job.exit_code() == REFUSED
    assert end_codes(job.config) == [REFUSED]
    times = [note["time"] for note in notes(job.config)]
    assert times[1] - times[0] < 15
    for message in (*messages, "\n  try: ", "is one that a new start does not mend"):
        assert message in job.text(), job.text()


def test_singletons_are_refused(config):
    """An Open MPI that sees nothing of Slurm: each rank is alone in its world."""
    add_site(config.parent, "TEMPER_MPI=none")
    add_site(config.parent, "TEMPER_CONTAINER=(env -u SLURM_NODELIST -u SLURM_STEP_NUM_TASKS)")
    job = Job(config)
    assert_refused(job, "the launcher started 2 tasks, but MPI knows of 1 (on n")
    assert job.step_codes() == [REFUSED]
    assert not (config.parent / "run").exists()


def test_srun_without_pmix_is_refused(config):
    add_site(config.parent, "TEMPER_MPI=none")
    job = Job(config)
    assert_refused(job, "srun started 2 tasks, but without PMIx")
    assert job.step_codes() == [REFUSED]
    assert not (config.parent / "run").exists()


def test_a_refusal_counts_though_another_rank_is_ended_by_a_signal(config):
    """The second rank is still a shell when the first one refuses, and dies of srun's SIGTERM. Its
    code is higher, and is that of a launch which was to stop before MPI started."""
    add_site(config.parent, "TEMPER_MPI=none")
    late = """'((SLURM_PROCID == 0)) || sleep 60; exec "$@"'"""
    add_site(config.parent, f"TEMPER_CONTAINER=(bash -c {late} late)")
    job = Job(config)
    assert_refused(job, "srun started 2 tasks, but without PMIx")
    assert not (config.parent / "run").exists()


def assert_one_file_is_to_be_the_same(config: Path, nodes: list[str], files: tuple, what: str):
    """Where the second node sees another file under the same name, the launch is refused."""
    usual, other = files
    cluster("run-on", nodes[1], "mount", "--bind", other, usual)
    job = Job(config, options=("--nodelist=" + ",".join(nodes),))
    assert_refused(job, f"rank 1 on {nodes[1]} differs from rank 0 on {nodes[0]} in {what}")
    assert not (config.parent / "run").exists()
    cluster("run-on", nodes[1], "umount", usual)


def test_another_binary_on_one_node_is_refused(config, nodes):
    program, other = config.parent / "temper", config.parent / "other"
    shutil.copy(BINARY, program)
    other.write_bytes(BINARY.read_bytes() + b"another build")
    other.chmod(0o755)
    add_site(config.parent, f"TEMPER_BINARY={program}")
    assert_one_file_is_to_be_the_same(config, nodes, (program, other), "the binary")


def test_other_data_on_one_node_are_refused(config, nodes):
    other = tiny_job.tiny_run.write_shard(config.parent / "other", num_documents=41)
    shard = config.parent / "train.h5"
    assert_one_file_is_to_be_the_same(config, nodes, (shard, other), "train.h5")


def test_a_disk_that_is_too_small_is_refused(config, nodes):
    small = config.parent / "small"
    small.mkdir()
    change(config, ("folder: run", "folder: small/run"))
    cluster("run-on", nodes[0], "mount", "-t", "tmpfs", "-o", "size=400k", "none", small)
    job = Job(config, options=("--nodelist=" + ",".join(nodes),))
    assert job.wait() == "FAILED", job.text()
    assert job.exit_code() == REFUSED
    assert "run.folder needs 651 kB more, but " in job.text()
    assert " has 4" in job.text() and f" kB (on {nodes[0]})\n  try: free some space" in job.text()
    assert "run" not in cluster("run-on", nodes[0], "ls", small).stdout.split()
    cluster("run-on", nodes[0], "umount", small)


def test_a_second_job_on_one_run_is_refused_and_the_first_goes_on(config, undisturbed):
    change(config, (f"max_steps: {STEPS}", f"max_steps: {FOREVER}"))
    first = Job(config)
    first.wait_for_step(3)
    second = Job(config, log="second.log")
    assert second.wait() == "FAILED", second.text()
    assert second.exit_code() == REFUSED
    assert f"run is in use by job {first.id} on n" in second.text()
    first.wait_for_step(tiny_job.step_lines(config)[-1]["step"] + 5)
    slurm("scancel", first.id)
    assert first.wait() == "CANCELLED"
    assert first.step_codes() == [RESUME]


def test_mpirun_inside_a_job(config, undisturbed):
    job = Job(config, TEST_LAUNCHER="mpirun")
    job.wait_for_step(7)
    slurm("scancel", "--batch", "-s", "USR1", job.id)
    assert_finished(job, undisturbed)
    assert end_codes(config) == [RESUME, FINISHED]
    assert "'mpirun' '-n' '2'" in job.text() and "stop signal=10 saving=yes" in job.text()
    assert "ranks=2 nodes=2" in job.text()


def test_the_binary_is_broadcast_to_the_nodes(config, undisturbed):
    """To the nodes' /dev/shm, all that they do not share; without its libraries, to save memory."""
    add_site(config.parent, "TEMPER_BROADCAST=/dev/shm TEMPER_CONTAINER=()")
    add_site(config.parent, "TEMPER_LAUNCHER_OPTIONS=(--send-libs=no)")
    job = Job(config)
    assert_finished(job, undisturbed, num_starts=1)
    assert f"'--bcast=/dev/shm/temper-{job.id}-0-1' '--send-libs=yes'" in job.text()
    for node in job.nodes():
        assert "temper-" not in cluster("run-on", node, "ls", "/dev/shm").stdout


def write_image(folder: Path) -> list[str]:
    """An image of this machine's own system; returns how Charliecloud starts a program in it."""
    used = {Path("/", path.parts[1]) for path in (ROOT, BINARY, Path(sys.prefix), Path("/usr"))}
    shared = [*(used - {Path("/tmp")}), Path("/etc/alternatives"), Path("/etc/openmpi")]
    for path in [*shared, *(Path("/", name) for name in ("dev", "proc", "sys", "tmp"))]:
        (folder / path.relative_to("/")).mkdir(parents=True)
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    for link in filter(Path.is_symlink, Path("/").iterdir()):  # /bin, /lib ...
        (folder / link.name).symlink_to(link.readlink())
    binds = [word for path in shared for word in ("-b", f"{path}:{path}")]
    return ["env", "USER=root", "ch-run", "-c", str(folder.parent), *binds, str(folder), "--"]


def test_ranks_in_containers(config, undisturbed, nodes):
    """They meet, see one of them die, and start again, as they do outside."""
    container = write_image(config.parent / "image")
    trial = cluster("run-on", nodes[0], *container, BINARY, "--version", check=False)
    if trial.returncode != 0:
        pytest.skip(f"Charliecloud starts nothing here: {trial.stderr}")
    words = " ".join([*container, "env", f"LD_PRELOAD={SLOW_STEPS}"])
    add_site(config.parent, f"TEMPER_CONTAINER=({words})")
    job = Job(config)
    job.wait_for_step(7)
    job.signal_rank(1, "KILL")
    assert_finished(job, undisturbed)
    assert job.step_codes() == [LOST, FINISHED]
    assert "'ch-run' '-c'" in job.line("starting: 'srun'")


def test_a_launch_that_shows_no_life_is_ended_and_begun_again(config, undisturbed):
    """The first time, one node does nothing, and srun and the other one would wait for ever."""
    hang = 'if mkdir "$1" 2>/dev/null; then sleep 1000; else shift; exec "$@"; fi'
    add_site(config.parent, f"TEMPER_CONTAINER=(bash -c '{hang}' hang hung)")
    job = Job(config)
    assert_finished(job, undisturbed)
    assert "the launch has shown no life for 25 s: ending it" in job.text()
    assert "starting again in this allocation" in job.text()
    assert len(end_codes(config)) == 2 and end_codes(config)[0] > 100


def test_a_launch_that_says_it_is_well_but_has_no_result_is_begun_again(config, undisturbed):
    """srun says 0 when it is told to stop while it begins."""
    first = "[[ -e second ]] && exec \"$@\"; sleep 3; touch second"
    add_site(config.parent, f"TEMPER_CONTAINER=(bash -c '{first}' launch)")
    job = Job(config)
    assert_finished(job, undisturbed)
    assert end_codes(config) == [1, FINISHED]
    assert "all is well, but run/final is not there" in job.text()


def test_starts_that_come_to_nothing_are_not_repeated_for_ever(config):
    add_site(config.parent, "TEMPER_CONTAINER=(false) TEMPER_PAUSE_SECONDS=0")
    job = Job(config, nodes=1)  # With more, srun may report the task that it ended, not that one.
    assert job.wait() == "FAILED", job.text()
    assert "5 launches of run.yaml did not begin: MPI did not start on all ranks" in job.text()
    assert end_codes(config) == [1] * 5 and job.exit_code() == 1
