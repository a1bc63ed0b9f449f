"""How much fits, and that what is written is what is read."""

from __future__ import annotations

import pytest

from pytest_ai_how.limits import Limits
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.services.bounded import bounded, hung
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result

from ._judged import judged

pytestmark = pytest.mark.requires("shared-storage")

MIB, GIB = 2**20, 2**30
#: Seconds for all the data to be written or read once; an emulated machine makes 20 MiB/s of random data.
WITHIN = 300.0
#: How much data the limits ask for, MiB.
VOLUME = "storage.integrity_volume"


@pytest.mark.check("STO-11")
def test_capacity(storage: Storage, evidence: Evidence, measure: Measurements) -> None:
    """There is room on the shared file system, as each node is told."""
    for node in storage.cluster.all:
        told = bounded(node, "stat", "--file-system", "--format=%a %S", storage.mount)
        evidence.result(told)
        assert not hung(told), f"{node.name}: asking how much is free at {storage.mount} hung"
        assert told.ok, f"{node.name}: {storage.mount}: {told.stderr.strip()}"
        blocks, size = map(int, told.stdout.split())
        measure("storage.free", blocks * size / GIB, "GiB", node=node.name)


@pytest.mark.check("STO-15")
@pytest.mark.requires("machines.several")
def test_integrity(storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, limits: Limits) -> None:
    """Random data written on one node has the same SHA-256 on each other node."""
    writer, *readers = storage.cluster.on("compute").names + storage.cluster.on("controller").names
    path, size = f"{scratch}/random", volume(limits)
    wrote = write_random(storage.cluster[writer], path, size)
    evidence.result(wrote)
    assert not hung(wrote), f"{writer}: writing {size // MIB} MiB to {path} did not end within {WITHIN:g} s"
    assert wrote.ok, f"{writer}: writing {path} ended with {wrote.returncode}: {wrote.stderr.strip()}"
    expected = wrote.stdout.split()[0]
    for reader in dict.fromkeys(readers):
        command = f"stat --format=%s {path} && sha256sum {path}"
        read = bounded(storage.cluster[reader], "sh", "-c", command, within=WITHIN)
        evidence.result(read)
        assert not hung(read), f"{reader}: reading {path} did not end within {WITHIN:g} s"
        seen = read.stdout.split()
        assert seen[:1] == [str(size)], (
            f"{reader}: {path}, written on {writer}, has {' '.join(seen[:1]) or 'no'} bytes, expected {size}"
        )
        assert seen[1:2] == [expected], (
            f"{reader}: {path}, written on {writer}, reads with sha256 {' '.join(seen[1:2])[:16] or 'nothing'}, "
            f"expected {expected[:16]}"
        )
    measure(VOLUME, size / MIB, "MiB", node=writer)


def volume(limits: Limits) -> int:
    """How many bytes the limits ask for."""
    return round(limits.minimum(VOLUME, "MiB")) * MIB


def write_random(node: Node, path: str, size: int) -> Result:
    """Write random data and digest it on its way there, before the file system had it."""
    return bounded(
        node, "sh", "-c", f"head -c {size} /dev/urandom | tee {path} | sha256sum && sync {path}", within=WITHIN
    )


@pytest.mark.check("STO-17")
@pytest.mark.requires("beegfs")
def test_striping(beegfs: BeeGfs, scratch: str, evidence: Evidence) -> None:
    """A large file lies on several targets: as the metadata server says, and as the targets' own file systems show."""
    writer = beegfs.cluster.on("compute")[0]
    path = f"{scratch}/striped"
    hosts = beegfs.hosts("storage")
    assert len(hosts) > 1, f"{beegfs.cluster.name}: one storage node; a file can't be striped over more"
    with judged():
        folder, told = beegfs.entry(scratch)
    evidence.result(told)
    size = 2 * len(hosts) * folder.chunk
    wrote = bounded(writer, "sh", "-c", f"head -c {size} /dev/urandom >{path} && sync {path}", within=WITHIN)
    assert wrote.ok, f"{writer.name}: writing {size} bytes to {path} ended with {wrote.returncode}: {wrote.stderr}"
    with judged():
        entry, told = beegfs.entry(path)
    evidence.result(told)
    assert len(entry.targets) > 1, (
        f"{beegfs.cluster.controller.name}: {path} with {size} bytes in chunks of {entry.chunk} is on the targets "
        f"{entry.targets}; expected two or more"
    )
    chunks = beegfs.chunks(entry)
    for _, found in chunks.values():
        evidence.result(found)
    on = {name: held for name, (held, _) in chunks.items() if held}
    assert len(on) > 1, (
        f"{next(iter(on), hosts[0])}: holds all chunks of {path} that are there ({on}); expected two or more of "
        f"{', '.join(hosts)}"
    )
    assert sum(on.values()) == size, (
        f"{', '.join(on)}: the chunks of {path} have {sum(on.values())} bytes together, {size} were written"
    )
