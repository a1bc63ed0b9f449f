"""Machines that are switched off and on are used again without anybody's help."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.limits import Limits
from pytest_ai_how.machines import Machines
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.protocol import Service

from ._reboot import Doing, doing, not_back, services_of


@pytest.mark.check("INF-16")
@pytest.mark.requires("owned")
@pytest.mark.disruptive
@pytest.mark.exclusive
@pytest.mark.usefixtures("facts")  # which forgets what was read before
def test_reboot(
    bringup: Bringup, machines: Machines, evidence: Evidence, measure: Measurements, limits: Limits
) -> None:
    """Each machine, one after the other, is back within the limit: its units, what it listens on, and all services."""
    cluster, services = bringup.cluster(), bringup.ready_all(services_of(bringup.config))
    gate = limits["node.reboot"].gate
    assert gate and gate.max, "node.reboot has no limit; nothing would end the wait"  # noqa: PT018  one limit
    for node in cluster.nodes:
        before = doing(node)
        evidence.attach(f"{node.name}: before", str(before))
        assert before.services, f"{node.name}: no service is active; nothing could be lost"
        since = time.monotonic()
        machines.stop(node.name)
        machines.start(node.name)
        await_back(node, before, services, gate.max)
        took = time.monotonic() - since
        evidence.attach(f"{node.name}: after", str(doing(node)))
        measure("node.reboot", took, "s", node=node.name)


def await_back(node: Node, before: Doing, services: Mapping[str, Service], within: float) -> None:
    """Wait until a machine does what it did and no service has a fault. Fails with the first thing that is not back."""
    seen: tuple[str, ...] = ("nothing was seen",)

    def back() -> bool:
        nonlocal seen
        seen = not_back(node, before, services)
        return not seen

    try:
        wait_for(
            back, within=within, what="back with all services", where=node.name, every=0.1, at_most=1.0,
            last_seen=lambda: seen[0], cure=f"read `journalctl -b` on {node.name}",
        )  # fmt: skip
    except DeadlineExceeded as error:
        raise AssertionError(str(error)) from error
