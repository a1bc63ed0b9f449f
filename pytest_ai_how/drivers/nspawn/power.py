"""Switching one nspawn machine off and on again: its disk stays, what the kernel held for it goes."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.drivers.nspawn.machine import Machine
from pytest_ai_how.drivers.protocol import State
from pytest_ai_how.errors import DeadlineExceeded, LeaseError, ProvisionError
from pytest_ai_how.lease.files import mounts_below
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.kernel import Cgroups as CgroupsUndo
from pytest_ai_how.lease.processes import Process, Processes, marked, send_signal
from pytest_ai_how.lease.state import cluster_state, cookie

_log = logging.getLogger(__name__)
# systemd(1), signals: SIGRTMIN+4 powers the machine off, starting poweroff.target.
_POWER_OFF = signal.SIGRTMIN + 4
# Seconds that the rest of a machine is given to go once its init is gone, and its control groups with it.
_CLEARED = 10.0


def machine(config: ClusterConfig, name: str) -> Machine:
    """One machine of a cluster. Raises :class:`ProvisionError` when the configuration has none of that name."""
    for node in config.nodes:
        if node.name == name:
            return Machine(config, node, cluster_state(config.name) / "machines" / "nodes" / name)
    known = ", ".join(node.name for node in config.nodes)
    raise ProvisionError(name, f"is no machine of cluster {config.name!r}", expected=f"one of {known}")


def state(machine: Machine) -> State:
    """What the machine is in, by its processes and by the mount of its root."""
    if marked(machine.cookie):
        return "running"
    return "off" if str(machine.root.resolve()) in mounts_below(machine.root) else "absent"


def switch_off(machine: Machine, *, force: bool, within: float) -> None:
    """Ask the machine's init to power off and wait; cut the machine off after ``within`` seconds, or at once.

    The journal's entries stay as they are: a kept cluster with a machine that is off is not whole. Raises
    :class:`ProvisionError` naming the machine when it is not there or does not end.
    """
    if (found := state(machine)) != "running":
        if found == "off":
            return
        raise _absent(machine)
    if not force and not _powered_off(machine, Deadline(within)):
        _log.warning("%s: did not power off within %g s and was cut off", machine.node.name, within)
    try:
        # Ends all that carries the mark; nothing to do when the machine went by itself.
        Processes().undo({"cookie": machine.cookie}, _CLEARED)
        for group in read_cgroups().groups(machine.cookie):
            # The groups of jobs that the machine ran would be there when it starts again.
            CgroupsUndo().undo({"path": str(group), "cookie": cookie(machine.config.name)}, _CLEARED)
    except (LeaseError, DeadlineExceeded) as error:
        raise ProvisionError(
            machine.node.name,
            f"can't be switched off: {error.where}: {error.seen}",
            expected="no process and no control group of it",
            cure=f"read {machine.console}",
        ) from error


def switch_on(machine: Machine, shared: Path, journal: Journal) -> None:
    """Boot the machine again from the disk that it had. Raises :class:`ProvisionError` naming it."""
    found = state(machine)
    if found == "running":
        raise ProvisionError(machine.node.name, "can't be switched on: is running", expected="a machine that is off")
    made = [entry for entry in journal.pending() if entry.data.get("target") == str(machine.root)]
    if found == "absent" or not made:
        raise _absent(machine)
    machine.start(shared, read_cgroups(), journal.of(made[0].step))


def _powered_off(machine: Machine, deadline: Deadline) -> bool:
    for one in inits(machine):
        send_signal(one, _POWER_OFF)
    try:
        return wait_for(lambda: not marked(machine.cookie), within=deadline, what="off", every=0.02, at_most=0.1)
    except DeadlineExceeded:
        return False


def inits(machine: Machine) -> list[Process]:
    """The machine's first process: the child of its systemd-nspawn (versions 252 to 257)."""
    found = marked(machine.cookie)
    # The kernel keeps 15 characters of a name (proc_pid_comm(5)); this one has 14.
    above = {one.pid for one in found if one.name == "systemd-nspawn"}
    return [one for one in found if one.parent in above and one.pid not in above]


def _absent(machine: Machine) -> ProvisionError:
    name = machine.config.name
    return ProvisionError(
        machine.node.name,
        f"there is no such machine: nothing is mounted at {machine.root}",
        expected="a machine that was made",
        cure=f"pytest-ai-how down --cluster {name}, then bring it up again",
    )
