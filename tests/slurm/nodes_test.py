# SPDX-License-Identifier: Apache-2.0
"""Nodes that fail: the job notices soon, carries on elsewhere, and comes to the same bits."""

import pytest
from slurm_job import (
    FINISHED, LOST, PARTITION, Job, assert_finished, cluster, end_codes, slurm, wait_until,
)  # fmt: skip


@pytest.fixture(autouse=True)
def whole_cluster():
    """Mends what a test has broken."""
    broken = []
    yield broken
    for node in broken:
        if cluster("run-on", node, "true", check=False).returncode != 0:
            cluster("start-node", node)
    for node in broken:
        wait_until(lambda: "idle" == slurm("sinfo", "-h", "-n", node, "-p", PARTITION, "-o", "%t"),
                   f"node {node}")  # fmt: skip


def node_at_step_12(job: Job, place: int, broken: list) -> str:
    """One of the job's nodes, which is to be broken in the middle of the run."""
    job.wait_for_step(12)
    broken.append(job.nodes()[place])
    return broken[-1]


def test_a_power_cut_in_an_allocation_with_a_spare_node(config, undisturbed, whole_cluster):
    job = Job(config, nodes=3, options=("--no-kill",), TEMPER_NUM_NODES="2")
    victim = node_at_step_12(job, 1, whole_cluster)
    cluster("kill-node", victim)
    assert_finished(job, undisturbed)
    lost = job.line(f"lost rank=1 node={victim} step=")
    assert 'reason="' in lost and "exit=15" in lost
    assert f"bad_node={victim}: 'true' cannot be started on it" in job.text()
    assert "starting again in this allocation" in job.text()
    assert job.field("Restarts") == "0"
    assert end_codes(config)[-1] == FINISHED and end_codes(config)[0] in (LOST, 137)


def test_a_power_cut_without_a_spare_node(config, undisturbed, whole_cluster):
    job = Job(config)
    victim = node_at_step_12(job, 1, whole_cluster)
    cluster("kill-node", victim)
    assert_finished(job, undisturbed)
    assert job.field("Restarts") == "1" and victim not in job.nodes()
    assert f"lost rank=1 node={victim} step=" in job.text()


def test_a_power_cut_costs_speed_where_fewer_nodes_are_allowed(config, undisturbed, whole_cluster):
    """Six micro-batches on four nodes, and then on three of the same allocation."""
    job = Job(config, nodes=4, options=("--no-kill",), TEMPER_NUM_LEAST_NODES="3")
    victim = node_at_step_12(job, 1, whole_cluster)
    cluster("kill-node", victim)
    assert_finished(job, undisturbed)
    assert "going on with 3 nodes instead of 4" in job.text()
    assert job.field("Restarts") == "0"
    assert "begun ranks=4" in job.text() and "begun ranks=3" in job.text()


def test_a_power_cut_of_the_node_that_runs_the_script(config, undisturbed, whole_cluster):
    job = Job(config)
    victim = node_at_step_12(job, 0, whole_cluster)
    cluster("kill-node", victim)
    slurm("scontrol", "update", f"nodename={victim}", "state=down", "reason=test")
    assert_finished(job, undisturbed)
    assert int(job.field("Restarts")) >= 1 and victim not in job.nodes()


def test_a_network_cut(config, undisturbed, whole_cluster):
    job = Job(config)
    victim = node_at_step_12(job, 1, whole_cluster)
    cluster("unplug", victim)
    try:
        job.wait_for_end(1)
        wait_until(lambda: not is_training(victim), f"the end of the ranks on {victim}")
    finally:
        cluster("plug", victim)
    assert_finished(job, undisturbed)
    assert f"lost rank=1 node={victim} step=" in job.text()


def is_training(node: str) -> bool:
    return cluster("run-on", node, "pgrep", "-x", "temper", check=False).returncode == 0
