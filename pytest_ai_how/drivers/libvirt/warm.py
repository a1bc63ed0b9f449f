"""Machines that were ready, kept to continue from: their memory as libvirt saves it, their disks and their keys.

::

    $XDG_CACHE_HOME/pytest-ai-how/warm/          0700: whoever reads the memory of machines has their keys
        .lock                                    held (flock) while one is written
        .keeping-4f1c0a9b2d7e/                   being written; with the lock free: a leftover, removed
        4f1c0a9b2d7e/manifest.json               the last thing written before the folder got this name: whose it is,
                                                 and the bytes of each file
        4f1c0a9b2d7e/keys/                       as in the cluster's folder
        4f1c0a9b2d7e/node01/{memory,disk.qcow2,initrd}

A cluster has at most one. A cluster that continues gets copies of the disks, and the same keys.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.libvirt import api
from pytest_ai_how.drivers.libvirt.kvm import emulator_version
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.errors import HostKeyError, ProvisionError, TransportError
from pytest_ai_how.lease.state import cache_home, private_folder
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.protocol import Transport

_SHORT = 12
_KEYS, _MEMORY, _MANIFEST, _LOCK = "keys", "memory", "manifest.json", ".lock"
# virDomainSaveRestoreFlags (libvirt/libvirt-domain.h): a machine that was paused to be saved runs when it is restored.
_RUNNING = 2
# Seconds that two clocks read one after the other may be apart; an emulated machine takes 0.4 for a command.
_CLOCK_TOLERANCE = 1.0
_COMMAND = 30.0
# All services but those that a login goes through stand still ($2 is 1) or go on (0): cgroup.freeze of the kernel's
# control groups, version 2. A shell's own words only: each program that starts takes an emulated machine a tenth of a
# second.
_SERVICES = """
for state in /sys/fs/cgroup/system.slice/*.service/cgroup.freeze; do
    case $state in */ssh.service/*|*/systemd-*) continue ;; esac
    echo "$2" >"$state" || [ ! -e "$state" ] || exit 1
done
"""
_STILL = ("sh", "-c", _SERVICES, "sh", "-", "1")
# $1: seconds of the epoch. What it says is read back from the clock, before services see it.
_GO_ON = ("sh", "-c", 'date --set "@$1" >/dev/null && date +%s.%N || exit 1' + _SERVICES, "sh")
_ROOM = "free some room below XDG_CACHE_HOME, or leave bringup: restore out"
# A machine that continues answers at once; on a host where ten others boot, sshd may need several tries.
_REACHED = 60.0


@dataclass(frozen=True, slots=True)
class Warm:
    """What is kept, or is to be kept, for machines with this ``fingerprint`` of cluster ``cluster``."""

    home: Path
    cluster: str
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Where it lies when it is complete."""
        return self.home / self.fingerprint[:_SHORT]

    @property
    def keys(self) -> Path:
        """The keys of the machines."""
        return self.folder / _KEYS

    @property
    def is_kept(self) -> bool:
        """Whether there is something complete to continue from, of exactly these machines.

        What lost a file or the end of one is not complete: the machines boot, and are kept anew.
        """
        try:
            manifest = json.loads((self.folder / _MANIFEST).read_text())
            return bool(manifest["fingerprint"] == self.fingerprint and manifest["sizes"] == _sizes(self.folder))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def cure(self) -> str:
        """What helps when it looks complete and is of no use all the same."""
        return f"rm -r {self.folder}, then bring it up again: the machines boot, and are kept anew"

    def copy_to(self, machine: Machine) -> None:
        """Give ``machine`` the disk and the initramfs that it is to continue with; its folder exists."""
        kept = self.folder / machine.node.name
        for source, target in ((kept / "disk.qcow2", machine.disk), (kept / "initrd", machine.initrd)):
            _copy(machine.node.name, source, target, self.cure)

    def restore(self, machine: Machine, connection: api.Connection) -> None:
        """Continue ``machine``, which is defined and off, from its memory. Raises :class:`ProvisionError`."""
        with api.naming(machine.node.name, "does not continue from what was kept of it", self.cure):
            connection.restoreFlags(str(self.folder / machine.node.name / _MEMORY), None, _RUNNING)


def warm_of(cluster: str, machines: Path, fingerprint: str, versions: Sequence[object]) -> Warm:
    """The place for machines in folder ``machines``, of configuration and images ``fingerprint``.

    Memory fits the very same ``versions`` of what ran them only, and knows the paths of the machines' files.
    """
    whole = json.dumps([fingerprint, str(machines), *map(str, versions)])
    return Warm(cache_home() / "warm", cluster, hashlib.sha256(whole.encode()).hexdigest())


def host_versions(emulator: str) -> tuple[str, str]:
    """The version of the emulator, and what this host's CPU can do: machines may have seen both."""
    flags = (
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))
    )
    return emulator_version(emulator), "\n".join(dict.fromkeys(flags))


def keep(warm: Warm, keys: Path, machines: Sequence[Machine], connection: api.Connection) -> None:
    """Keep ``machines``, which run, as they are now, and let them go on: they stand still for some seconds.

    What was kept of the cluster before is removed. Raises :class:`ProvisionError`; the machines go on all the same.
    """
    with _locked(warm.home):
        for old in _of_cluster(warm.home, warm.cluster):
            shutil.rmtree(old)
        if warm.folder.exists():  # its manifest was lost
            shutil.rmtree(warm.folder)
        place = warm.home / f".keeping-{warm.fingerprint[:_SHORT]}"
        place.mkdir(mode=0o700)
        try:
            _write(place, keys, machines, connection)
            manifest = {"fingerprint": warm.fingerprint, "cluster": warm.cluster, "kept_at": time.time()}
            (place / _MANIFEST).write_text(json.dumps({**manifest, "sizes": _sizes(place)}))
            for file in (path for path in place.rglob("*") if path.is_file()):
                file.chmod(0o600)
            subprocess.run(["sync", "--file-system", str(place)], check=True, stdin=subprocess.DEVNULL)
            place.rename(warm.folder)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _write(place: Path, keys: Path, machines: Sequence[Machine], connection: api.Connection) -> None:
    shutil.copytree(keys, place / _KEYS, copy_function=shutil.copy2)
    for machine in machines:
        (place / machine.node.name).mkdir(mode=0o700)
    domains = {machine.node.name: machine.existing(connection) for machine in machines}
    saved: list[str] = []

    def save(name: str) -> None:
        domains[name].saveFlags(str(place / name / _MEMORY), None, _RUNNING)
        saved.append(name)

    def go_on(name: str) -> None:
        if name in saved:
            connection.restoreFlags(str(place / name / _MEMORY), None, _RUNNING)
        elif domains[name].isActive():
            domains[name].resume()

    # All stand still at the same time: none finds another gone.
    for domain in domains.values():
        domain.suspend()
    try:
        _each(save, domains)
        for machine in machines:
            name = machine.node.name
            _copy(name, machine.disk, place / name / "disk.qcow2", _ROOM)
            _copy(name, machine.initrd, place / name / "initrd", _ROOM)
    finally:
        _each(go_on, domains)


class Opens(Transport, Protocol):
    """A transport that can connect before it is used."""

    def open(self) -> None:
        """Connect. Raises :class:`~pytest_ai_how.errors.TransportError`."""


def stand_still(transports: Mapping[str, Transport]) -> None:
    """Let no service run until :func:`go_on`: to one that is saved and continued no time passes with the old clock.

    munge refuses what is older than five minutes, so that slurmctld would give up nodes whose clock is set later than
    its own. Raises :class:`ProvisionError` for a machine on which that can't be done.
    """
    _each(lambda name: _stand_still(name, transports[name]), transports)


def _stand_still(name: str, transport: Transport) -> None:
    result = transport.execute(_STILL, timeout=_COMMAND)
    if not result.ok:
        raise ProvisionError(name, f"its services can't be held: {_last(result)}", expected="control groups, v2")


def go_on(transports: Mapping[str, Opens], within: float = _REACHED) -> None:
    """Set the clocks of machines that continue to this host's, as theirs stood still, and let their services run.

    Raises :class:`ProvisionError` for a machine that refuses, :class:`~pytest_ai_how.errors.DeadlineExceeded` for one
    whose clock is not right ``within`` seconds; the transports are closed then.
    """
    try:
        _each(lambda name: _go_on(name, transports[name], within), transports)
    except BaseException:
        for transport in transports.values():
            transport.close()
        raise


def _go_on(name: str, transport: Opens, within: float) -> None:
    """Set it until it is right. To log in takes longer than a clock may be behind, so that is done before."""
    seen = "nothing yet"

    def is_right() -> bool:
        nonlocal seen
        try:
            transport.open()
            result = transport.execute((*_GO_ON, f"{time.time():.3f}", "0"), timeout=_COMMAND)
        except HostKeyError:  # waiting does not make it another
            raise
        except TransportError as error:
            seen = error.seen
            return False
        now = time.time()
        if not result.ok:
            raise ProvisionError(name, f"its clock can't be set: {_last(result)}", expected="this host's time")
        said = float(result.stdout.strip() or 0)
        seen = f"it said {said:.3f} when it was {now:.3f}"
        return abs(now - said) <= _CLOCK_TOLERANCE

    wait_for(is_right, within=within, what="at this host's time", where=name, last_seen=lambda: seen)


def _last(result: Result) -> str:
    return (result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1]


def leftovers(home: Path | None = None, *, remove: bool = False) -> list[Path]:
    """What was being written by processes that were killed; ``remove`` removes it. Nothing while one is writing."""
    top = home or cache_home() / "warm"
    if not (top / _LOCK).exists():
        return []
    with (top / _LOCK).open("a") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        found = sorted(top.glob(".keeping-*"))
        for place in found if remove else ():
            shutil.rmtree(place)
    return found


def _of_cluster(home: Path, cluster: str) -> Iterator[Path]:
    """What is kept of ``cluster``, whatever its fingerprint, and what nobody finished writing (the lock is ours)."""
    yield from sorted(home.glob(".keeping-*"))
    for manifest in sorted(home.glob(f"*/{_MANIFEST}")):
        try:
            if json.loads(manifest.read_text())["cluster"] == cluster:
                yield manifest.parent
        except (OSError, ValueError, KeyError, TypeError):
            yield manifest.parent  # unreadable: of no use to anybody


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (private_folder(home) / _LOCK).open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file below ``folder`` but for the manifest, by its path in there."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / _MANIFEST)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _copy(node: str, source: Path, target: Path, cure: str) -> None:
    """Copy what root alone may read; blocks are shared where the file system can. Raises :class:`ProvisionError`."""
    argv = ["cp", "--reflink=auto", "--sparse=always", "--preserve=mode", str(source), str(target)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ProvisionError(node, f"{source} can't be copied: {done.stderr.strip()}", cure=cure)
    target.chmod(0o600)


def _each(call: Callable[[str], None], names: Mapping[str, object]) -> None:
    """Call for each name in a thread of its own; the first error is raised when all have ended."""
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        futures = [pool.submit(call, name) for name in names]
    for future in futures:
        future.result()
