"""Things on the host that are not ours, made to see that destroying a cluster leaves them alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.drivers.libvirt import api
from pytest_ai_how.drivers.libvirt.daemon import running_daemon
from pytest_ai_how.errors import HostError
from pytest_ai_how.lease.processes import process
from pytest_ai_how.lease.state import cookie, private_folder, state_home

_NET = Path("/sys/class/net")
# VIR_DOMAIN_START_PAUSED (libvirt/libvirt-domain.h): it has a process and does nothing.
_PAUSED = 1


@dataclass(frozen=True, slots=True)
class Witness:
    """One of them: ``now`` tells it as it is, ``before`` as it was made; ``listed`` are its lines of the inventory."""

    name: str
    before: str
    now: Callable[[], str]
    listed: tuple[str, ...] = ()


@contextmanager
def witnesses(cluster: str) -> Iterator[tuple[Witness, ...]]:
    """A machine, a bridge and a cluster's folder whose names begin like those of ``cluster``; undone at the end.

    A virtual machine is a real one of QEMU where QEMU is installed, else a process that carries another's mark.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(_machine(f"{cluster}x")), stack.enter_context(_folder(f"{cluster}x"))]
        if uri := "" if api.lacks_libvirt() else running_daemon():
            found.append(stack.enter_context(_domain(f"{cluster}x", uri)))
        if os.geteuid() == 0:
            found.append(stack.enter_context(_bridge(f"fw-{cluster}"[:15])))
        yield tuple(found)


@contextmanager
def _machine(name: str) -> Iterator[Witness]:
    qemu = shutil.which("qemu-system-x86_64")
    argv = [qemu, "-S", "-nodefaults", "-display", "none", "-m", "16", "-name", name] if qemu else ["sleep", "600"]
    started = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath, "AI_HOW": f"{cookie(name)}/node01"},
    )

    def now() -> str:
        seen = process(started.pid)
        return f"process {seen.pid} ({seen.name}), started {seen.start}" if seen else "gone"

    try:
        yield Witness("machine", now(), now)
    finally:
        started.kill()
        started.wait()


@contextmanager
def _folder(name: str) -> Iterator[Witness]:
    path = private_folder(state_home() / name)
    (path / "journal.jsonl").write_text("")

    def now() -> str:
        return f"{path}: {sorted(one.name for one in path.iterdir())}" if path.is_dir() else "gone"

    try:
        yield Witness("cluster's folder", now(), now)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _domain(name: str, uri: str) -> Iterator[Witness]:
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    with api.connected(uri) as connection:
        made = connection.createXML(xml, _PAUSED)
        uuid = made.UUIDString()

        def now() -> str:
            found = api.find_domain(connection, uuid)
            return f"domain {found.name()}, number {found.ID()}, state {found.state()[0]}" if found else "gone"

        try:
            yield Witness("libvirt's domain", now(), now, (f"domain {name} in libvirt",))
        finally:
            if api.find_domain(connection, uuid):
                made.destroy()


@contextmanager
def _bridge(name: str) -> Iterator[Witness]:
    _ip("link", "add", "name", name, "type", "bridge")
    _ip("link", "set", "dev", name, "up")

    def now() -> str:
        link = _NET / name
        if not link.exists():
            return "gone"
        return f"interface {name}, number {(link / 'ifindex').read_text().strip()}"

    try:
        yield Witness("bridge", now(), now, (f"interface {name}",))
    finally:
        if (_NET / name).exists():
            _ip("link", "delete", "dev", name)


def _ip(*argv: str) -> None:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError("localhost", f"`ip {' '.join(argv)}` failed: {done.stderr.strip()}")
