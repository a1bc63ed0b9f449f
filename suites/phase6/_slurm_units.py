"""Faults made on purpose, and undone however the check ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import NodeRecord, Slurm


@contextmanager
def stopped(node: Node, unit: str, evidence: Evidence) -> Iterator[None]:
    """Stop a unit for the time of the block."""
    try:
        evidence.result(node.run("systemctl", "stop", unit, timeout=60))
        yield
    finally:
        evidence.result(node.run("systemctl", "start", unit, timeout=60))


@contextmanager
def killed(node: Node, unit: str, evidence: Evidence) -> Iterator[None]:
    """Kill a unit's main process by SIGKILL; when the block is left, start the unit again."""
    try:
        evidence.result(node.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit))
        yield
    finally:
        node.run("systemctl", "reset-failed", unit, check=False)
        evidence.result(node.run("systemctl", "start", unit, timeout=60))


def await_node(slurm: Slurm, name: str, fits: Callable[[NodeRecord], bool], what: str, within: float) -> NodeRecord:
    """Wait until slurmctld's record of a node fits, and return it; slurmctld may be away meanwhile.

    ``within`` in seconds, times the machines' pace.
    """
    seen = "nothing"

    def probe() -> NodeRecord | None:
        nonlocal seen
        try:
            record = slurm.nodes()[name]
        except AiHowError as error:
            seen = str(error).splitlines()[0]
            return None
        seen = f"{record.state}, reason {record.reason!r}"
        return record if fits(record) else None

    cure = f"read slurmd's log on {name} and slurmctld's on {slurm.cluster.controller.name}"
    return wait_for(
        probe, within=within * slurm.cluster.pace, what=what, where=name, every=0.1, at_most=0.3,
        last_seen=lambda: seen, cure=cure,
    )  # fmt: skip


def usable(record: NodeRecord) -> bool:
    """Whether a node takes or runs jobs."""
    return record.usable


def boot(node: Node) -> str:
    """What tells one boot of a machine from the next: the kernel's boot id and when its first process began.

    A container keeps the kernel's boot id when it reboots, a virtual machine may keep the other.
    """
    shown = node.run("cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat").stdout
    # Field 22 of /proc/1/stat; the second, the command in parentheses, may hold blanks (proc_pid_stat(5)).
    return f"{shown.split()[0]} {shown.rpartition(')')[2].split()[19]}"


def rebooted(node: Node, old: str) -> str:
    """The present boot, if it is another than ``old`` and the machine answers; empty otherwise."""
    try:
        node.transport.close()
        now = boot(node)
    except AiHowError:
        return ""
    return now if now != old else ""
