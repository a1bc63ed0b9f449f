"""Faults that a site has, made for the time of a block. The undo is registered before the deed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.node import Node
from pytest_ai_how.shell import quote

from .live import NAME, Live

Inject = Callable[[Live], AbstractContextManager[None]]

REGISTRY = "/mnt/shared/containers"
SIF = f"{REGISTRY}/base-images/base.sif"
CATALOG = f"{REGISTRY}/.registry/catalog.yaml"
APPTAINER_CONF = "/etc/apptainer/apptainer.conf"
SLURM_CONF = "/etc/slurm/slurm.conf"


def shell(node: str, deed: str, undo: str) -> Inject:
    """Something done by a node's shell, and its undo, which works after half of the deed, too."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        try:
            live[node].sh(deed)
            yield
        finally:
            live[node].sh(undo)

    return inject


def edited(node: str, path: str, old: str, new: str, then: str = "true") -> Inject:
    """A text in a file replaced by another, with a command that makes it count, both ways."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        machine = live[node]
        was = machine.read(path)
        mode = int(machine.run("stat", "-c%a", path).stdout, 8)
        assert old in was, f"{node}: {path} has no {old!r}; nothing would be injected"
        try:
            machine.write(path, was.replace(old, new), mode)
            machine.sh(then, timeout=60)
            yield
        finally:
            machine.write(path, was, mode)
            machine.sh(then, timeout=60)

    return inject


def everywhere(make: Callable[[str], Inject], *nodes: str) -> Inject:
    """The same fault on several nodes."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        with ExitStack() as stack:
            for node in nodes:
                stack.enter_context(make(node)(live))
            yield

    return inject


def stopped(node: str, unit: str) -> Inject:
    """A daemon that does not run."""
    return shell(node, f"systemctl stop {unit}", f"systemctl start {unit}")


def hidden(node: str, path: str) -> Inject:
    """A file or folder that is not there."""
    return shell(node, f"mv {path} {path}.hidden", f"test -e {path} || mv {path}.hidden {path}")


def mode(node: str, path: str, wrong: str, right: str) -> Inject:
    """Permissions that are not what they should be."""
    return shell(node, f"chmod {wrong} {path}", f"chmod {right} {path}")


def wrapped(node: str, body: str) -> Inject:
    """A site's own wrapper, found before the real Apptainer."""
    wrapper = "/usr/local/bin/apptainer"
    return shell(node, f"printf '%s\\n' '#!/bin/sh' '{body}' >{wrapper}; chmod 755 {wrapper}", f"rm -f {wrapper}")


def shared_file(path: str, spoil: str) -> Inject:
    """A file on the shared storage spoilt by a command."""
    kept = "/root/kept-by-fault"
    return shell(
        "controller", f"cp -p {path} {kept} && {spoil}", f"test ! -e {kept} || cat {kept} >{path}; rm -f {kept}"
    )


def flipped(path: str, at: int) -> str:
    """The command that changes one byte of a file: to its complement, as a byte may be any other already."""
    code = f"f = open({path!r}, 'r+b'); f.seek({at}); b = f.read(1)[0]; f.seek({at}); f.write(bytes([b ^ 255]))"
    return quote(["python3", "-c", code])


def unmounted(node: str) -> Inject:
    """A node that lost the shared storage. It is kept under another name, to be put back."""
    kept = "/root/shared-kept-by-fault"
    return shell(
        node,
        f"mkdir -p {kept} && mount --bind /mnt/shared {kept} && umount --lazy /mnt/shared",
        f"mountpoint -q /mnt/shared || mount --bind {kept} /mnt/shared; umount {kept}; rmdir {kept}",
    )


def drained(node: str, reason: str) -> Inject:
    """A node that its administrator took out."""
    return shell(
        "controller",
        f"scontrol update nodename={node} state=drain reason='{reason}'",
        f"scontrol update nodename={node} state=resume",
    )


def frozen(node: str) -> Inject:
    """A machine that stands still: it is not gone, it only does not answer. On the host, by its control group."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        groups = read_cgroups().groups(f"{cookie(NAME)}/{node}")
        switches = [group / name for group in groups for name in ("freezer.state", "cgroup.freeze")]
        (switch, *_) = [path for path in switches if path.exists()]
        freeze, thaw = ("FROZEN", "THAWED") if switch.name == "freezer.state" else ("1", "0")
        try:
            switch.write_text(freeze)
            yield
        finally:
            switch.write_text(thaw)

    return inject


def cut_off(node: str) -> Inject:
    """A machine whose cable is pulled: the host's end of its interface is set down."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        end = _host_end(live[node])
        try:
            subprocess.run(["ip", "link", "set", "dev", end, "down"], check=True)
            yield
        finally:
            subprocess.run(["ip", "link", "set", "dev", end, "up"], check=True)

    return inject


def _host_end(node: Node) -> str:
    """The interface of this host that is the other end of a node's (veth(4): its number is the node's iflink)."""
    number = node.read("/sys/class/net/host0/iflink").strip()
    (found,) = [path for path in Path("/sys/class/net").iterdir() if (path / "ifindex").read_text().strip() == number]
    return found.name
