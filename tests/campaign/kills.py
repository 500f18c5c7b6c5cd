# SPDX-License-Identifier: Apache-2.0
"""Kills runs at moments that are drawn, and carries them on with what is drawn anew.

Rank, moment, number of ranks before and after, ZeRO stage, method and model come from a seed.
Whatever they are: every checkpoint that is published is whole, and the run ends with the
undisturbed one's bits.
"""

import random
import tempfile
import time
from functools import cache
from pathlib import Path

import campaign
import tiny_job
import tiny_run

FINISHED = 0
METHODS = {
    "full": (),
    "lora": ("method=lora", "lora.rank=2", "lora.dropout=0.1"),
    "qlora": ("method=qlora", "lora.rank=2"),
    "prefix": ("method=prefix", "prefix.tokens=3"),
    "prompt": ("method=prompt", "prompt.tokens=3"),
    "bottleneck": ("method=bottleneck", "bottleneck.reduction_factor=4"),
    "experts": (),  # Of a model that has some.
    "experts, lora": ("method=lora", "lora.rank=2", "lora.targets=[q_proj, down_proj]"),
}
FOLDER = tempfile.TemporaryDirectory(prefix="temper-kills-")


def write(folder: Path, method: str) -> Path:
    return tiny_job.write(folder, evaluates=True, has_experts=method.startswith("experts"))


@cache
def undisturbed(method: str) -> tuple:
    """Curve and final files of a run on one rank."""
    config = write(Path(FOLDER.name) / method, method)
    code, log = tiny_job.train(1, config, *METHODS[method])
    assert code == FINISHED, log
    return campaign.result(config)


def start(chance: random.Random, config: Path, method: str) -> tiny_job.Job:
    """A job on one to four ranks; how they share and save is drawn, too."""
    ranks, stage, saves = chance.choice((1, 2, 3, 4)), chance.randrange(4), chance.choice((1, 5))
    options = (f"parallel.stage={stage}", f"checkpoint.every_steps={saves}")
    return tiny_job.Job(ranks, config, *METHODS[method], *options)


def wait_for_moment(chance: random.Random, job: tiny_job.Job, config: Path) -> None:
    """Some moment of the start, of a step, of a save or of the end."""
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0.0, 1.0))
    else:
        tiny_job.wait_for_step(job, config, chance.randint(1, tiny_job.NUM_STEPS))
        time.sleep(chance.uniform(0.0, 0.05))


def assert_checkpoints_are_whole(config: Path) -> None:
    for checkpoint in tiny_job.checkpoints(config):
        done = tiny_run.temper("inspect", "--verify", checkpoint)
        assert done.returncode == 0 and "damaged" not in done.stdout, (checkpoint, done)


def kill_and_carry_on(chance: random.Random) -> None:
    method = chance.choice(list(METHODS))
    wanted = undisturbed(method)
    with tempfile.TemporaryDirectory(dir=FOLDER.name) as folder:
        config = write(Path(folder) / "killed", method)
        for _ in range(chance.choice((1, 2))):
            job = start(chance, config, method)
            wait_for_moment(chance, job, config)
            job.kill(chance.choice((slice(None), slice(0, 1), slice(-1, None))))
            assert_checkpoints_are_whole(config)
        job = start(chance, config, method)
        code = job.wait()
        assert code == FINISHED, job.log.read_text()
        found = campaign.result(config)
        assert found[0] == wanted[0], f"{method}: another curve\n{job.log.read_text()}"
        assert found[1] == wanted[1], f"{method}: other weights\n{job.log.read_text()}"
        assert_checkpoints_are_whole(config)


if __name__ == "__main__":
    with FOLDER:
        campaign.run("kills", 8, kill_and_carry_on)
