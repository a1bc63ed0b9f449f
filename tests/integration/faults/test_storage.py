"""Faults of the shared storage: each check goes red, names the culprit and recovers.

And what breaks storage on purpose does break it, and is undone, even when nobody is left to undo it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.limits import Limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.storage import Storage
from suites.phase3 import test_faults as faults
from suites.phase3 import test_integrity as integrity
from suites.phase3 import test_semantics as semantics
from suites.phase3._faults import cut, filled
from suites.phase3._payloads import tell
from suites.phase3._stream import Stream, streaming

from .cases import NEEDED, Fault, put_to_the_test
from .inject import flipped, hidden, mode, shell, unmounted
from .live import Live

pytestmark = NEEDED

WRITABLE, REMOUNT = "mount -o remount,bind,rw /mnt/shared", "mount -o remount,bind,ro /mnt/shared"
# It is busy as long as a file is open for writing: a stream's is, most of the time, on a slow disk.
READ_ONLY = f"for _ in $(seq 400); do {REMOUNT} 2>/dev/null && exit; sleep 0.02; done; exec {REMOUNT}"
#: Another file system over the shared one: everything works there, and nobody else sees it.
ALONE = ("mount -t tmpfs -o size=64m tmpfs /mnt/shared && mkdir /mnt/shared/models", "umount /mnt/shared")
#: What a check over all three machines says of the one that is to blame.
BLAMED = r"fails wherever it takes part; the other 2 nodes pass without it \(\d re-runs\): "


@pytest.fixture(autouse=True)
def _less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some MiB show as much as a GB, and what does not appear is not waited for by the half minute."""
    monkeypatch.setattr(semantics, "PATIENCE", 1.0)
    monkeypatch.setattr(integrity, "volume", lambda limits: 8 * integrity.MIB)


def same_data(storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, limits: Limits) -> None:
    """STO-15, whose figure would tell, rightly, that less was written than the limits ask for."""
    try:
        integrity.test_integrity(storage, scratch, evidence, measure, limits)
    except AssertionError as error:
        if "storage.integrity_volume is 8 MiB" not in str(error):
            raise


def models(storage: Storage, evidence: Evidence) -> None:
    """STO-34 for one folder."""
    semantics.test_folders(storage, evidence, "models")


FAULTS = [
    pytest.param(
        Fault(
            unmounted("node02"),
            [
                (semantics.test_file_operations, r"node02: can't make /mnt/shared/\S+/node02: mkdir: "),
                (
                    semantics.test_coherence,
                    rf"node02: {BLAMED}node02: creating on controller: \S+ still reads as 'nothing' after 1",
                ),
                (same_data, "node02: .*, written on node01, has no bytes, expected 8388608"),
                (models, "node02: no /mnt/shared/models: stat: "),
            ],
        ),
        id="not mounted on one node",
        marks=pytest.mark.seen_to_fail("STO-12", "STO-13", "STO-15", "STO-34"),
    ),
    pytest.param(
        Fault(
            shell("node01", READ_ONLY, WRITABLE),
            [
                (semantics.test_file_operations, "node01: can't make .*: Read-only file system"),
                (
                    semantics.test_coherence,
                    rf"node01: {BLAMED}node01: creating of .* failed with 2: .*Read-only file system",
                ),
                (same_data, "node01: writing .* ended with 1: .*Read-only file system"),
            ],
        ),
        id="read-only on one node",
        marks=pytest.mark.seen_to_fail("STO-12", "STO-13", "STO-15"),
    ),
    pytest.param(
        Fault(
            shell("node02", *ALONE),
            [
                (
                    semantics.test_coherence,
                    rf"node02: {BLAMED}node02: creating on controller: \S+ still reads as 'nothing' after 1",
                ),
                (models, "node02: /mnt/shared/models is drwxr-xr-x root, expected drwxrwxr-x hpc"),
            ],
        ),
        id="one node has a file system of its own there",
        marks=pytest.mark.seen_to_fail("STO-13", "STO-34"),
    ),
    pytest.param(
        Fault(
            mode("controller", "/mnt/shared/models", "0700", "0775"),
            [(models, "controller: /mnt/shared/models is drwx------ hpc, expected drwxrwxr-x hpc")],
        ),
        id="models for nobody",
        marks=pytest.mark.seen_to_fail("STO-34"),
    ),
    pytest.param(
        Fault(hidden("controller", "/mnt/shared/models"), [(models, "controller: no /mnt/shared/models: stat: ")]),
        id="no models",
        marks=pytest.mark.seen_to_fail("STO-34"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_goes_red_names_the_culprit_and_recovers(live: Live, fault: Fault) -> None:
    put_to_the_test(live, fault)


@pytest.mark.seen_to_fail("STO-11")
def test_a_node_without_room_is_named(live: Live) -> None:
    with shell("node02", *ALONE)(live):
        verdict = live.judge(integrity.test_capacity)
        assert (verdict.kind, verdict.text[:37]) == ("figure", "node02: storage.free is 0.0625 GiB, e"), verdict
    assert live.judge(integrity.test_capacity).kind == "green"


# what is written and verified while something is broken


@pytest.fixture
def stream(live: Live) -> Iterator[Stream]:
    """Data that flows from node01 to node02."""
    storage = Storage(live.cluster)
    folder = storage.scratch("stream-test")
    try:
        with streaming(live["node01"], live["node02"], folder, Evidence()) as found:
            yield found
    finally:
        storage.discard(folder)


def test_a_stream_stalls_while_it_is_refused_and_goes_on(live: Live, stream: Stream) -> None:
    since = time.monotonic()
    with shell("node01", READ_ONLY, WRITABLE)(live):
        wait_for(stream.errors, within=20, what="refused")
        assert stream.errors()[0].error == "EROFS"
        wait_for(lambda: stream.since_last() > 2.0, within=20, what="held up")
    lasted = time.monotonic() - since
    stream.flow(20, "after the file system could be written again")
    assert stream.whole() > 5
    assert 2.0 < stream.stall() < lasted + 2.0


@pytest.mark.seen_to_fail("STO-27")
def test_one_byte_of_a_stream_is_missed(live: Live, stream: Stream) -> None:
    (block, *_) = live["controller"].run("ls", stream.folder).stdout.split()
    live["controller"].sh(flipped(f"{stream.folder}/{block}", 1_000_000))
    with pytest.raises(AssertionError, match=r"^node02: 1 of \d+ blocks that node01 wrote are damaged: 000000-"):
        stream.whole()
    live["controller"].run("rm", f"{stream.folder}/{block}")


@pytest.mark.seen_to_fail("STO-27")
def test_a_block_that_is_gone_is_missed(live: Live, stream: Stream) -> None:
    blocks = live["controller"].run("ls", stream.folder).stdout.split()
    live["controller"].sh("rm " + " ".join(f"{stream.folder}/{block}" for block in blocks))
    with pytest.raises(AssertionError, match=r"^node02: \d+ blocks are there, node01 was told that \d+ are written"):
        stream.whole()


def test_nothing_of_a_stream_is_left(live: Live) -> None:
    storage = Storage(live.cluster)
    folder = storage.scratch("stream-left")
    with streaming(live["node01"], live["node02"], folder, Evidence()):
        assert "ai-how-stream" in live["node01"].run("systemctl", "list-units", "--no-legend", "ai-how-*").stdout
    storage.discard(folder)
    for name in ("node01", "node02"):
        assert live[name].run("systemctl", "list-units", "--all", "--no-legend", "ai-how-stream*").stdout == ""
        assert live[name].sh("ls -d /run/ai-how-stream* 2>/dev/null || echo none").stdout == "none\n"


# what breaks things on purpose


def reaches(live: Live) -> bool:
    return live["node01"].run("ping", "-c1", "-W1", live["node02"].address, check=False).ok


def test_a_cut_is_silent_and_heals(live: Live) -> None:
    with cut(live["node01"], live["node02"].address, 60.0, Evidence()):
        tried = live["node01"].run("timeout", "2", "ssh-keyscan", "-T1", live["node02"].address, check=False)
        assert tried.stdout == ""
        assert live["node01"].run("ping", "-c1", "-W1", live["controller"].address, check=False).ok
    assert reaches(live)
    assert "ai-how-undo" not in live["node01"].run("systemctl", "list-timers", "--all", "--no-legend").stdout


def test_a_cut_heals_by_itself_when_nobody_is_left_to_do_it(live: Live) -> None:
    broken = cut(live["node01"], live["node02"].address, 3.0, Evidence())
    broken.__enter__()  # and never left, as by a run that was killed
    assert not reaches(live)
    wait_for(lambda: reaches(live), within=15, what="healed", every=0.5)
    broken.__exit__(None, None, None)
    assert reaches(live)


@pytest.mark.seen_to_fail("STO-29")
def test_a_full_file_system_refuses_with_its_own_word(live: Live) -> None:
    node, evidence = live["node01"], Evidence()
    with shell("node01", "mkdir -p /run/small && mount -t tmpfs -o size=64m tmpfs /run/small", "umount /run/small")(
        live
    ):
        with filled(node, "/run/small", 8, 60.0, evidence):
            seen = tell(node, "fill.py", "/run/small/file", "32", evidence=evidence)
            assert (seen["error"], 6 <= seen["blocks"] <= 10) == ("ENOSPC", True), seen
            faults.intact(node, "/run/small/file", seen["blocks"], evidence)
        assert tell(node, "fill.py", "/run/small/file", "32", evidence=evidence) == {"blocks": 32, "error": ""}
        with pytest.raises(AssertionError, match=r"^node01: of 33 MiB that were written to \S+, 32 read as they were"):
            faults.intact(node, "/run/small/file", 33, evidence)
