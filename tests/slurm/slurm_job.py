# SPDX-License-Identifier: Apache-2.0
"""Jobs on the tests' Slurm cluster: written, submitted, disturbed, awaited and looked up."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "app"), str(ROOT / "tests" / "end_to_end")]

import tiny_job  # noqa: E402

TRAIN = ROOT / "slurm" / "train.sbatch"
CLUSTER = ROOT / "tests" / "slurm" / "cluster"
PARTITION = os.environ.get("TEST_PARTITION", "main")
TIMEOUT_SECONDS = 240
STEPS, FOREVER = 60, 1_000_000
FINISHED, CONFIGURATION, DATA, MODEL, CHECKPOINT, LOST = 0, 11, 12, 13, 14, 15
NON_FINITE, NO_MEMORY, REFUSED, RESUME = 16, 17, 18, 19
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
         "TIMEOUT"}  # fmt: skip

SLOW_STEPS = Path(os.environ["TEMPER_BUILD_DIR"]) / "tests" / "slurm" / "libslow_steps.so"

# What a job needs on the tests' nodes, which share everything but /dev/shm.
SITE = f"""\
TEMPER_BROADCAST=
TEMPER_LAUNCH_SECONDS=25
TEMPER_SIGNAL_SECONDS=5
TEMPER_PAUSE_SECONDS=1
TEMPER_FILES_SECONDS=3
TEMPER_LAUNCHER=${{TEST_LAUNCHER:-srun}}
TEMPER_CONTAINER=(env LD_PRELOAD={SLOW_STEPS})
"""

# A lost rank is to be found soon.
SILENCE_SECONDS = 6
QUICK = f"watchdog: {{silence_seconds: {SILENCE_SECONDS}, stall_seconds: 60}}\n"


def is_up() -> bool:
    return cluster("run", "true", check=False).returncode == 0


def cluster(*command: object, check: bool = True, **options) -> subprocess.CompletedProcess:
    """A verb of the cluster's script."""
    done = subprocess.run([CLUSTER, *map(str, command)], capture_output=True, text=True,
                          timeout=TIMEOUT_SECONDS, **options)  # fmt: skip
    assert not check or done.returncode == 0, done
    return done


def slurm(*command: object, **options) -> str:
    """The output of a command on the head."""
    return cluster("run", *command, **options).stdout.strip()


def wait_until(condition, what, seconds: float = TIMEOUT_SECONDS):
    """The first true value of the condition. If none comes, the test fails with `what`, a text or
    what makes it then. Conditions that start processes take from the ranks what cores there are."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what() if callable(what) else what} does not come"
        time.sleep(0.25)
    return value


def write_run(folder: Path, steps: int = tiny_job.NUM_STEPS) -> Path:
    """The tiny run, with a watchdog that barks soon and the site's values for these nodes. There it
    is slow until `hurry`, so that it can be disturbed."""
    config = tiny_job.write(folder)
    text = config.read_text().replace(f"max_steps: {tiny_job.NUM_STEPS}", f"max_steps: {steps}")
    config.write_text(text + QUICK)
    (folder / "site.env").write_text(SITE)
    slow_down(folder, 0.5, num_quick=10)
    return config


def add_site(folder: Path, line: str) -> None:
    """One more of the site's values."""
    with open(folder / "site.env", "a") as site:
        site.write(line + "\n")


def change(config: Path, *changes: tuple[str, str]) -> None:
    """Replaces texts of a configuration, which it has."""
    text = config.read_text()
    for old, new in changes:
        assert old in text, text
        text = text.replace(old, new)
    config.write_text(text)


def slow_down(folder: Path, seconds: float, num_quick: int = 0) -> None:
    """From now on each step takes so long, or longer; but not the first ones of a launch."""
    (folder / "slow").write_text(f"{seconds} {num_quick}")


def hurry(folder: Path) -> None:
    """From now on steps take no longer than they must."""
    (folder / "slow").unlink(missing_ok=True)


def job_environment(folder: Path) -> dict[str, str]:
    """What a user's shell has; not what keeps the other tests' ranks on one machine."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("OMPI_MCA", "PRTE_MCA"))}  # fmt: skip
    return kept | {"TEMPER_ROOT": str(ROOT), "TEMPER_SITE": str(folder / "site.env")}


class Job:
    """One job of train.sbatch, in the folder of its first configuration."""

    def __init__(self, *configs: Path, options: tuple = (), nodes: int = 2, script: Path = TRAIN,
                 log: str = "job.log", **environment: str):  # fmt: skip
        self.config, self.folder = configs[0], configs[0].parent
        self.environment = job_environment(self.folder) | environment
        self.log = self.folder / log
        self.id = slurm(
            "sbatch", "--parsable", f"--nodes={nodes}", "--ntasks-per-node=1",
            f"--output={self.log}", f"--partition={PARTITION}", *options, script,
            *(config.relative_to(self.folder) for config in configs),
            cwd=self.folder, env=self.environment,
        )  # fmt: skip

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def report(self) -> str:
        """Where it stands, for a test that fails: its state, and how its log ends."""
        state = slurm("squeue", "-h", "-t", "all", "-j", self.id, "-o", "%T %r", check=False)
        last_lines = "\n".join(self.text().splitlines()[-60:])
        return f"job {self.id} ({state}), whose log ends with\n{last_lines}\n"

    def state(self) -> str:
        """Slurm lets a job that it starts again wait for the lifetime of a credential. It need not,
        once nothing of its last start is left whose end could be taken for that of the next, and a
        second has passed: slurmd refuses a credential of the second in which it revoked the last.
        """
        told = slurm("squeue", "-h", "-t", "all", "-j", self.id, "-o", "%T %r")
        state, _, reason = told.partition(" ")
        if reason == "BeginTime" and not self.has_daemons():
            time.sleep(1.1)
            slurm("scontrol", "update", f"JobId={self.id}", "StartTime=now", check=False)
        return state

    def has_daemons(self) -> bool:
        """Whether a slurmstepd of the job lives, on any node: they all are on this machine. It
        lives until the controller knows how its script or step has ended."""
        title = f"slurmstepd: [{self.id}.".encode()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # It has ended meanwhile.
                if file.read_bytes().startswith(title):
                    return True
        return False

    def field(self, name: str) -> str:
        shown = slurm("scontrol", "-o", "show", "job", self.id)
        return re.search(rf"\b{name}=(\S*)", shown)[1]

    def wait_for_step(self, step: int) -> None:
        """Returns when a line of the step, or of a later one, stands in the metrics."""
        wait_until(
            lambda: last_step(self.config) >= step or self.state() in ENDED,
            lambda: f"step {step} of {self.report()}",
        )

    def wait(self) -> str:
        """Its state once it is over for good."""
        wait_until(lambda: self.state() in ENDED, lambda: f"the end of {self.report()}")
        return self.state()

    def wait_for_starts(self, count: int) -> None:
        """Returns when so many launches were begun."""

        def has_started() -> bool:
            return len(starts(self.config)) >= count or not self.state()

        wait_until(has_started, lambda: f"start {count} of {self.report()}")

    def wait_for_end(self, count: int, seconds: float = TIMEOUT_SECONDS) -> None:
        """Returns when so many launches have ended by themselves."""
        has_ended = lambda: len(end_codes(self.config)) >= count  # noqa: E731
        wait_until(has_ended, lambda: f"launch {count}'s end of {self.report()}", seconds)

    def line(self, text: str) -> str:
        """The first line of the log that has the text."""
        assert text in self.text(), self.text()
        return next(line for line in self.text().splitlines() if text in line)

    def nodes(self) -> list[str]:
        return slurm("scontrol", "show", "hostnames", self.field("NodeList")).split()

    def signal_ranks(self, name: str) -> None:
        """To all ranks there are now. With the job's number scancel would try again while the job
        waits to be started, and the signal would come when the test does not mean it to."""
        for step in slurm("squeue", "-h", "-s", "-j", self.id, "-o", "%i", check=False).split():
            if step.split(".")[1].isdigit():
                slurm("scancel", "-s", name, step, check=False)

    def signal_rank(self, rank: int, name: str) -> None:
        """With one rank on each node."""
        cluster("run-on", self.nodes()[rank], "pkill", f"-{name}", "-x", "temper")

    def records(self, *options: str) -> list[list[str]]:
        """Id, state, exit code and name of job and steps, as the accounting has them."""

        def found():
            rows = slurm("sacct", "-n", "-P", *options, "-j", self.id,
                         "-o", "JobID,State,ExitCode,JobName").splitlines()  # fmt: skip
            rows = [row.split("|") for row in rows]
            is_open = any(row[1] in ("RUNNING", "PENDING") for row in rows)
            return None if is_open or not rows else rows

        return wait_until(found, f"the accounting of job {self.id}", 30)

    def exit_code(self) -> int:
        """Of the batch script, as the accounting has it."""
        return int(self.records()[0][2].split(":")[0])

    def step_codes(self) -> list[int]:
        """Of the launches, in their order, over all starts of the job.

        Where a rank calls MPI_Abort, Slurm may kill it before it has ended with its code, and then
        records the signal instead: such a launch counts with the code that srun had, which is the
        job's own.
        """
        steps = [row[2] for row in self.records("-D")
                 if row[3] in ("temper", "env", "bash") and "." in row[0]]  # fmt: skip
        aborted = f"0:{int(signal.SIGKILL)}"
        return [code if record == aborted and code not in (FINISHED, RESUME)
                else int(record.split(":")[0])
                for record, code in zip(steps, end_codes(self.config))]  # fmt: skip


def last_step(config: Path) -> int:
    lines = tiny_job.step_lines(config)
    return lines[-1]["step"] if lines else 0


def notes(config: Path, run: str = "run") -> list[dict]:
    """What the jobs themselves wrote down of a stage."""
    path = config.parent / f"{run}.jobs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def starts(config: Path, run: str = "run") -> list[dict]:
    """What was written down when launches began."""
    return [note for note in notes(config, run) if note["event"] == "start"]


def end_codes(config: Path, run: str = "run") -> list[int]:
    """The exit codes of all launches that ended by themselves."""
    return [note["code"] for note in notes(config, run) if note["event"] == "end"]


def assert_finished(job: Job, undisturbed: tuple, num_starts: int = 2) -> None:
    """That a job which was disturbed before this start comes to the undisturbed result, and went on
    from the newest checkpoint there was."""
    job.wait_for_starts(num_starts)
    hurry(job.folder)
    assert job.wait() == "COMPLETED", job.text()
    assert job.exit_code() == FINISHED
    assert tiny_job.result(job.config) == undisturbed
    newest = starts(job.config)[-1]["newest"]
    assert not newest or f"resumed step={int(newest.removeprefix('step-'))} " in job.text()


def end_all_jobs() -> None:
    """Those on this third of the cluster; returns when none is left."""
    slurm("scancel", "-p", PARTITION, check=False)
    wait_until(lambda: not slurm("squeue", "-h", "-p", PARTITION), "the end of all jobs")
