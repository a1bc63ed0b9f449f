"""TASK-042: what Slurm believes of its machines is what they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import NODES

from .._machine import CONTAINER, Unit, units
from ..phase1._facts import CPUS, MEMORY

pytestmark = pytest.mark.requires("slurm")

SLURMD = replace(units("slurmd"), after="slurm")


@pytest.mark.check("SLU-07")
@pytest.mark.reads(NODES, CPUS, MEMORY, CONTAINER)
def test_hardware(slurm: Slurm, facts: Facts, measure: Measurements) -> None:
    """Slurm gives each compute node the CPUs that it has, and of its memory nearly all, and no more.

    A container has a share of its host's CPUs and memory, which the cluster's YAML says and Slurm alone enforces: it
    is held to that share, and to what its host has.
    """
    machines = slurm.cluster.on("compute")
    controller = slurm.cluster.controller.name
    records = facts(NODES, [controller])[controller]
    cpus, memory = facts(CPUS, machines.names), facts(MEMORY, machines.names)
    kinds = facts(CONTAINER, machines.names)
    for node in machines:
        name, declared, shares = node.name, node.config, kinds[node.name] != "none"
        assert name in records, f"{name}: Slurm does not know it; expected NodeName={name} in slurm.conf"
        record = records[name]
        assert record.cpus == declared.cpus, (
            f"{name}: Slurm gives it {record.cpus} CPUs; expected {declared.cpus}, as the cluster's YAML says"
        )
        assert cpus[name] == record.cpus or (shares and cpus[name] > record.cpus), (
            f"{name}: it has {cpus[name]} CPUs, Slurm gives it {record.cpus}; expected "
            + ("no more than it has" if shares else "as many")
        )
        product = record.sockets * record.cores * record.threads
        assert product == record.cpus, (
            f"{name}: Slurm has {record.sockets} sockets of {record.cores} cores of {record.threads} threads for its "
            f"{record.cpus} CPUs; expected {record.cpus} threads in all"
        )
        assert record.memory <= memory[name], (
            f"{name}: RealMemory is {record.memory} MiB, it has {memory[name]:.0f} MiB; expected no more than it has"
        )
        has = float(declared.memory) if shares else memory[name]
        measure("slurm.node_memory", 100 * record.memory / has, "%", node=name)


@pytest.mark.check("SLU-10")
@pytest.mark.reads(NODES, SLURMD)
def test_controller_takes_no_jobs(slurm: Slurm, facts: Facts) -> None:
    """Machines without the role compute are no nodes of Slurm, and no slurmd runs on them; those with it are."""
    controller = slurm.cluster.controller.name
    records = facts(NODES, [controller])[controller]
    daemons = facts(SLURMD, slurm.cluster.all.names)
    for node in slurm.cluster.all:
        record, running = records.get(node.name), daemons[node.name].get("slurmd", Unit("", "")).active == "active"
        if "compute" in node.roles:
            assert record, f"{node.name}: the cluster's YAML gives it the role compute, and Slurm does not know it"
            continue
        assert record is None, (
            f"{node.name}: Slurm has it as a node with {record.cpus} CPUs in {', '.join(record.partitions) or 'no'} "
            "partition; expected none, as the cluster's YAML does not give it the role compute; do: take its NodeName "
            "out of slurm.conf"
        )
        assert not running, f"{node.name}: slurmd runs there; expected it on machines with the role compute alone"
