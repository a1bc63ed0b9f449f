"""TASK-042: MPI on the nodes: which of it Slurm starts, programs that span nodes, and the ports that they use."""

from __future__ import annotations

import json
import math

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONFIG

from ._facts import PLUGINS
from ._mpi import matrices, right_rows, right_shares
from ._ranks import Ran, Shape, expect, in_place, launch, placed

pytestmark = pytest.mark.requires("slurm")

#: MiB on each node: an interpreter for each rank, and what its ranks share by memory.
MEMORY = 256
#: Intervals of π: the midpoint rule is then off by less than rounding is.
INTERVALS = 200_000
#: Rows and columns of the matrices.
SIZE = 64


@pytest.mark.check("SLU-23")
@pytest.mark.reads(PLUGINS, CONFIG)
@pytest.mark.usefixtures("slurm")
def test_plugins(facts: Facts) -> None:
    """On every machine srun starts programs by PMIx and by PMI-2, and by PMIx when nothing else is asked for."""
    found = facts(PLUGINS)
    assert found, "no machine was asked which MPI plug-ins it has"
    for node, plugins in found.items():
        for wanted in ("pmix", "pmi2"):
            assert wanted in plugins, (
                f"{node}: `srun --mpi=list` has no {wanted}, it has {', '.join(plugins)}; expected pmix and pmi2; do: "
                "install Slurm's plug-ins and libpmix there"
            )
    for node, config in facts(CONFIG).items():
        assert config.get("MpiDefault") == "pmix", (
            f"{node}: MpiDefault is {config.get('MpiDefault') or 'unset'}, expected pmix; do: set it in slurm.conf"
        )


@pytest.mark.check("SLU-22")
@pytest.mark.requires("shared-storage", "mpi", "compute.several")
def test_hello(slurm: Slurm, evidence: Evidence, measure: Measurements, run_id: str) -> None:
    """Four ranks on two nodes are one program: each is greeted by the one before it, across nodes too."""
    shape = Shape(2, 2)
    with placed(slurm, run_id, "mpi/ranks.py", "mpi/hello.py") as folder:
        ran = run(slurm, evidence, "hello", shape, f"{folder}/hello.py")
    in_place(ran, shape)
    for told in ran.told:
        before = ran.told[told["rank"] - 1]
        expect(ran, told, "heard", f"rank {before['rank']} of {shape.ranks} on {before['node']}")
        assert told["pmix"], f"{told['node']}: rank {told['rank']} of hello was not started by PMIx (no PMIX_NAMESPACE)"
    measure("mpi.hello", ran.seconds, "s", samples=shape.ranks)


@pytest.mark.check("SLU-22")
@pytest.mark.requires("shared-storage", "mpi", "compute.several")
def test_pi(slurm: Slurm, evidence: Evidence, measure: Measurements, run_id: str) -> None:
    """Eight ranks on two nodes, each summing its share, come to π."""
    shape = Shape(2, 4)
    with placed(slurm, run_id, "mpi/ranks.py", "mpi/pi.py") as folder:
        ran = run(slurm, evidence, "pi", shape, f"{folder}/pi.py", str(INTERVALS))
    in_place(ran, shape)
    right_shares(ran, INTERVALS)
    measure("mpi.pi.error", abs(ran.told[0]["pi"] - math.pi), "fraction", samples=shape.ranks)
    measure("mpi.pi", ran.seconds, "s", samples=shape.ranks)


@pytest.mark.check("SLU-22")
@pytest.mark.requires("shared-storage", "mpi", "compute.several")
def test_matrix_product(slurm: Slurm, evidence: Evidence, measure: Measurements, run_id: str) -> None:
    """Four ranks on two nodes multiply matrices, each some rows, exactly as one process does."""
    shape = Shape(2, 2)
    left, right = matrices(SIZE)
    with placed(slurm, run_id, "mpi/ranks.py", "mpi/matmul.py") as folder:
        slurm.query("tee", "--", f"{folder}/matrices.json", input=json.dumps({"left": left, "right": right}))
        ran = run(slurm, evidence, "matmul", shape, f"{folder}/matmul.py", f"{folder}/matrices.json")
    in_place(ran, shape)
    right_rows(ran, left, right)
    measure("mpi.matmul", ran.seconds, "s", samples=shape.ranks)


def run(slurm: Slurm, evidence: Evidence, name: str, shape: Shape, *program: str) -> Ran:
    """Run a program of several ranks on the nodes themselves, with more ranks than CPUs if too few nodes have them."""
    cpus = {node: record.cpus for node, record in slurm.nodes().items() if record.usable}
    over = sum(count >= shape.per_node for count in cpus.values()) < shape.nodes
    told = ", ".join(f"{node} has {count}" for node, count in cpus.items())
    evidence.attach("CPUs", f"{'overcommitted' if over else 'one for each rank'}: {shape} ranks; {told}")
    argv = ("python3", *program)
    return launch(slurm, evidence, name, shape, argv, mpi="pmix", mem=MEMORY, overcommit=over)
