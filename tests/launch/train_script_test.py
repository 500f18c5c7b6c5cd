# SPDX-License-Identifier: Apache-2.0
"""slurm/train.sbatch counts what came to nothing, with commands that only play Slurm and temper."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_STARTS = 3
LOST, RESUME, SEGV, TERM = 15, 19, 139, 143

SRUN = 'while [[ $1 == -* ]]; do shift; done; exec "$@"'
SCONTROL = '[[ "$*" != *"show hostnames"* ]] || echo n1'
# Each launch does what the next line of `plan` says.
TEMPER = r"""
if [[ $1 == check ]]; then printf 'run:\n  folder: "run"\n'; exit; fi
read -r act <plan
sed -i 1d plan
[[ $act != begun* ]] || echo "12:00:00 begun ranks=1" >&2
case $act in
  *segv) kill -SEGV $$ ;;
  *term) kill -TERM $$ ;;
  *saves) mkdir -p run/checkpoints; ln -sfn "step-$RANDOM$RANDOM" run/checkpoints/latest; exit 15 ;;
  *finishes) mkdir -p run/final ;;
  *) exit 1 ;;
esac
"""


class TrainScript(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        commands = {"srun": SRUN, "scontrol": SCONTROL, "temper": TEMPER}
        commands |= dict.fromkeys(("squeue", "scancel", "sbatch", "sacct", "sleep"), "")
        (self.folder / "bin").mkdir()
        for name, text in commands.items():
            path = self.folder / "bin" / name
            path.write_text(f"#!/bin/bash\n{text}\n")
            path.chmod(0o755)
        (self.folder / "site.env").write_text(
            f"TEMPER_BROADCAST= TEMPER_MOST_STARTS={MOST_STARTS} TEMPER_PAUSE_SECONDS=7\n"
            f"TEMPER_BINARY={self.folder}/bin/temper\n"
        )

    def run_job(self, *plan: str) -> int:
        """The exit code of a job whose launches do this, one after another."""
        (self.folder / "plan").write_text("".join(f"{act}\n" for act in plan))
        environment = os.environ | {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1", "TEMPER_ROOT": str(ROOT),
            "TEMPER_SITE": str(self.folder / "site.env"),
        }  # fmt: skip
        with open(self.folder / "log", "w") as log:
            done = subprocess.run(
                ["bash", ROOT / "slurm" / "train.sbatch", "c.yaml"], stdout=log, stderr=log,
                cwd=self.folder, env=environment, timeout=100,
            )  # fmt: skip
        self.log = (self.folder / "log").read_text()
        return done.returncode

    def ends(self) -> list[tuple[bool, int]]:
        lines = (self.folder / "run.jobs.jsonl").read_text().splitlines()
        notes = [note for note in map(json.loads, lines) if note["event"] == "end"]
        return [(note["begun"], note["code"]) for note in notes]

    def test_launches_in_which_mpi_does_not_start_are_no_crashes(self):
        plan = ("fails", "begun segv", "fails", "begun segv", "begun finishes")
        self.assertEqual(self.run_job(*plan), 0)
        expected = [(False, 1), (True, SEGV), (False, 1), (True, SEGV), (True, 0)]
        self.assertEqual(self.ends(), expected)
        self.assertIn("launches that did not begin: 1; pausing for 7 s", self.log)
        self.assertIn("launches that did not begin: 2; pausing for 21 s", self.log)
        self.assertEqual(self.log.count("pausing"), 2)

    def test_crashes_end_the_chain_and_a_checkpoint_forgives_them(self):
        plan = (*["begun segv"] * 2, "begun saves", *["begun segv"] * 9)
        self.assertEqual(self.run_job(*plan), SEGV)
        crashes = [(True, SEGV)]
        self.assertEqual(self.ends(), crashes * 2 + [(True, LOST)] + crashes * MOST_STARTS)
        self.assertIn("3 starts of c.yaml came to no new checkpoint: the chain ends", self.log)

    def test_launches_that_never_begin_end_the_chain_too(self):
        self.assertEqual(self.run_job(*["fails"] * 9), 1)
        self.assertEqual(self.ends(), [(False, 1)] * MOST_STARTS)
        self.assertIn("3 launches of c.yaml did not begin: MPI did not start", self.log)

    def test_a_rank_that_is_told_to_stop_before_it_can_listen_is_neither(self):
        for _ in range(MOST_STARTS + 1):  # Each time the job asks Slurm for another start.
            self.assertEqual(self.run_job("term"), RESUME)
        self.assertEqual(self.run_job("begun term", "begun finishes"), 0)
        expected = [(False, RESUME)] * (MOST_STARTS + 1) + [(True, TERM), (True, 0)]
        self.assertEqual(self.ends(), expected)


if __name__ == "__main__":
    unittest.main()
