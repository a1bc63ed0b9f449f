"""TASK-043: a small image comes from a registry onto a node and is converted into what containers start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.limits import Limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.apptainer import Apptainer

from ..phase6._containers import inside

pytestmark = pytest.mark.requires("apptainer")

PULL = Path(__file__).parent / "payloads" / "pull.py"


@pytest.mark.check("CON-03")
def test_pull_and_convert(
    apptainer: Apptainer, evidence: Evidence, measure: Measurements, limits: Limits, run_id: str
) -> None:
    """An image of some megabytes is pulled from a registry, converted and run, by the job user, in time.

    The registry is a program of ours on the node's own address, for these seconds: no image hub is asked for anything.
    """
    gate = limits.require("container.pull", "s").gate
    within = gate.max if gate else None
    assert within, f"{limits.where('container.pull')}: container.pull has no maximum, so nobody knows how long to wait"
    for node in apptainer.cluster.on("compute"):
        call = ("python3", "-c", PULL.read_text(encoding="utf-8"), node.address, f"pulled-{run_id}", f"{within:g}")
        found = inside(apptainer, node, evidence, call, timeout=within + 60)
        said = (found["said"].strip() or "nothing on stderr").splitlines()[-1]
        assert found["status"] == 0, f"{node.name}: `apptainer pull` ended with {found['status']}: {said}"
        assert found["blobs"], (
            f"{node.name}: `apptainer pull` never asked the registry for the image's files; where from?"
        )
        assert found.get("word") == f"pulled-{run_id}", (
            f"{node.name}: the image that was pulled says {found.get('word')!r}, expected 'pulled-{run_id}': "
            f"{found.get('errors', said).strip()[-200:]}"
        )
        measure("container.pull", found["seconds"], "s", node=node.name)
