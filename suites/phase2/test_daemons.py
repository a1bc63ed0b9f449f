"""TASK-042: Slurm's daemons: they run, all of one version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.versions import mismatch
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONFIG, NODES, VERSIONS

from .._machine import Unit, units

pytestmark = pytest.mark.requires("slurm")

DAEMONS = replace(units("munge", "slurmctld", "slurmdbd", "mariadb", "slurmd"), after="slurm")
UP = Unit("active", "enabled")


@pytest.mark.check("SLU-03")
@pytest.mark.reads(DAEMONS)
def test_daemons_run(slurm: Slurm, facts: Facts) -> None:
    """The daemons of each machine's roles are active, and enabled so that they are again after a reboot."""
    found = facts(DAEMONS, slurm.cluster.all.names)
    for node, wanted in daemons(slurm.cluster).items():
        for name in wanted:
            seen = found[node].get(name, Unit("", ""))
            assert seen == UP, f"{node}: {name} is {seen}, expected {UP}; do: read `journalctl -u {name}` there"


def daemons(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """The daemons that each machine is to run, by the roles that the cluster's YAML gives it."""
    accounting = cluster.config.slurm is None or cluster.config.slurm.accounting
    controller = ("slurmctld", *(("mariadb", "slurmdbd") if accounting else ()))
    return {
        node.name: (
            "munge",
            *(controller if "controller" in node.roles else ()),
            *(("slurmd",) if "compute" in node.roles else ()),
        )
        for node in cluster.all
    }


@pytest.mark.check("SLU-04")
@pytest.mark.reads(VERSIONS, CONFIG, NODES)
def test_one_version(slurm: Slurm, facts: Facts) -> None:
    """Programs on all machines and daemons that run are of one version, and that of the declared series."""
    controller = slurm.cluster.controller.name
    running = facts(CONFIG, [controller])[controller]["SLURM_VERSION"]
    for node, programs in facts(VERSIONS, slurm.cluster.all.names).items():
        for program, version in programs.items():
            assert version == running, (
                f"{node}: {program} is {version}, {controller}'s slurmctld is {running}; expected one version "
                "everywhere"
            )
    records = facts(NODES, [controller])[controller]
    for node in slurm.compute:
        version = records[node].version if node in records else ""
        assert version == running, (
            f"{node}: the slurmd that runs is {version or 'unknown to slurmctld'}, {controller}'s slurmctld is "
            f"{running}; expected one version everywhere; do: restart slurmd"
        )
    declared = Source.shipped().define("node").demands["slurmctld"]
    wrong = mismatch(running, declared)
    assert not wrong, f"{controller}: slurmctld is {running}, {wrong}, as configs/versions.yaml declares"
