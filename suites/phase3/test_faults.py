"""What storage survives: daemons, machines, a network and a disk that fail while data is written and verified."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError, DeadlineExceeded
from pytest_ai_how.machines import Machines
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.services.bounded import bounded
from pytest_ai_how.services.storage import Storage

from ..phase6._slurm_units import boot, rebooted
from ._faults import cut, filled, main_pid
from ._judged import judged
from ._payloads import tell
from ._stream import Stream, streaming

pytestmark = [pytest.mark.exclusive, pytest.mark.disruptive]

#: Seconds that a recovery is waited for. What is good is in the limits; this ends the waiting.
RECOVERY = 400.0
#: Seconds without a block by which a fault is felt: the writer pauses a quarter of one between two.
FELT = 4.0
#: Seconds that a network is cut for: longer than the time-outs of single messages, shorter than what retries allow.
CUT = 20.0
#: MiB left free on a full target, and how many are written against that.
LEFT, AGAINST = 8, 128
#: Units by the kind of server that they run; helperd is a client's own, and only 7.4 has it.
UNITS = ("beegfs-mgmtd", "beegfs-meta", "beegfs-storage", "beegfs-helperd")


@pytest.mark.check("STO-26")
@pytest.mark.requires("beegfs")
@pytest.mark.parametrize("unit", UNITS)
def test_daemon_restart(
    beegfs: BeeGfs, storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, unit: str
) -> None:
    """A daemon that restarts holds writing up for a while; no data is lost, and all targets are well again."""
    writer, reader, *_ = (*storage.cluster.on("compute"), storage.cluster.controller)
    where = {"beegfs-storage": storage.cluster[beegfs.hosts("storage")[-1]], "beegfs-helperd": writer}
    node = where.get(unit, storage.cluster.controller)
    if unit == "beegfs-helperd" and beegfs.generation == "8":
        found = node.run("systemctl", "list-unit-files", "--no-legend", f"{unit}*", check=False)
        evidence.attach("units of the helper daemon", found.stdout or "none: generation 8 has no helper daemon")
        assert not found.stdout.strip(), f"{node.name}: has {found.stdout.strip()}, which generation 8 does not know"
        return
    with streaming(writer, reader, scratch, evidence) as stream:
        old = main_pid(node, unit, evidence)
        assert old, f"{node.name}: {unit} does not run; expected it to, before it is restarted"
        evidence.result(node.run("systemctl", "restart", unit, check=False, timeout=120))
        new = main_pid(node, unit, evidence)
        assert new not in (0, old), f"{node.name}: {unit} was not restarted: its process was {old}, now it is {new}"
        recovered(stream, beegfs, f"after {unit} restarted")
        failed = stream.errors()
        assert not failed, (
            f"{writer.name}: a program that was writing got {failed[0].error} while {unit} restarted on {node.name}; "
            "expected it to wait"
        )
        measure("storage.stall.restart", stream.stall(), "s", node=node.name)


def recovered(stream: Stream, beegfs: BeeGfs | None, since: str) -> None:
    """Data flows again, nothing of it is lost or damaged, and BeeGFS is without a fault."""
    stream.flow(RECOVERY, since)
    stream.whole()
    if beegfs is not None:
        faultless(beegfs, since)


def faultless(beegfs: BeeGfs, since: str) -> None:
    """Wait until every server and target is online and good for every client."""
    faults: tuple[str, ...] = ()

    def well() -> bool:
        nonlocal faults
        faults = beegfs.faults()
        return not faults

    try:
        wait_for(well, within=RECOVERY, what=f"well again {since}", at_most=2.0, last_seen=lambda: "; ".join(faults))
    except DeadlineExceeded as error:
        raise AssertionError(f"{faults[0]}, {RECOVERY:g} s {since}") from error


@pytest.mark.check("STO-27")
@pytest.mark.requires("shared-storage", "owned")
def test_client_reboot(storage: Storage, scratch: str, evidence: Evidence, measure: Measurements) -> None:
    """A client that reboots has the file system again without help; others go on writing, and nothing is lost."""
    node, other, *_ = storage.cluster.on("compute")
    writer = storage.cluster.controller
    kept = f"{scratch}/kept"
    node.sh(f"mkdir {scratch}/stream && head -c 4194304 /dev/urandom >{kept} && sync {kept}")
    before = node.run("sha256sum", kept).stdout
    with streaming(writer, other, f"{scratch}/stream", evidence) as stream:
        old, since = boot(node), time.monotonic()
        restart(node, old, evidence)
        await_mount(storage, node)
        took = time.monotonic() - since
        after = bounded(node, "sha256sum", kept)
        evidence.result(after)
        assert after.stdout == before, f"{node.name}: {kept} reads as {after.stdout!r} after a reboot, was {before!r}"
        wrote = bounded(node, "sh", "-c", f"printf again >{scratch}/again && sync {scratch}/again")
        evidence.result(wrote)
        assert wrote.ok, f"{node.name}: can't write to {scratch} after its reboot: {wrote.stderr.strip()}"
        stream.flow(RECOVERY, f"after {node.name} rebooted")
        stream.whole()
        measure("storage.client_reboot", took, "s", node=node.name)
        measure("storage.stall.reboot", stream.stall(), "s", node=writer.name)


def restart(node: Node, old: str, evidence: Evidence) -> None:
    """Reboot a node and wait until it answers."""
    try:
        evidence.result(node.run("systemctl", "reboot", check=False, timeout=10))
    except AiHowError as error:  # the connection may go down before the command has answered
        evidence.attach("systemctl reboot", str(error))
    with judged():
        new = wait_for(lambda: rebooted(node, old), within=RECOVERY, what="booted anew", where=node.name, at_most=0.5)
    evidence.attach("boots", f"{old}\n{new}")


def await_mount(storage: Storage, node: Node) -> None:
    """Wait until a node has the shared file system, by nobody's help."""
    seen: str | None = "nothing"
    kind = next(kind for name, kind in storage.mounts().items() if name != node.name)

    def mounted() -> bool:
        nonlocal seen
        seen = storage.mounts()[node.name]
        return seen == kind

    with judged():
        wait_for(
            mounted, within=RECOVERY, what=f"with {storage.mount} mounted again", where=node.name, at_most=1.0,
            last_seen=lambda: str(seen),
        )  # fmt: skip


@pytest.mark.check("STO-28")
@pytest.mark.requires("beegfs", "owned")
def test_storage_node_killed(
    beegfs: BeeGfs, storage: Storage, machines: Machines, scratch: str, evidence: Evidence, measure: Measurements
) -> None:
    """With a storage node's power cut, writing is refused in time; with it back, all goes on and nothing is lost."""
    victim = beegfs.hosts("storage")[-1]
    writer, reader = storage.cluster.controller, storage.cluster[beegfs.hosts("storage")[0]]
    assert victim != reader.name, f"{storage.cluster.name}: one storage node; nothing would be left to read on"
    with streaming(writer, reader, scratch, evidence) as stream:
        evidence.attach("seconds to cut the power", f"{machines.stop(victim, force=True):.1f}")
        felt(stream, victim)
        refused(stream, measure.limits.maximum("storage.stall.node", "s"))
        evidence.attach("seconds to boot", f"{machines.start(victim):.1f}")
        recovered(stream, beegfs, f"after {victim} was started again")
        evidence.attach("errors that the writer got", "\n".join(map(str, stream.errors())) or "none: it waited")
        evidence.attach("seconds between two blocks, the node's boot among them", f"{stream.stall():.1f}")
        measure("storage.stall.node", stream.longest(), "s", node=victim)


def refused(stream: Stream, within: float) -> None:
    """Leave it as it is until the writer is refused, or has waited for as long as it may: the figure tells then."""
    with suppress(DeadlineExceeded):
        wait_for(stream.errors, within=within, what="refused", where=stream.writer.name, at_most=1.0)


def felt(stream: Stream, where: str) -> None:
    """Wait until the writer is held up or refused: a fault that nobody feels proves nothing."""
    errors = len(stream.errors())
    try:
        wait_for(
            lambda: stream.since_last() > FELT or len(stream.errors()) > errors,
            within=90.0, what=f"held up without {where}", where=stream.writer.name, at_most=0.5,
        )  # fmt: skip
    except DeadlineExceeded as error:
        raise AssertionError(
            f"{stream.writer.name}: goes on writing without {where}; nothing was put to the test"
        ) from error


@pytest.mark.check("STO-28")
@pytest.mark.requires("beegfs", "owned")
def test_network_cut(beegfs: BeeGfs, storage: Storage, scratch: str, evidence: Evidence, measure: Measurements) -> None:
    """A client cut off from one target waits and goes on when the cut heals; another client notices nothing."""
    victim = storage.cluster[beegfs.hosts("storage")[-1]]
    # Not the controller writes: the metadata server there would be cut off as well, and hold all clients up.
    writer, reader = storage.cluster[beegfs.hosts("storage")[0]], storage.cluster.controller
    assert victim != writer, f"{storage.cluster.name}: one storage node; it can't be cut off from itself"
    with streaming(writer, reader, scratch, evidence) as stream:
        with cut(writer, victim.address, CUT, evidence):
            felt(stream, f"a way to {victim.name}")
            other = bounded(
                reader, "sh", "-c", f"head -c 4194304 /dev/urandom >{scratch}/.other && sync {scratch}/.other"
            )
            evidence.result(other)
            assert other.ok, (
                f"{reader.name}: can't write ({other.returncode}: {other.stderr.strip() or 'hung'}) while only "
                f"{writer.name} is cut off from {victim.name}"
            )
        recovered(stream, beegfs, f"after the cut between {writer.name} and {victim.name} healed")
        evidence.attach("errors that the writer got", "\n".join(map(str, stream.errors())) or "none: it waited")
        measure("storage.stall.cut", stream.stall(), "s", node=writer.name)


@pytest.mark.check("STO-29")
@pytest.mark.requires("beegfs", "owned")
def test_full_target(beegfs: BeeGfs, storage: Storage, scratch: str, evidence: Evidence) -> None:
    """Writing to a full target is refused with ENOSPC, what was written stays whole, and with room it goes on."""
    victim = storage.cluster[beegfs.hosts("storage")[-1]]
    writer, reader = storage.cluster.controller, storage.cluster[beegfs.hosts("storage")[0]]
    path, whole = f"{scratch}/growing", f"{scratch}/whole"
    for one in (path, whole):
        seen = tell(writer, "fill.py", one, "4", evidence=evidence)
        assert seen == {"blocks": 4, "error": ""}, f"{writer.name}: writing {one} gave {seen}, expected 4 blocks"
    with judged():
        entry, told = beegfs.entry(path)
    evidence.result(told)
    held = {name for name, (size, _) in beegfs.chunks(entry).items() if size}
    assert victim.name in held, f"{victim.name}: holds nothing of {path}, which lies on {sorted(held)}; nothing to fill"
    with filled(victim, beegfs.store(victim), LEFT, RECOVERY, evidence):
        seen = tell(writer, "fill.py", path, str(AGAINST), evidence=evidence, within=120)
        assert seen["error"] == "ENOSPC", (
            f"{writer.name}: {seen['blocks']} of {AGAINST} MiB were written to {path} with {LEFT} MiB left on "
            f"{victim.name}, then {seen['error'] or 'no error'}; expected ENOSPC"
        )
        intact(reader, path, seen["blocks"], evidence)
        intact(reader, whole, 4, evidence)
    again = tell(writer, "fill.py", path, str(AGAINST // 4), evidence=evidence, within=120)
    assert again == {"blocks": AGAINST // 4, "error": ""}, (
        f"{writer.name}: with room on {victim.name} again, writing {path} gave {again}; expected {AGAINST // 4} blocks"
    )
    intact(reader, path, AGAINST // 4, evidence)
    faultless(beegfs, f"after {victim.name} had room again")


def intact(reader: Node, path: str, blocks: int, evidence: Evidence) -> None:
    """All blocks that a writer was told are written read on another node as they were written."""
    seen = tell(reader, "fill.py", path, str(blocks), "read", evidence=evidence, within=120)
    assert seen == {"blocks": blocks, "error": ""}, (
        f"{reader.name}: of {blocks} MiB that were written to {path}, {seen['blocks']} read as they were written: "
        f"{seen['error'] or 'then it ends'}"
    )
