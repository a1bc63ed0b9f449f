"""Machines that are switched off and on, one by one, while a real run looks on."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.integration.conftest import NAME, Life

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]

SWITCHED = """
def test_kept(machines, cluster, slurm):
    node = cluster["node01"]
    for force in (False, True):
        node.write("/root/kept", str(force))
        boot = node.read("/proc/1/stat").split()[21]
        machines.stop("node01", force=force)
        assert machines.state("node01") == "off"
        assert cluster.controller.run("ping", "-c1", "-W1", node.address, check=False).returncode == 1
        machines.start("node01")
        assert machines.state("node01") == "running"
        assert node.read("/root/kept") == str(force)
        assert node.read("/proc/1/stat").split()[21] != boot
    said = machines.consoles()["node01"].read_text()
    assert said.count("Powering off.") == 1
    assert said.count("running in system mode") == 3

def test_job(slurm):
    wait = time.monotonic() + 60
    while slurm.nodes()["node01"].state != "IDLE" and time.monotonic() < wait:
        time.sleep(0.2)
    job = slurm.cluster.controller.run("srun", "--chdir=/tmp", "hostname", user="hpc")
    assert job.stdout == "node01\\n"

def test_left_off(machines):
    machines.stop("node01")

def test_put_back(machines):
    assert machines.state("node01") == "running"
"""


def test_a_machine_keeps_its_disk_and_is_put_back(life: Life) -> None:
    life.tests(SWITCHED)
    ended = life.run()
    assert ended.status == 0, ended.text
    assert set(life.verdicts().values()) == {"passed"}
    assert life.left == []


def test_a_kept_cluster_with_a_machine_that_is_off_is_made_anew(life: Life) -> None:
    life.tests("def test_off(bringup, cluster):\n    bringup.driver.stop(bringup.config, 'node01')\n")
    assert life.run("--cluster-keep=always").status == 0
    life.tests("def test_on(cluster):\n    assert cluster['node01'].run('uname', '-n').ok\n")
    ended = life.run()
    assert ended.status == 0, ended.text
    assert "making 2 machines" in ended.errors
    assert f"cluster {NAME}, found up and used again" not in ended.text
    assert life.left == []


def test_machines_that_are_not_ours_are_refused(life: Life) -> None:
    life.tests("def test_no(machines):\n    machines.stop('node01')\n")
    life.config(storage=("storage: {kind: none}", "storage: {kind: none}\nabsent: [owned]"))
    assert life.run().status != 0
    [result] = life.report()["results"]
    assert result["verdict"] == "broken"
    assert "its machines are not switched off or on: declared absent in cluster" in result["reason"]
    assert life.left == []
