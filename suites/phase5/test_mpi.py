"""TASK-042 and 043: MPI on the nodes and in containers: which of it Slurm starts, and programs that span all nodes."""

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
from ._mpi import matrices, right_rows, right_shares, run
from ._narrow import everyone, on_nodes
from ._ranks import Place, Ran, expect, placed

pytestmark = pytest.mark.requires("slurm")

#: Intervals of π: the midpoint rule is then off by less than rounding is.
INTERVALS = 200_000
#: Rows and columns of the matrices.
SIZE = 64
#: Where the ranks of a program run: on the nodes themselves, or each in a container of the image with MPI.
HOST_AND_CONTAINER = [
    pytest.param("", id="host", marks=[pytest.mark.check("SLU-22"), pytest.mark.requires("mpi")]),
    pytest.param(
        "mpi",
        id="container",
        marks=[
            pytest.mark.check("CON-16"),
            pytest.mark.requires("apptainer", "image.mpi"),
            pytest.mark.uses("registry"),
        ],
    ),
]


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


@pytest.mark.requires("shared-storage", "compute.several")
@pytest.mark.parametrize("mpi_image", HOST_AND_CONTAINER, indirect=True)
def test_hello(slurm: Slurm, evidence: Evidence, measure: Measurements, run_id: str, mpi_image: str) -> None:
    """Two ranks on each node are one program: each is greeted by the one before it, across nodes too: 2×2 on two."""

    def hello(at: Place) -> Ran:
        with placed(slurm, run_id, "mpi/ranks.py", "mpi/hello.py") as folder:
            ran = run(slurm, evidence, at, mpi_image, f"{folder}/hello.py")
        for told in ran.told:
            before = ran.told[told["rank"] - 1]
            expect(ran, told, "heard", f"rank {before['rank']} of {len(ran.told)} on {before['node']}")
            who = f"{told['node']}: rank {told['rank']} of hello"
            assert told["pmix"], f"{who} was not started by PMIx (no PMIX_NAMESPACE)"
        return ran

    ran = on_nodes(slurm, evidence, everyone(slurm), 2, hello)
    measure("mpi.hello", ran.seconds, "s", samples=len(ran.told))


@pytest.mark.requires("shared-storage", "compute.several")
@pytest.mark.parametrize("mpi_image", HOST_AND_CONTAINER, indirect=True)
def test_pi(slurm: Slurm, evidence: Evidence, measure: Measurements, run_id: str, mpi_image: str) -> None:
    """Four ranks on each node, each summing its share, come to π: 2×4 on two."""

    def pi(at: Place) -> Ran:
        with placed(slurm, run_id, "mpi/ranks.py", "mpi/pi.py") as folder:
            ran = run(slurm, evidence, at, mpi_image, f"{folder}/pi.py", str(INTERVALS))
        right_shares(ran, INTERVALS)
        return ran

    ran = on_nodes(slurm, evidence, everyone(slurm), 4, pi)
    measure("mpi.pi.error", abs(ran.told[0]["pi"] - math.pi), "fraction", samples=len(ran.told))
    measure("mpi.pi", ran.seconds, "s", samples=len(ran.told))


@pytest.mark.requires("shared-storage", "compute.several")
@pytest.mark.parametrize("mpi_image", HOST_AND_CONTAINER, indirect=True)
def test_matrix_product(slurm: Slurm, evidence: Evidence, measure: Measurements, run_id: str, mpi_image: str) -> None:
    """Two ranks on each node multiply matrices, each some rows, exactly as one process does: 2×2 on two."""
    left, right = matrices(SIZE)

    def matmul(at: Place) -> Ran:
        with placed(slurm, run_id, "mpi/ranks.py", "mpi/matmul.py") as folder:
            slurm.write(f"{folder}/matrices.json", json.dumps({"left": left, "right": right}))
            ran = run(slurm, evidence, at, mpi_image, f"{folder}/matmul.py", f"{folder}/matrices.json")
        right_rows(ran, left, right)
        return ran

    ran = on_nodes(slurm, evidence, everyone(slurm), 2, matmul)
    measure("mpi.matmul", ran.seconds, "s", samples=len(ran.told))
