"""BeeGFS's clients: the kernel module, its port, the mount, and that a module of another kernel is no secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.services.beegfs.client import Module
from pytest_ai_how.services.bounded import bounded

from ._payloads import tell
from ._units import listeners

pytestmark = pytest.mark.requires("beegfs")

#: The client's port for messages from servers (beegfs-client.conf: connClientPortUDP).
CLIENT = ("udp", 8004)


@pytest.mark.check("STO-05")
def test_client_port(beegfs: BeeGfs, evidence: Evidence) -> None:
    """Each client's kernel listens for the messages that servers send of their own."""
    wrong = [said for said in beegfs.cluster.all.map(partial(without_port, evidence=evidence)).values() if said]
    assert not wrong, "\n".join(wrong)


def without_port(node: Node, evidence: Evidence) -> str:
    """Say that nothing listens on the client's port of a node; '' if something does."""
    held = {(one.protocol, one.port) for one in listeners(node, evidence)}
    if CLIENT in held:
        return ""
    return f"{node.name}: nothing listens on {' '.join(map(str, CLIENT))}; expected BeeGFS's client"


@pytest.mark.check("STO-06")
def test_dkms(beegfs: BeeGfs, evidence: Evidence) -> None:
    """DKMS has BeeGFS's module installed for the kernel that runs."""
    wrong = [said for said in beegfs.cluster.all.map(partial(not_installed, evidence=evidence)).values() if said]
    assert not wrong, "\n".join(wrong)


def not_installed(node: Node, evidence: Evidence) -> str:
    """Say what is wrong with what a node's DKMS has for the kernel that runs; '' if nothing is."""
    kernel = node.run("uname", "-r").stdout.strip()
    status = node.run("dkms", "status", "-m", "beegfs", "-k", kernel, check=False, timeout=120)
    evidence.result(status)
    said = status.stdout.strip() or status.stderr.strip() or "nothing"
    if "installed" not in status.stdout.split(": ")[-1].split():
        return f"{node.name}: dkms status says {said!r} for the running kernel {kernel}; expected beegfs: installed"
    if "WARNING" in status.stdout:
        return f"{node.name}: dkms status says {said!r}; expected no difference"
    return ""


@pytest.mark.check("STO-07")
def test_module_loaded(beegfs: BeeGfs, evidence: Evidence) -> None:
    """The module is loaded on each client, and is the one that lies on disk."""
    for name, module in modules(beegfs, evidence):
        assert module.path, f"{name}: {module.fault}"
        assert module.live, f"{name}: the module {module.path} is not loaded; expected it live"
        assert module.same, f"{name}: the module that is loaded is not {module.path}; reboot, or load it anew"


@pytest.mark.check("STO-08")
def test_vermagic(beegfs: BeeGfs, evidence: Evidence) -> None:
    """The module was built for the kernel that runs."""
    for name, module in modules(beegfs, evidence):
        assert not module.fault, f"{name}: {module.fault}; expected equal releases: build it anew (dkms autoinstall)"


def modules(beegfs: BeeGfs, evidence: Evidence) -> Iterator[tuple[str, Module]]:
    """The module of each node, attached."""
    for name, (module, told) in beegfs.modules().items():
        evidence.result(told, f"{name}: the module beegfs")
        yield name, module


@pytest.mark.check("STO-09")
def test_mount(beegfs: BeeGfs, evidence: Evidence) -> None:
    """BeeGFS is mounted for writing on each client, and will be after a reboot, when there is a network."""
    for name, (mount, told) in beegfs.mounts().items():
        evidence.result(told)
        assert mount is not None, f"{name}: nothing is mounted at {beegfs.mount}; expected beegfs"
        assert mount.type == "beegfs", f"{name}: {beegfs.mount} is a {mount.type} file system, expected beegfs"
        assert "rw" in mount.options, f"{name}: {beegfs.mount} is mounted {','.join(mount.options)}, expected rw"
        listed = beegfs.cluster[name].run(
            "findmnt",
            "--fstab",
            "--noheadings",
            "--output",
            "FSTYPE,OPTIONS",
            "--mountpoint",
            beegfs.mount,
            check=False,
        )
        evidence.result(listed)
        kind, _, options = listed.stdout.strip().partition(" ")
        assert kind == "beegfs", (
            f"{name}: /etc/fstab has {listed.stdout.strip() or 'nothing'!r} for {beegfs.mount}; expected type beegfs"
        )
        assert "_netdev" in options.strip().split(","), (
            f"{name}: /etc/fstab mounts {beegfs.mount} with {options.strip()}; expected _netdev"
        )


@pytest.mark.check("STO-38")
@pytest.mark.disruptive
@pytest.mark.exclusive
def test_mismatch_is_loud(beegfs: BeeGfs, evidence: Evidence) -> None:
    """With a module of another kernel the mount fails with the cause in the log, and readiness names machine and cause.

    The module is taken out, and its file hidden behind a copy whose version magic is another kernel's.
    """
    node = beegfs.cluster.on("compute")[-1]
    module, told = next((module, told) for name, (module, told) in beegfs.modules().items() if name == node.name)
    evidence.result(told)
    assert not module.fault, f"{node.name}: {module.fault}"
    with unmounted(node, beegfs.mount, evidence), other_kernel(node, module, evidence):
        tried = bounded(node, "mount", beegfs.mount, within=60)
        evidence.result(tried)
        assert not tried.ok, f"{node.name}: {beegfs.mount} was mounted with a module that is not for its kernel"
        log = node.run("journalctl", "--dmesg", "--since=-2min", "--no-pager", "--grep=beegfs", check=False)
        evidence.result(log)
        assert "version magic" in log.stdout, (
            f"{node.name}: mounting with a module of another kernel ended with {tried.returncode}, and the kernel's "
            "log does not say 'version magic'"
        )
        faults = beegfs.faults()
        evidence.attach("why BeeGFS is not ready", "\n".join(faults))
        mine = [fault for fault in faults if fault.startswith(f"{node.name}: nothing is mounted")]
        assert mine, f"{node.name}: BeeGFS counts as ready ({faults or 'no fault'}) with nothing mounted"
        assert f"the running one is {module.kernel}" in mine[0], (
            f"{node.name}: readiness says {mine[0]!r}; expected the kernel that the module was built for as the cause"
        )
    left = beegfs.faults()
    assert not left, f"{left[0]}, after the right module was put back"


@contextmanager
def unmounted(node: Node, path: str, evidence: Evidence) -> Iterator[None]:
    """Take a mount and its module away for the time of the block."""
    try:
        evidence.result(bounded(node, "umount", path, within=60))
        evidence.result(bounded(node, "modprobe", "--remove", "beegfs"))
        yield
    finally:
        evidence.result(bounded(node, "mount", path, within=120))


@contextmanager
def other_kernel(node: Node, module: Module, evidence: Evidence) -> Iterator[None]:
    """Hide the module behind a copy that says it is for a kernel that does not exist, of a name of the same length."""
    copy = "/run/ai-how-module"
    other = "0" + module.kernel[1:]
    # With symbol versions the kernel passes over the release and compares the flags (kernel/module/version.c), of which
    # every kernel of more than one CPU has SMP.
    magics = (f"vermagic={module.kernel} SMP ", f"vermagic={other} UMP ")
    try:
        tell(node, "alter_module.py", module.path, copy, *magics, evidence=evidence)
        node.run("mount", "--bind", copy, module.path)
        seen = node.run("modinfo", "-F", "vermagic", "beegfs").stdout
        assert seen.startswith(f"{other} "), f"{node.name}: the copy says {seen.strip()!r}; the fault was not made"
        yield
    finally:
        node.run("umount", module.path, check=False)
        node.run("rm", "-f", copy, check=False)
