"""The checks of storage under faults go red when data is lost, damaged or held up too long, and name the machine."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from types import SimpleNamespace

import pytest

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.machines import Machines
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result
from suites.phase3 import _stream
from suites.phase3 import test_faults as faults
from tests.unit.services.beegfs.sample import MOUNTED, beegfs, beegfs_config, ctl, is_mount, is_proc, proc, well

from .phase3_fakes import KILLED, Flow, Rules, new_measure, says

SCRATCH = "/mnt/beegfs/.ai-how-x"
DAMAGED = {"000003-ab": "sha256 cd"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for by minutes."""
    monkeypatch.setattr(faults, "RECOVERY", 0.3)
    monkeypatch.setattr(faults, "wait_for", lambda probe, **how: _stream.wait_for(probe, **{**how, "within": 0.3}))


def with_flow(flow: Flow, **more: Rules) -> BeeGfs:
    """BeeGFS on three nodes of which some write and verify as ``flow`` tells, and ``more`` by node name comes first."""
    names = ("controller", "node01", "node02")
    return beegfs({name: [*more.get(name, []), *flow.rules(SCRATCH), *well()] for name in names})


def pids(*numbers: int) -> Rules:
    return [
        (("systemctl", "show"), [f"{number}\n" for number in numbers]),
        (("systemctl", "restart"), ""),
        (("systemctl", "list-unit-files"), ""),
    ]


def restart(flow: Flow, rules: Rules, unit: str, evidence: Evidence, where: str = "controller") -> None:
    made = with_flow(flow, **{where: rules})
    faults.test_daemon_restart(made, Storage(made.cluster), SCRATCH, evidence, new_measure(), unit)


@pytest.mark.seen_to_fail("STO-26")
@pytest.mark.parametrize(
    ("unit", "where"),
    [
        ("beegfs-mgmtd", "controller"),
        ("beegfs-meta", "controller"),
        ("beegfs-storage", "node02"),
        ("beegfs-helperd", "node01"),
    ],
)
def test_a_daemon_that_restarts_badly(evidence: Evidence, unit: str, where: str) -> None:
    restart(Flow(), pids(7, 8), unit, evidence, where)
    with pytest.raises(AssertionError, match=rf"^{where}: {unit} was not restarted: its process was 7, now it is 7"):
        restart(Flow(), pids(7, 7), unit, evidence, where)
    with pytest.raises(AssertionError, match=rf"^{where}: {unit} does not run; expected it to"):
        restart(Flow(), pids(0), unit, evidence, where)


@pytest.mark.seen_to_fail("STO-26")
def test_data_that_does_not_survive_a_restart(evidence: Evidence) -> None:
    def check(flow: Flow) -> None:
        restart(flow, pids(7, 8), "beegfs-meta", evidence)

    with pytest.raises(
        AssertionError, match=r"^node01: not 3 new blocks after beegfs-meta restarted within 0\.3 s; last seen"
    ):
        check(Flow(ends=8))
    with pytest.raises(
        AssertionError, match=r"^node01: a program that was writing got EIO while beegfs-meta restarted on con"
    ):
        check(Flow(errors={5: "EIO"}))
    with pytest.raises(AssertionError, match=r"^node02: 1 of \d+ blocks that node01 wrote are damaged: 000003-ab"):
        check(Flow(wrong=DAMAGED))
    with pytest.raises(
        AssertionError, match=r"^node02: \d+ blocks are there, node01 was told that \d+ are written: data was"
    ):
        check(Flow(lost=2))
    with pytest.raises(AssertionError, match=r"^node02: block 2 read with sha256 ff for a while"):
        check(Flow(damaged={2: "sha256 ff"}))
    with pytest.raises(
        LimitExceeded, match=r"^controller: storage\.stall\.restart is 200\.25 s, expected at most 180 s"
    ):
        check(Flow(gap=(9, 200.0)))


@pytest.mark.seen_to_fail("STO-26")
def test_a_target_that_does_not_come_back(evidence: Evidence) -> None:
    away = proc({"node01": "Online / Good", "node02": "Offline / Good"})
    made = with_flow(Flow(), controller=[*pids(7, 8), (is_proc, away)])
    with pytest.raises(
        AssertionError, match=r"^controller: storage target 2 of node02: Offline Good, 0\.3 s after beegfs-meta"
    ):
        faults.test_daemon_restart(made, Storage(made.cluster), SCRATCH, evidence, new_measure(), "beegfs-meta")


@pytest.mark.seen_to_fail("STO-26")
def test_generation_8_has_no_helper_daemon(evidence: Evidence) -> None:
    section = {"generation": "8", "packages": {"folder": "/packages"}}
    config = beegfs_config(storage={"kind": "beegfs", "mount": "/mnt/beegfs", "beegfs": section})

    def check(units: str) -> None:
        made = beegfs({"node01": [(("systemctl", "list-unit-files"), units)]}, config)
        faults.test_daemon_restart(made, Storage(made.cluster), SCRATCH, evidence, new_measure(), "beegfs-helperd")

    check("")
    with pytest.raises(
        AssertionError, match=r"^node01: has beegfs-helperd\.service enabled, which generation 8 does not know"
    ):
        check("beegfs-helperd.service enabled\n")


BOOTS = ["3f9a\n1 (systemd) S " + " ".join(["0"] * 18) + f" {start} 0\n" for start in (500, 900)]
SUMS = [f"aa  {SCRATCH}/kept\n"] * 2


def reboots(boots: list[str], sums: list[str], mounted: list[str | Result], wrote: str | Result = "") -> Rules:
    return [
        (says("printf again"), wrote),
        (("sh",), ""),
        (says("sha256sum"), sums),
        (("systemctl", "reboot"), AiHowError("node01", "the connection was closed")),
        (("cat", "/proc/sys/kernel/random/boot_id"), boots),
        (is_mount, mounted),
    ]


@pytest.mark.seen_to_fail("STO-27")
def test_a_client_that_does_not_come_back(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(flow: Flow | None = None, *, boots: list[str] = BOOTS, sums: list[str] = SUMS, **rest: object) -> None:
        flow = flow or Flow()
        mounted = [MOUNTED, *rest.get("mounted", [MOUNTED])]  # type: ignore[misc]  # a list of answers
        node = reboots(boots, sums, mounted, rest.get("wrote", ""))  # type: ignore[arg-type]  # an answer
        rules = flow.rules(f"{SCRATCH}/stream")
        made = beegfs({"node01": node, "controller": [*rules, *well()], "node02": [*rules, *well()]})
        faults.test_client_reboot(Storage(made.cluster), SCRATCH, evidence, new_measure())

    check()
    with pytest.raises(AssertionError, match=r"^node01: not booted anew within 0\.3 s"):
        check(boots=BOOTS[:1])
    with pytest.raises(
        AssertionError, match=r"^node01: not with /mnt/beegfs mounted again within 0\.3 s; last seen: None"
    ):
        check(mounted=[Result((), 1)])
    with pytest.raises(AssertionError, match=r"^node01: \S+/kept reads as 'bb .*' after a reboot, was 'aa "):
        check(sums=[SUMS[0], "bb  x\n"])
    with pytest.raises(AssertionError, match=r"^node01: can't write to \S+ after its reboot: Read-only file system"):
        check(wrote=Result((), 1, stderr="Read-only file system"))
    with pytest.raises(AssertionError, match=r"^node02: 1 of \d+ blocks that controller wrote are damaged"):
        check(Flow(wrong=DAMAGED))
    with pytest.raises(LimitExceeded, match=r"^controller: storage\.stall\.reboot is 190\.25 s"):
        check(Flow(gap=(9, 190.0)))
    late = count(0.0, 301.0)
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: next(late)))
    with pytest.raises(LimitExceeded, match=r"^node01: storage\.client_reboot is 301 s, expected at most 300 s"):
        check()


class Switches:
    """Machines that only note what is done to them."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def stop(self, node: str, *, force: bool = False, within: float = 60.0) -> float:
        assert force
        self.done.append(("cut", node))
        return 0.1

    def start(self, node: str, within: float = 300.0) -> float:
        self.done.append(("on", node))
        return 20.0


def killed(flow: Flow, evidence: Evidence, **more: Rules) -> Switches:
    made, switches = with_flow(flow, **more), Switches()
    machines: Machines = switches  # type: ignore[assignment]  # what the check calls of it
    faults.test_storage_node_killed(made, Storage(made.cluster), machines, SCRATCH, evidence, new_measure())
    return switches


@pytest.mark.seen_to_fail("STO-28")
def test_a_storage_node_whose_loss_is_not_survived(evidence: Evidence) -> None:
    assert killed(Flow(), evidence).done == [("cut", "node02"), ("on", "node02")]
    assert killed(Flow(errors={6: "EIO"}), evidence).done  # a bounded error is allowed
    with pytest.raises(
        AssertionError, match=r"^controller: goes on writing without node02; nothing was put to the test"
    ):
        killed(Flow(quiet=0.1), evidence)
    with pytest.raises(
        AssertionError, match=r"^controller: not 3 new blocks after node02 was started again within 0\.3 s"
    ):
        killed(Flow(ends=8), evidence)
    with pytest.raises(
        AssertionError, match=r"^node01: \d+ blocks are there, controller was told that \d+ are written"
    ):
        killed(Flow(lost=1), evidence)
    with pytest.raises(LimitExceeded, match=r"^node02: storage\.stall\.node is 181\.25 s, expected at most 180 s"):
        killed(Flow(gap=(9, 181.0)), evidence)
    away = proc({"node01": "Online / Good", "node02": "Probably-offline / Good"})
    with pytest.raises(
        AssertionError, match=r"^node01: storage target 2 of node02: Probably-offline Good, 0\.3 s after node"
    ):
        killed(Flow(), evidence, node01=[(is_proc, away)])


def cutting(answers: bool = False) -> Rules:
    return [
        (("ip", "-json", "route", "get"), '[{"dst":"10.78.0.12","dev":"host0"}]'),
        (("ip", "neighbour"), ""),
        (("ping",), "1 received" if answers else Result((), 1)),
    ]


@pytest.mark.seen_to_fail("STO-28")
def test_a_cut_that_does_not_heal_or_hits_others(evidence: Evidence) -> None:
    def check(flow: Flow | None = None, wrote: str | Result = "", *, answers: bool = False) -> BeeGfs:
        made = with_flow(flow or Flow(), node01=cutting(answers), controller=[(says("urandom"), wrote)])
        faults.test_network_cut(made, Storage(made.cluster), SCRATCH, evidence, new_measure())
        return made

    calls = [" ".join(call.argv) for call in check().cluster["node01"].transport.calls]  # type: ignore[attr-defined]  # a FakeTransport
    deed = next(
        n for n, one in enumerate(calls) if one.startswith("ip neighbour replace to 10.78.0.12 dev host0 lladdr 02:00")
    )
    assert any("--on-active=20" in one and "ip neighbour delete to 10.78.0.12" in one for one in calls[:deed])
    assert any(one.startswith("ip neighbour delete to 10.78.0.12") for one in calls[deed:])
    with pytest.raises(AssertionError, match=r"^node01: 10\.78\.0\.12 still answers though it was cut off"):
        check(answers=True)
    with pytest.raises(
        AssertionError, match=r"^controller: can't write \(137: hung\) while only node01 is cut off from node02"
    ):
        check(wrote=KILLED)
    with pytest.raises(AssertionError, match=r"^node01: goes on writing without a way to node02; nothing"):
        check(Flow(quiet=0.0))
    with pytest.raises(
        AssertionError, match=r"^node01: not 3 new blocks after the cut between node01 and node02 healed"
    ):
        check(Flow(ends=8))
    with pytest.raises(LimitExceeded, match=r"^node01: storage\.stall\.cut is 185\.25 s"):
        check(Flow(gap=(9, 185.0)))


FOUR = '{"blocks": 4, "error": ""}'
FULL = '{"blocks": 9, "error": "ENOSPC"}'
MORE = '{"blocks": 32, "error": ""}'
ENTRY = """\
Entry type: file
EntryID: 0-68A-1
Stripe pattern details:
+ Type: RAID0
+ Chunksize: 512K
+ Number of storage targets: desired: 4; actual: 2
+ Storage targets:
  + 1 @ node01 [ID: 1]
  + 2 @ node02 [ID: 2]
"""


@pytest.mark.seen_to_fail("STO-29")
def test_a_full_target_that_is_not_refused_or_damages(evidence: Evidence) -> None:
    nine = '{"blocks": 9, "error": ""}'

    def check(
        writer: tuple[str, ...] = (FOUR, FOUR, FULL, MORE),
        reader: tuple[str, ...] = (nine, FOUR, MORE),
        chunks: str = "9\n",
    ) -> BeeGfs:
        store = {"/etc/beegfs/beegfs-storage.conf": b"storeStorageDirectory = /data/beegfs/storage\n"}
        full: Rules = [
            (("find",), chunks),
            (("stat", "--file-system"), ["100000 4096\n", "4096 4096\n", "2304 4096\n"]),
            (("systemd-run",), ""),
            (("systemctl",), ""),
            (("fallocate",), ""),
            (("df",), "0\n"),
            (("rm",), ""),
        ]
        scripts: Mapping[str, Rules] = {
            "controller": [*well((ctl("beegfs-ctl --getentryinfo"), ENTRY)), (says("python3 -"), list(writer))],
            "node01": [*well((("find",), "9\n")), (says("python3 -"), list(reader))],
            "node02": [*full, *well()],
        }
        made = beegfs(scripts)
        for node in made.cluster.nodes:
            node.transport.files.update(store)  # type: ignore[attr-defined]  # a FakeTransport
        faults.test_full_target(made, Storage(made.cluster), SCRATCH, evidence)
        return made

    calls = [" ".join(call.argv) for call in check().cluster["node02"].transport.calls]  # type: ignore[attr-defined]  # a FakeTransport
    filling = "/data/beegfs/storage/.ai-how-filling"
    assert [call for call in calls if call.startswith("fallocate")] == [
        f"fallocate --offset=0 --length={343 * 2**20} {filling}",
        f"fallocate --offset={343 * 2**20} --length={7 * 2**20} {filling}",
    ]
    assert f"rm -f -- {filling}" in calls
    with pytest.raises(
        AssertionError, match=r"^controller: 128 of 128 MiB were written .* left on node02, then no error; exp"
    ):
        check((FOUR, FOUR, '{"blocks": 128, "error": ""}', MORE))
    with pytest.raises(AssertionError, match=r"^controller: 9 of 128 MiB were written .*, then EIO; expected ENOSPC"):
        check((FOUR, FOUR, '{"blocks": 9, "error": "EIO"}', MORE))
    with pytest.raises(
        AssertionError, match=r"^node01: of 9 MiB that were written to \S+/growing, 7 read as .*: block 7 is"
    ):
        check(reader=('{"blocks": 7, "error": "block 7 is not what was written"}', FOUR, MORE))
    with pytest.raises(
        AssertionError, match=r"^node01: of 4 MiB that were written to \S+/whole, 0 read as they were written"
    ):
        check(reader=(nine, '{"blocks": 0, "error": "EIO"}', MORE))
    with pytest.raises(AssertionError, match=r"^controller: with room on node02 again, writing \S+ gave .*ENOSPC"):
        check((FOUR, FOUR, FULL, FULL))
    with pytest.raises(
        AssertionError, match=r"^node02: holds nothing of \S+/growing, which lies on \['node01'\]; nothing to"
    ):
        check(chunks="")
