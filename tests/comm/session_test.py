# SPDX-License-Identifier: Apache-2.0
"""Starts session_probe under mpirun: what a session knows, and that a failure ends all ranks."""

import os
import subprocess
import sys
import unittest

LAUNCH = sys.argv[1:-1]
PROBE = sys.argv[-1]
RANKS = 3

CONFIGURATION = 11  # ExitCode::kConfiguration
COMM = 15  # ExitCode::kComm
DATA = 12  # ExitCode::kData
REFUSED = 18  # ExitCode::kRefused
INTERNAL = 10  # ExitCode::kInternal
MOST_WAITING = 0.35  # Of a core, which a rank that never rests takes whole; half of this is usual.


def run(*mode, ranks=RANKS, **environment):
    """The finished process. A job that hangs fails the test."""
    command = [*LAUNCH, str(ranks), PROBE, *mode]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


class Session(unittest.TestCase):
    def test_it_knows_its_place(self):
        job = run("facts")
        self.assertEqual(job.returncode, 0, job.stderr)
        lines = sorted(job.stdout.splitlines())
        self.assertEqual(len(lines), RANKS)
        for rank, line in enumerate(lines):
            self.assertRegex(line, rf"^rank {rank} of {RANKS}, {rank} of {RANKS} on \S+$")

    def test_a_failure_on_one_rank_ends_all_with_its_message_and_code(self):
        job = run("throw")
        self.assertEqual(job.returncode, DATA, job.stdout + job.stderr)
        self.assertIn("rank 1: a shard is torn\n  try: another one", job.stderr)
        self.assertNotIn("rank 0: ", job.stderr)

    def test_a_device_that_is_not_there_is_refused(self):
        """Either this build knows no GPU, or, built for CUDA, it finds none on this machine."""
        job = run("device")
        expected = {
            CONFIGURATION: r"this build of temper knows no device cuda\n"
            r"  try: build with launch/build cuda",
            REFUSED: r"there is no GPU for rank 0 on \S+:\n.*sees 0 GPUs",
        }
        self.assertIn(job.returncode, expected, job.stderr)
        self.assertRegex(job.stderr, expected[job.returncode])

    def test_what_a_rank_that_ends_alone_says_is_temper_s_last_word(self):
        job = subprocess.run([PROBE, "device"], capture_output=True, text=True, timeout=60)
        self.assertIn(job.returncode, (CONFIGURATION, REFUSED))
        self.assertRegex(job.stderr, r"^rank 0: [^\n]*\n(.*\n)?  try: [^\n]*\n$")

    def test_ranks_that_leave_at_once_are_not_taken_for_lost(self):
        for most_watched_by_one in ("256", "1"):
            job = run("leave", most_watched_by_one)
            self.assertEqual(job.returncode, 0, job.stderr)
            self.assertNotIn("lost rank=", job.stdout + job.stderr)

    def test_ranks_that_wait_leave_the_core_to_others(self):
        """In shared memory and over TCP, where each look asks the kernel; also while it yields."""
        networks = ({}, {"btl": "self,tcp", "btl_tcp_if_include": "lo", "mpi_yield_when_idle": "1"})
        for network in networks:
            job = run("wait", **{f"OMPI_MCA_{key}": value for key, value in network.items()})
            self.assertEqual(job.returncode, 0, job.stderr)
            shares = [float(line) for line in job.stdout.split()]
            self.assertEqual(len(shares), RANKS - 1)
            self.assertLess(max(shares), MOST_WAITING, network)

    def test_a_rank_that_stands_still_is_named_by_the_leader_of_its_group(self):
        job = run("stop", "1", ranks=4)
        self.assertEqual(job.returncode, COMM, job.stdout + job.stderr)
        self.assertIn("rank=2 lost rank=3 node=", job.stdout + job.stderr)

    def test_a_session_that_goes_down_with_an_exception_ends_all(self):
        job = run("unwind")
        self.assertEqual(job.returncode, INTERNAL, job.stdout + job.stderr)
        self.assertNotIn("not reached", job.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
