"""Faults of storage, made for the time of a block. The undo is registered before the deed, on the node as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence

#: A hardware address that no machine has: locally administered, all zeros (IEEE 802).
NOBODY = "02:00:00:00:00:00"
_MIB = 2**20
# Of a hundred parts of what is free, how many are taken at once.
_PIECE = 90


@contextmanager
def undone_later(node: Node, name: str, seconds: float, *undo: str) -> Iterator[None]:
    """Have the node itself run ``undo`` after ``seconds``, should nobody do it; and do it when the block is left."""
    unit = f"ai-how-undo-{name}"
    words = (f"--unit={unit}", "--collect", f"--on-active={seconds:g}", "--timer-property=AccuracySec=100ms")
    node.run("systemd-run", *words, *undo)
    try:
        yield
    finally:
        node.run(*undo, check=False)
        node.run("systemctl", "stop", f"{unit}.timer", check=False)


@contextmanager
def cut(node: Node, address: str, seconds: float, evidence: Evidence) -> Iterator[None]:
    """Let nothing that ``node`` sends to ``address`` arrive, as when a cable is pulled: no error, only silence.

    The neighbour gets a hardware address that nobody has; that works with every kernel and firewall.
    """
    route = json.loads(node.run("ip", "-json", "route", "get", address).stdout)[0]
    neighbour = ("to", address, "dev", str(route["dev"]))
    undo = ("ip", "neighbour", "delete", *neighbour)
    with undone_later(node, f"cut-{address.replace('.', '-')}", seconds, *undo):
        evidence.result(node.run("ip", "neighbour", "replace", *neighbour, "lladdr", NOBODY, "nud", "permanent"))
        lost = node.run("ping", "-c1", "-W1", address, check=False)
        evidence.result(lost, f"{node.name}: {address} is cut off")
        assert not lost.ok, f"{node.name}: {address} still answers though it was cut off; the fault was not made"
        yield


@contextmanager
def filled(node: Node, folder: str, leave_mib: int, seconds: float, evidence: Evidence) -> Iterator[None]:
    """Fill the file system of ``folder`` on a node but for ``leave_mib`` MiB, with one file that is never written.

    A file system keeps some room for its own records (ext4 up to 16 MiB) and does not tell: it is filled in smaller and
    smaller pieces until it refuses one. Blocks kept for root are filled as well, since storage daemons run as root.
    """
    path = f"{folder}/.ai-how-filling"
    with undone_later(node, "fill", seconds, "rm", "-f", "--", path):
        end = 0
        while (piece := (_free_mib(node, folder) - leave_mib) * _PIECE // 100) > 0:
            words = (f"--offset={end * _MIB}", f"--length={piece * _MIB}", path)
            took = node.run("fallocate", *words, check=False, timeout=120)
            evidence.result(took)
            if not took.ok:
                break
            end += piece
        assert end, f"{node.name}: nothing of {folder} could be filled; the fault was not made"
        evidence.result(node.run("df", "--block-size=1M", folder))
        yield


def _free_mib(node: Node, folder: str) -> int:
    blocks, size = node.run("stat", "--file-system", "--format=%f %S", folder).stdout.split()
    return int(blocks) * int(size) // _MIB


def main_pid(node: Node, unit: str, evidence: Evidence) -> int:
    """The main process of a unit, 0 when it has none."""
    shown = node.run("systemctl", "show", "--property=MainPID", "--value", unit)
    evidence.result(shown)
    return int(shown.stdout.strip() or 0)
