"""The checks of directories on virtual machines, on machines that pretend to mount a folder of this test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig, VirtiofsMount
from pytest_ai_how.errors import AiHowError, ProvisionError
from pytest_ai_how.machines import Machines
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from suites.phase1 import test_virtiofs as virtiofs
from tests.fakes import Switchboard, fake_cluster

PLANNED = {"source": "data", "fstype": "virtiofs", "options": "rw,nosuid,nodev,relatime"}


@dataclass
class Guest:
    """A machine that sees ``folder`` of this host at ``mount``, as well as it is told to."""

    folder: Path
    mount: str = "/srv/data"
    line: dict[str, str] | None = field(default_factory=lambda: dict(PLANNED))
    owner: str = "root root 755"
    reads: str | None = None
    writes: str | None = None
    refuses: bool = False
    boots: int = 0

    def here(self, path: str) -> Path:
        return self.folder / Path(path).name

    def answer(self, argv: tuple[str, ...]) -> Result | str:  # noqa: PLR0911  one for each program
        match argv:
            case ("findmnt", *_):
                return json.dumps({"filesystems": [self.line]}) if self.line else Result(argv, 1)
            case ("stat", *_):
                return f"{self.owner}\n"
            case ("cat", "/proc/sys/kernel/random/boot_id"):
                self.boots += 1
                return f"boot {self.boots}\n"
            case ("cat", path):
                return self.here(path).read_text() if self.reads is None else self.reads
            case ("touch", path) if not self.refuses:
                self.here(path).touch()
                return ""
            case ("touch", _):
                return Result(argv, 1, stderr="touch: Read-only file system\n")
            case ("uname", "-n"):
                return "node02\n"
        raise AssertionError(argv)


class Libvirt(Switchboard):
    """Machines that mount one folder of this host."""

    def __init__(self, plan: Sequence[VirtiofsMount], lenient: bool = False) -> None:
        super().__init__(dict.fromkeys(("controller", "node01", "node02"), "running"))
        self.plan, self.lenient = tuple(plan), lenient

    def mounts(self, config: ClusterConfig, node: str) -> Sequence[VirtiofsMount]:
        return self.plan if node == "node02" else ()

    def start(self, config: ClusterConfig, node: str) -> None:
        missing = [
            mount.source
            for one in config.nodes
            for mount in one.virtiofs
            if one.name == node and not Path(mount.source).is_dir()
        ]
        if missing and not self.lenient:
            raise ProvisionError(node, f"virtiofs: {missing[0]} does not exist on this host")
        super().start(config, node)


@dataclass
class Bench:
    """What the fixtures of the checks give."""

    guest: Guest
    driver: Libvirt
    cluster: Cluster

    @property
    def bringup(self) -> Any:
        return self

    @property
    def machines(self) -> Machines:
        return Machines(self.driver, self.cluster)

    def check(self, evidence: Evidence) -> None:
        virtiofs.test_mounts(self.bringup, self.cluster, evidence)

    def reboot(self, evidence: Evidence) -> None:
        virtiofs.test_mounts_after_a_reboot(self.bringup, self.cluster, self.machines, evidence)


def bench(folder: Path, guest: Guest | None = None, *, read_only: bool = False, lenient: bool = False) -> Bench:
    guest = guest or Guest(folder)
    plan = VirtiofsMount(tag="data", source=str(folder), mount="/srv/data", read_only=read_only)
    cluster = fake_cluster({"node02": [(lambda argv: True, guest.answer)]})
    transport = cluster["node02"].transport
    plain = transport.execute

    def execute(argv: Sequence[str], *, input: str | bytes = b"", **others: Any) -> Result:
        if argv[0] == "dd":
            path = guest.here(argv[1].removeprefix("of="))
            if guest.refuses:
                return Result(tuple(argv), 1, stderr="dd: failed to open: Permission denied\n")
            path.write_text(guest.writes if guest.writes is not None else str(input))
            return Result(tuple(argv), 0)
        return plain(argv, **others)

    transport.execute = execute  # type: ignore[method-assign]  # what is written must reach this host
    return Bench(guest, Libvirt([plan], lenient), cluster)


def test_a_sound_directory_passes_and_leaves_nothing(tmp_path: Path, evidence: Evidence) -> None:
    bench(tmp_path).check(evidence)
    assert evidence.samples > 3
    bench(tmp_path).reboot(evidence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.seen_to_fail("INF-25")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"line": None}, r"^node02: /srv/data: nothing is mounted, expected virtiofs data"),
        ({"line": {**PLANNED, "fstype": "9p"}}, r"^node02: /srv/data: 9p data is mounted, expected virtiofs data"),
        ({"line": {**PLANNED, "options": "ro,relatime"}}, r"mounted with ro,relatime, expected rw"),
        ({"owner": "hpc hpc 700"}, r"^node02: /srv/data: belongs to hpc hpc 700, expected root root 755; change /"),
        ({"owner": ""}, r"belongs to nobody"),
        ({"reads": "stale"}, r"^node02: /srv/data: read 'stale', expected '[0-9a-f]{32}' as /.* holds on this host"),
        ({"writes": "other"}, r"^node02: /srv/data: wrote '[0-9a-f]{32}', but /.* holds 'other' on this host"),
        ({"refuses": True}, r"^node02: /srv/data: writing failed: dd: failed to open: Permission denied"),
    ],
)
def test_a_directory_that_is_not_as_planned(
    tmp_path: Path, evidence: Evidence, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        bench(tmp_path, Guest(tmp_path, **changes)).check(evidence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.seen_to_fail("INF-25")
def test_a_read_only_directory_that_can_be_written(tmp_path: Path, evidence: Evidence) -> None:
    line = {**PLANNED, "options": "ro,nosuid"}
    bench(tmp_path, Guest(tmp_path, line=line, refuses=True), read_only=True).check(evidence)
    with pytest.raises(AssertionError, match=r"^node02: /srv/data: is read-only, but the machine could write to it"):
        bench(tmp_path, Guest(tmp_path, line=line), read_only=True).check(evidence)
    with pytest.raises(AssertionError, match=r"mounted with rw,.*, expected ro"):
        bench(tmp_path, read_only=True).check(evidence)


@pytest.mark.seen_to_fail("INF-25", "INF-26")
def test_no_directory_at_all_proves_nothing(tmp_path: Path, no_evidence: Evidence) -> None:
    made = bench(tmp_path)
    made.driver.plan = ()
    for check in (made.check, made.reboot):
        with pytest.raises(AssertionError, match="^cluster 'local': no directory of this host is mounted anywhere"):
            check(no_evidence)


@pytest.mark.seen_to_fail("INF-26")
def test_a_machine_that_starts_without_its_directory(tmp_path: Path, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^node02: started although /var/empty/ai-how-no-such-directory is miss"):
        bench(tmp_path, lenient=True).reboot(evidence)


@pytest.mark.seen_to_fail("INF-26")
def test_a_refusal_that_does_not_name_the_path(
    tmp_path: Path, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plain = bench(tmp_path), Switchboard.start

    def start(config: ClusterConfig, node: str) -> None:
        if any(one.virtiofs for one in config.nodes):
            raise ProvisionError(node, "internal error: virtiofsd died")
        plain(made.driver, config, node)

    monkeypatch.setattr(made.driver, "start", start)
    with pytest.raises(AssertionError, match=r"said 'node02: internal error: virtiofsd died', expected a refusal with"):
        made.reboot(evidence)


@pytest.mark.seen_to_fail("INF-26")
def test_a_directory_that_does_not_come_back(tmp_path: Path, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"nothing is mounted, expected virtiofs data.* \(after a reboot\)"):
        bench(tmp_path, Guest(tmp_path, line=None)).reboot(evidence)
    with pytest.raises(AssertionError, match=r"read 'other' after a reboot, expected '[0-9a-f]{32}' from this host"):
        bench(tmp_path, Guest(tmp_path, reads="other")).reboot(evidence)


@pytest.mark.seen_to_fail("INF-26")
def test_a_machine_that_was_not_booted_anew(tmp_path: Path, evidence: Evidence) -> None:
    guest = Guest(tmp_path)
    made = bench(tmp_path, guest)
    plain = guest.answer
    guest.answer = lambda argv: "one\n" if "boot_id" in argv[-1] else plain(argv)  # type: ignore[method-assign]
    again = fake_cluster({"node02": [(lambda argv: True, guest.answer)]})
    made.cluster = again
    with pytest.raises(AssertionError, match="^node02: was not booted anew"):
        made.reboot(evidence)


def test_containers_have_no_directories_to_tell(tmp_path: Path, no_evidence: Evidence) -> None:
    made = bench(tmp_path)
    with pytest.raises(AiHowError, match="driver pretended can't tell which directories its machines mount"):
        virtiofs.test_mounts(type("B", (), {"driver": Switchboard({})})(), made.cluster, no_evidence)
