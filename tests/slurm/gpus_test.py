# SPDX-License-Identifier: Apache-2.0
"""Jobs with GPUs, which Slurm gives out and which there are not: each rank takes one of its own.

The ranks are gpu_probe's, which finds pretended cards behind the CUDA_VISIBLE_DEVICES of Slurm.
"""

import os
import subprocess
from pathlib import Path

import pytest
from slurm_job import (
    FINISHED, LOST, PARTITION, REFUSED, ROOT, Job, add_site, change, end_all_jobs, end_codes,
    job_environment, slurm,
)  # fmt: skip

PROBE = Path(os.environ["TEMPER_BUILD_DIR"]) / "tests" / "slurm" / "slurm.gpu_probe"
PROGRAM = f"""\
#!/bin/sh
case "$*" in
  train*) exec {PROBE} ;;
  *--print-config) cat "$2" ;;
  *) echo 'steps       3, or 1 epochs' ;;
esac
"""


@pytest.fixture
def config(tmp_path) -> Path:
    """A configuration as `temper check --print-config` prints it, which is all that is read."""
    config = tmp_path / "run.yaml"
    config.write_text("run:\n  folder: run\nmodel:\n  path: model\n  device: cuda\n")
    (tmp_path / "temper").write_text(PROGRAM)
    (tmp_path / "temper").chmod(0o755)
    (tmp_path / "site.env").write_text("TEMPER_BROADCAST= TEMPER_PAUSE_SECONDS=0\n")
    yield config
    end_all_jobs()


def start(config: Path, ranks: int, gpus: int, nodes: int = 1, **environment: str) -> Job:
    options = (f"--ntasks-per-node={ranks}", f"--gpus-per-node={gpus}")
    binary = str(config.parent / "temper")
    return Job(config, nodes=nodes, options=options, TEMPER_BINARY=binary, **environment)


def cards(job: Job) -> list[tuple[str, int, int]]:
    """Of each rank in the last launch: its node, how many cards it sees, and which it takes."""
    lines = job.text().rpartition("starting: ")[2].splitlines()
    words = [line.split() for line in lines if " takes card " in line]
    return sorted((line[3], int(line[5]), int(line[-1])) for line in words)


@pytest.mark.parametrize(("num_ranks", "site"), [
    (2, "TEMPER_LAUNCHER=mpirun"),
    (4, "TEMPER_GPU_BIND=mask_gpu:0x3,0x3,0xc,0xc"),  # As closest does with two cards a socket.
])  # fmt: skip
def test_each_rank_takes_a_card_of_its_own(config, num_ranks, site):
    add_site(config.parent, site)
    job = start(config, ranks=num_ranks, gpus=num_ranks)
    assert job.wait() == "COMPLETED", job.text()
    assert cards(job) == [(*job.nodes(), 2, card) for card in range(num_ranks)]


def test_what_nccl_said_is_kept_and_named_where_a_launch_failed(config):
    (config.parent / "fails").touch()
    job = start(config, ranks=2, gpus=2, nodes=2)
    assert job.wait() == "COMPLETED", job.text()
    assert end_codes(config) == [LOST, FINISHED]
    folder = config.parent / f"run.nccl-{job.id}-0-1"
    assert f"nccl={folder}: what NCCL said in 1 ranks, such as\n" in job.text()
    assert "rank-1:n1:17 [1] NCCL WARN a cable is loose\n" in job.text()
    assert [path.name for path in config.parent.glob("run.nccl-*/*")] == ["rank-1"]
    assert cards(job) == [(node, 2, card) for node in job.nodes() for card in range(2)]


def test_two_ranks_on_one_card_are_refused(config):
    add_site(config.parent, "TEMPER_GPU_BIND=mask_gpu:0x1,0x3")
    job = start(config, ranks=2, gpus=2)
    assert job.wait() == "FAILED", job.text()
    assert f"ranks 0 and 1 on {job.nodes()[0]} take one GPU:\n" in job.text()
    assert end_codes(config) == [REFUSED]
    assert "is one that a new start does not mend: the chain ends" in job.text()


def test_a_node_that_lost_a_card_is_excluded(config):
    """Its rank is refused; the site's check says that the node is to blame, and not the launch."""
    nodes = slurm("sinfo", "-h", "-N", "-p", PARTITION, "-o", "%N").split()
    broken = min(nodes, key=lambda name: int(name[1:]))
    check = f"'[[ $SLURMD_NODENAME != {broken} ]] || {{ echo GPU is lost; exit 1; }}'"
    add_site(config.parent, f"TEMPER_NODE_CHECK=(bash -c {check})")
    job = start(config, ranks=2, gpus=2, nodes=2, TEMPER_NUM_NODES="1", TEST_BROKEN_NODE=broken)
    assert job.wait() == "COMPLETED", job.text()
    assert f"there is no GPU for rank 1 on {broken}:" in job.text()
    assert job.line(f"bad_node={broken}: ").endswith(" (GPU is lost); it is excluded from now on")
    assert end_codes(config) == [REFUSED, FINISHED]
    assert {node for node, *_ in cards(job)} == set(job.nodes()) - {broken}


def submit(config: Path, *options: str) -> subprocess.CompletedProcess:
    environment = job_environment(config.parent) | {"TEMPER_BINARY": str(config.parent / "temper")}
    words = [ROOT / "slurm" / "submit", "--dry-run", *options, config.name]
    return subprocess.run(words, cwd=config.parent, env=environment, capture_output=True, text=True)


def test_submit_compares_gpus_with_ranks(config):
    done = submit(config, "--gpus-per-node", "a100:2", "--tasks-per-node", "2")
    assert done.returncode == 0 and "warning" not in done.stdout, done
    assert "#SBATCH --gpus-per-node=a100:2\n" in done.stdout
    done = submit(config, "--gpus-per-node", "2", "--tasks-per-node", "4")
    assert done.returncode == 11 and "and 4 ranks a node for 2 GPUs\n" in done.stderr, done
    done = submit(config, "--gpus-per-node", "a100")
    assert done.returncode == 11 and "'a100' GPUs a node\n" in done.stderr, done
    assert "1 ranks a node for 4 GPUs" in submit(config, "--gpus-per-node", "4").stdout
    assert "but no GPUs are asked for" in submit(config).stdout
    change(config, ("cuda", "cpu"))
    assert "so that the GPUs are idle" in submit(config, "--gpus-per-node", "1").stdout
    add_site(config.parent, "TEMPER_GPU_BIND=closest TEMPER_LAUNCHER=mpirun")
    done = submit(config)
    assert done.returncode == 11 and "is an option of srun\n" in done.stderr, done
