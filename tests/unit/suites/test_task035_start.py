"""The checks of a cluster's start go red on starts that went wrong in the way that the check is about."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.machines.reality import Shape, planned
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.machines import Machines
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from suites.phase4 import test_task035_start as task035
from suites.phase4._lives import Again
from suites.phase4._small import OFF, ON
from tests.fakes import Switchboard, fake_cluster

from .task035_fakes import CLAIM, ENTRIES, FACTS, MACHINE, Told, again, bringup, crowd, said, small


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


NOTES = crowd().notes


@pytest.mark.seen_to_fail("PRV-23")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"result": said("", 1)}, "pytest with 3 workers exited with 1"),
        ({"notes": {**NOTES, "worker2": []}}, "no note of worker2; nothing to compare"),
        ({"notes": {"worker0": NOTES["worker0"]}}, "1 workers ran, expected several"),
        (
            {"notes": {**NOTES, "worker2": NOTES["worker1"]}},
            "2 processes tested, expected 3; the tests were not spread",
        ),
        ({"notes": {**NOTES, "worker2": ["7", "99", "8b9a58c0ffee"]}}, "controller: workers saw different machines"),
        ({"result": said("life: making 2\nlife: making 2")}, "the cluster was made 2 times, expected once"),
        ({"result": said("3 passed")}, "the cluster was made 0 times, expected once"),
        ({"facts": replace(FACTS, entries=(*ENTRIES, ENTRIES[0]))}, "made twice: bridge name=ah-life"),
    ],
)
def test_workers_that_make_more_than_one_cluster_are_red(
    evidence: Evidence, changes: dict[str, object], message: str
) -> None:
    task035.test_several_workers_make_one_cluster(crowd(), evidence)
    with pytest.raises(AssertionError, match=message):
        task035.test_several_workers_make_one_cluster(crowd(**changes), evidence)


@pytest.mark.seen_to_fail("PRV-13")
def test_a_slow_start_is_red(evidence: Evidence, measure: Measurements, tmp_path: Path) -> None:
    steps = {"machines": 100.0, "ssh": 10.0, "slurm": 700.0}
    with pytest.raises(LimitExceeded, match=r"cluster\.start_to_ssh is 181 s, expected at most 180 s"):
        task035.test_start_to_ssh(
            crowd(seconds={"machines": 180.0, "ssh": 1.0}), bringup(Switchboard({}), steps), evidence, measure
        )
    assert evidence.samples == 2


@pytest.mark.seen_to_fail("PRV-13")
def test_a_slow_cluster_is_red(evidence: Evidence, measure: Measurements) -> None:
    steps = {"machines": 100.0, "ssh": 10.0, "slurm": 800.0}
    with pytest.raises(LimitExceeded, match=r"cluster\.start is 910 s, expected at most 900 s"):
        task035.test_start_to_ssh(crowd(), bringup(Switchboard({}), steps), evidence, measure)


@pytest.mark.seen_to_fail("PRV-13")
def test_a_start_without_times_is_red(evidence: Evidence, measure: Measurements) -> None:
    with pytest.raises(AssertionError, match="cluster: no time of step 'machines' is in the record"):
        task035.test_start_to_ssh(crowd(), bringup(Switchboard({}), {"ssh": 1.0}), evidence, measure)


@pytest.mark.seen_to_fail("PRV-12")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (again(status=1), "the second start exited with 1, expected 0"),
        (again(text="cluster life is up (2.0 s)"), "expected that the cluster was up"),
        (again(replace(FACTS, machines={ON: "running", OFF: "running"})), "node01 was off, is running"),
        (again(replace(FACTS, boots={ON: "boot 9"})), "controller was started anew"),
        (again(replace(FACTS, processes=frozenset())), r"process 71 \(systemd\) is gone"),
        (again(replace(FACTS, processes=FACTS.processes | {(9, 9, "sh")})), r"process 9 \(sh\) is new"),
        (again(replace(FACTS, entries=(*ENTRIES, ENTRIES[1]))), "journal: mount target=/state/life/root is new"),
        (again(replace(FACTS, entries=ENTRIES[1:])), "journal: bridge name=ah-life is gone"),
        (replace(again(), before=replace(FACTS, processes=frozenset())), "no process of the cluster before"),
    ],
)
def test_a_second_start_that_changes_something_is_red(evidence: Evidence, changed: Again, message: str) -> None:
    task035.test_a_second_start_changes_nothing(again(), evidence)
    with pytest.raises(AssertionError, match=message):
        task035.test_a_second_start_changes_nothing(changed, evidence)


@pytest.mark.seen_to_fail("PRV-17")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machines": {ON: "running", OFF: "running"}}, "life/node01: is running, expected off and defined"),
        ({"machines": {ON: "running"}}, "life/node01: is absent, expected off and defined"),
        ({"claims": (CLAIM,)}, "node01: holds 0000:01:00.0 although it is off"),
        ({"machines": {ON: "off", OFF: "off"}}, "controller: is not running beside it"),
    ],
)
def test_a_machine_that_starts_by_itself_is_red(
    evidence: Evidence, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    machines = Machines(Switchboard({}), fake_cluster({"*": {}}))
    task035.test_not_started_by_itself(crowd(), small(tmp_path), machines, evidence)
    bad = crowd(facts=replace(FACTS, **changes))  # type: ignore[arg-type]  # the names are the fields'
    with pytest.raises(AssertionError, match=message):
        task035.test_not_started_by_itself(bad, small(tmp_path), machines, evidence)


@pytest.mark.seen_to_fail("PRV-17")
def test_one_of_the_run_s_own_cluster_that_runs_is_red(evidence: Evidence, tmp_path: Path) -> None:
    config = load_config("local")
    nodes = (*config.nodes[:2], config.nodes[2].model_copy(update={"auto_start": False}))
    cluster = fake_cluster({"*": {}}, config=config.model_copy(update={"nodes": nodes}))
    machines = Machines(Switchboard({"node02": "running"}), cluster)
    with pytest.raises(AssertionError, match="local/node02: is running, expected off and defined"):
        task035.test_not_started_by_itself(crowd(), small(tmp_path), machines, evidence)


HOSTS = File("/etc/hosts", b"10.78.0.10 controller\n")
KEY = File("/etc/munge/munge.key", b"secret", 0o400, "munge")


def listed(file: File, mode: str = "", owner: str = "", content: bytes | None = None) -> str:
    digest = hashlib.sha256(file.content if content is None else content).hexdigest()
    return f"{digest} {mode or f'{file.mode:o}'} {owner or file.owner} {file.path}\n"


def holding(text: str) -> Cluster:
    return fake_cluster({"node01": {"sh -c": text}, "*": {"sh -c": listed(HOSTS) + listed(KEY)}})


@pytest.mark.seen_to_fail("PRV-20")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (listed(HOSTS, content=b"repaired by hand") + listed(KEY), r"node01: /etc/hosts is \w+ 0644 root, rendered"),
        (
            listed(HOSTS) + listed(KEY, mode="444"),
            r"node01: /etc/munge/munge\.key is \w+ 0444 munge, rendered \w+ 0400",
        ),
        (
            listed(HOSTS) + listed(KEY, owner="root"),
            r"is \w+ 0400 root, rendered \w+ 0400 munge \(1 changed, 0 failed\)",
        ),
        (listed(HOSTS), r"node01: /etc/munge/munge\.key is not there, rendered .* \(0 changed, 1 failed\)"),
        ("", r"\(0 changed, 2 failed\); expected 0 changed, 0 failed"),
    ],
)
def test_a_file_that_a_second_rendering_changes_is_red(evidence: Evidence, text: str, message: str) -> None:
    made = bringup(Told(files=(HOSTS, KEY)))
    task035.test_converge_changes_nothing(holding(listed(HOSTS) + listed(KEY)), made, evidence)
    with pytest.raises(AssertionError, match=message):
        task035.test_converge_changes_nothing(holding(text), made, evidence)


@pytest.mark.seen_to_fail("PRV-20")
def test_a_rendering_of_nothing_is_red(no_evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match="controller: nothing is rendered for it; nothing was compared"):
        task035.test_converge_changes_nothing(holding(""), bringup(Told()), no_evidence)


def test_of_two_renderings_of_one_path_the_last_counts(evidence: Evidence) -> None:
    made = bringup(Told(files=(File("/etc/hosts", b"first"), HOSTS, KEY)))
    task035.test_converge_changes_nothing(holding(listed(HOSTS) + listed(KEY)), made, evidence)


def shaped(**changes: str) -> Told:
    config = load_config("local")
    return Told({node.name: Shape({**planned(config, node), **changes}) for node in config.nodes})


@pytest.mark.seen_to_fail("PRV-25")
@pytest.mark.parametrize(
    ("part", "is_"),
    [
        ("cpus", "1"),
        ("memory", "512 MiB"),
        ("disk", "20 GiB"),
        ("bridge", "no bridge"),
        ("mtu", "9000"),
        ("address", "10.78.0.11/24, 192.168.1.7/24"),
        ("pci", "0000:01:00.0"),
        ("cpu_model", "EPYC"),
        ("hugepages", "2M"),
        ("pinning", "0 1"),
    ],
)
def test_a_machine_that_is_not_as_planned_is_red(evidence: Evidence, part: str, is_: str) -> None:
    cluster = fake_cluster({"*": {}})
    task035.test_plan_equals_reality(bringup(shaped()), cluster, evidence)
    with pytest.raises(AssertionError, match=re.escape(f"controller: {part} is {is_!r}, planned ")):
        task035.test_plan_equals_reality(bringup(shaped(**{part: is_})), cluster, evidence)


@pytest.mark.seen_to_fail("PRV-25")
def test_a_part_that_nobody_tells_is_red(evidence: Evidence) -> None:
    cluster, config = fake_cluster({"*": {}}), load_config("local")
    parts = {node.name: {k: v for k, v in planned(config, node).items() if k != "disk"} for node in config.nodes}
    excused = Told({name: Shape(told, {"disk": "an overlay has no size"}) for name, told in parts.items()})
    task035.test_plan_equals_reality(bringup(excused), cluster, evidence)
    silent = Told({name: Shape(told) for name, told in parts.items()})
    with pytest.raises(AssertionError, match="controller: disk is neither told nor said to be untold"):
        task035.test_plan_equals_reality(bringup(silent), cluster, evidence)
    with pytest.raises(AssertionError, match="controller: nothing is told of it; nothing was compared"):
        task035.test_plan_equals_reality(bringup(Told({name: Shape({}) for name in parts})), cluster, evidence)


def test_a_driver_that_tells_nothing_is_no_failure_of_the_cluster(no_evidence: Evidence) -> None:
    with pytest.raises(AiHowError, match="^driver pretended: does not tell what its machines are"):
        task035.test_plan_equals_reality(bringup(Switchboard({})), fake_cluster({"*": {}}), no_evidence)


def test_a_good_note_is_a_process_and_a_machine() -> None:
    assert all(len(note) == 1 + len(MACHINE.split()) for note in NOTES.values())
