"""Who holds which PCI device: a claim in the owner's journal, from before the machine is started until it is stopped.

The journal is the one record: a claim is there after a ``kill -9``, and gone when the cluster is taken down or reaped.
A machine that is defined and off holds none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.claims import Claims
from pytest_ai_how.lease.journal import Entry, Journal
from pytest_ai_how.lease.lease import JOURNAL, RECORD
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.lease.reap import clusters
from pytest_ai_how.lease.record import boot_id, read_record
from pytest_ai_how.lease.state import cluster_state, private_folder, state_home

_LOCK = ".pci.lock"


@dataclass(frozen=True, slots=True)
class Claim:
    """A machine's hold on the device at ``address``."""

    address: str
    cluster: str
    machine: str

    @property
    def cure(self) -> str:
        """How to get the device."""
        return f"stop {self.machine}, or take its cluster down: pytest-ai-how down --cluster {self.cluster}"

    def __str__(self) -> str:
        return f"machine {self.machine} of cluster {self.cluster!r}"


def held() -> tuple[Claim, ...]:
    """The claims of all clusters on this host, by cluster, in the order of claiming; those of a former boot are void.

    Raises :class:`~pytest_ai_how.errors.RecordError` for a record or journal that can't be read: it might hold any.
    """
    return tuple(
        Claim(entry.data["address"], entry.data["cluster"], entry.data["machine"])
        for name in clusters()
        for entry in _entries(name)
    )


def claim(config: ClusterConfig, node: NodeConfig, journal: Journal) -> tuple[Entry, ...]:
    """Claim the devices of a machine that is about to start; what it holds already it keeps.

    Raises :class:`ProvisionError` that names the owner when another machine holds one; then nothing was claimed.
    """
    if not node.devices:
        return ()
    with _alone():
        owners = {one.address: one for one in held()}
        mine = {address for address, one in owners.items() if (one.cluster, one.machine) == (config.name, node.name)}
        for device in node.devices:
            owner = owners.get(device.address)
            if owner and device.address not in mine:
                raise ProvisionError(
                    node.name,
                    f"{device.address} is in use by {owner}",
                    expected="a device that no running machine holds",
                    cure=owner.cure,
                )
        return tuple(
            journal.intend(Claims.kind, address=device.address, cluster=config.name, machine=node.name)
            for device in node.devices
            if device.address not in mine
        )


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process claim meanwhile. The lock's file does not outlive its use."""
    folder = private_folder(state_home())
    with Locks(folder).hold(_LOCK):
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)


@contextmanager
def claiming(config: ClusterConfig, node: NodeConfig, journal: Journal) -> Iterator[None]:
    """Claim a machine's devices around its start: what was claimed for a start that fails is given up again."""
    claimed = claim(config, node, journal)
    try:
        yield
    except BaseException:
        for entry in claimed:
            journal.undone(entry)
        raise


def release(config: ClusterConfig, node: NodeConfig, journal: Journal) -> None:
    """Give up what a machine holds; call it when the machine is off. Nothing held is no error."""
    for entry in journal.pending():
        if entry.kind == Claims.kind and entry.data["machine"] == node.name and entry.data["cluster"] == config.name:
            journal.undone(entry)


def _entries(name: str) -> Iterator[Entry]:
    state = cluster_state(name)
    pending = [entry for entry in Journal(state / JOURNAL).pending() if entry.kind == Claims.kind]
    if not pending:
        return
    record = read_record(state / RECORD)
    # Without a record nobody can say when it was; a machine may be running.
    if record is None or record.boot == boot_id():
        yield from pending
