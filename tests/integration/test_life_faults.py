"""The life-cycle checks on real machines: green as they are, and red for the right reason when a fault is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.state import cluster_state, cookie
from pytest_ai_how.limits import load_limits
from pytest_ai_how.machines import Machines
from pytest_ai_how.progress import Silent
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from suites.phase4 import _lives
from suites.phase4 import test_task035_end as end
from suites.phase4 import test_task035_start as start
from suites.phase4._facts import Facts
from suites.phase4._small import OFF, ON, Small, both_on, prepared, small_config

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]
RUN = "20261123-160000-bd35"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        local = load_config("local").model_copy(update={"driver": "nspawn"})
        driver = choose_driver(local, Silent())
        made = prepared(small_config(local, driver, RUN), driver, tmp_path_factory.mktemp("small"), RUN)
        with made.nothing_left():
            yield made


@pytest.fixture
def up(small: Small) -> Small:
    """The small cluster, up."""
    started = small.up()
    assert started.ok, started.describe()
    return small


@pytest.fixture
def cluster(up: Small) -> Iterator[Cluster]:
    made = Cluster(up.config, [up.node(node.name) for node in up.config.nodes])
    yield made
    made.close()


@pytest.fixture
def bringup(up: Small) -> Bringup:
    lease = Lease(cluster_state(up.config.name), RUN, owner=False)
    return Bringup(up.config, up.driver, lease, Silent())


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


@pytest.fixture
def measure() -> Measurements:
    return Measurements(load_limits("local"))


@pytest.mark.seen_to_fail("PRV-20")
@pytest.mark.parametrize(
    ("fault", "mend", "message"),
    [
        (
            "echo 10.0.0.1 other >>/etc/hosts",
            "sed -i '$d' /etc/hosts",
            rf"^{ON}: /etc/hosts is .* \(1 changed, 0 failed",
        ),
        (
            "chmod 644 /root/.ssh/authorized_keys",
            "chmod 600 /root/.ssh/authorized_keys",
            "authorized_keys is .* 0644 root",
        ),
        ("mv /etc/fstab /etc/kept", "mv /etc/kept /etc/fstab", r"/etc/fstab is not there.* \(0 changed, 1 failed"),
    ],
)
def test_a_node_that_was_changed_by_hand(
    cluster: Cluster, bringup: Bringup, evidence: Evidence, fault: str, mend: str, message: str
) -> None:
    cluster[ON].sh(fault)
    try:
        with pytest.raises(AssertionError, match=message):
            start.test_converge_changes_nothing(cluster, bringup, evidence)
    finally:
        cluster[ON].sh(mend)
    start.test_converge_changes_nothing(cluster, bringup, evidence)


@pytest.mark.seen_to_fail("PRV-25")
def test_a_machine_with_more_memory_and_addresses_than_planned(
    cluster: Cluster, bringup: Bringup, evidence: Evidence
) -> None:
    start.test_plan_equals_reality(bringup, cluster, evidence)
    groups = read_cgroups().groups(f"{cookie(cluster.name)}/{ON}")
    names = ("memory.limit_in_bytes", "memory.max")
    limit = next(group / name for group in groups for name in names if (group / name).exists())
    planned = limit.read_text()
    limit.write_text(str(2 * int(planned)))
    cluster[ON].run("ip", "address", "add", "10.9.9.9/32", "dev", "host0")
    try:
        with pytest.raises(
            AssertionError, match=rf"{ON}: address is '.*, 10\.9\.9\.9/32', planned .*memory is '1024 MiB'"
        ):
            start.test_plan_equals_reality(bringup, cluster, evidence)
    finally:
        limit.write_text(planned)
        cluster[ON].run("ip", "address", "delete", "10.9.9.9/32", "dev", "host0")
    start.test_plan_equals_reality(bringup, cluster, evidence)


@pytest.mark.seen_to_fail("PRV-12")
def test_a_second_start_after_a_change_of_the_file(up: Small, evidence: Evidence) -> None:
    text = up.file.read_text()
    before = up.facts()
    up.file.write_text(text.replace("memory: 512", "memory: 513"))
    try:
        made = _lives.Again(up.up(), before, up.facts())
    finally:
        up.file.write_text(text)
    with pytest.raises(AssertionError, match="expected that the cluster was up"):
        start.test_a_second_start_changes_nothing(made, evidence)
    said = replace(made, result=replace(made.result, stdout="cluster x was up already"))
    with pytest.raises(AssertionError, match=f"changed by the second start: {ON} was started anew"):
        start.test_a_second_start_changes_nothing(said, evidence)
    start.test_a_second_start_changes_nothing(_lives.again(up), evidence)


@pytest.mark.seen_to_fail("PRV-17")
def test_a_machine_that_was_started_all_the_same(up: Small, cluster: Cluster, evidence: Evidence) -> None:
    machines = Machines(up.driver, cluster)

    def crowd(facts: Facts) -> _lives.Crowd:
        return _lives.Crowd(up.up(), {}, facts, {})

    machines.start(OFF)
    try:
        with pytest.raises(AssertionError, match=f"{OFF}: is running, expected off and defined"):
            start.test_not_started_by_itself(crowd(up.facts()), up, machines, evidence)
    finally:
        machines.stop(OFF)
    start.test_not_started_by_itself(crowd(up.facts()), up, machines, evidence)


@pytest.mark.seen_to_fail("PRV-15")
def test_a_machine_that_is_cut_off(
    small: Small, evidence: Evidence, measure: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    end.test_graceful_stop(_lives.stop_and_start(small), evidence, measure)
    stop = type(small.driver).stop  # type: ignore[attr-defined]  # a Power
    monkeypatch.setattr(
        type(small.driver), "stop", lambda self, config, node, **_: stop(self, config, node, force=True)
    )
    with pytest.raises(AssertionError, match=f"{ON}: its services were not stopped in order: on its disk is ''"):
        end.test_graceful_stop(_lives.stop_and_start(small), evidence, measure)


@pytest.mark.seen_to_fail("PRV-16")
def test_a_bridge_that_stays(small: Small, evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    end.test_destroy_leaves_nothing(_lives.destroy(small), evidence)
    down = Small.down

    def leaves(self: Small) -> object:
        ended = down(self)
        if "nothing of it remains" in ended.stdout:
            ip("link", "add", "name", "ah-left", "type", "bridge")
        return ended

    monkeypatch.setattr(Small, "down", leaves)
    small.down()
    ip("link", "delete", "dev", "ah-left", check=False)
    try:
        with pytest.raises(AssertionError, match="after the cluster was destroyed: interface ah-left was left behind"):
            end.test_destroy_leaves_nothing(_lives.destroy(small), evidence)
    finally:
        ip("link", "delete", "dev", "ah-left")


@pytest.mark.seen_to_fail("PRV-14")
def test_a_failed_run_that_keeps_its_cluster(
    small: Small, evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = prepared(both_on(small.config), small.driver, tmp_path / "it", RUN, "fails_at_node01.py")
    end.test_partial_failure_is_rolled_back(_lives.fail_in_between(failing), evidence)
    run = Small.pytest
    monkeypatch.setattr(Small, "pytest", lambda self, *options: run(self, "--cluster-keep=always", *options))
    with pytest.raises(AssertionError, match="after the failure: .*was left behind"):
        end.test_partial_failure_is_rolled_back(_lives.fail_in_between(failing), evidence)
    failing.down()


@pytest.mark.seen_to_fail("PRV-24")
def test_an_interrupted_run_whose_machine_died_too(small: Small, evidence: Evidence) -> None:
    whole, half = _lives.killed_whole(small), _lives.killed_half(small)
    end.test_interrupted_runs(whole, half, evidence)
    before = small.facts()
    small.power.stop(small.config, ON, force=True)
    made_anew = _lives.Interrupted(small.config.name, before, small.up(), small.facts())
    with pytest.raises(AssertionError, match="does not say that the cluster was up already"):
        end.test_interrupted_runs(made_anew, half, evidence)


@pytest.mark.seen_to_fail("PRV-23")
def test_workers_that_find_two_machines(small: Small, evidence: Evidence) -> None:
    crowd = _lives.crowd(small, 3)
    start.test_several_workers_make_one_cluster(crowd, evidence)
    again = small.pytest("--cluster-keep=always", "-k", "short")
    assert again.ok, again.describe()
    first = small.note("short")
    small.down()
    small.pytest("--cluster-keep=always", "-k", "short")
    two = {"worker0": first, "worker1": small.note("short")}
    with pytest.raises(AssertionError, match=f"{ON}: workers saw different machines"):
        start.test_several_workers_make_one_cluster(replace(crowd, notes=two), evidence)


def ip(*argv: str, check: bool = True) -> None:
    subprocess.run(["ip", *argv], check=check, capture_output=True)
