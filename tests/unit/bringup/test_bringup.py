from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from pytest_ai_how import bringup as module
from pytest_ai_how import waiting
from pytest_ai_how.bringup import Bringup, claim
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError, HostError, HostKeyError, StepBlocked, StepFailed, TransportError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.node import Node
from pytest_ai_how.services.protocol import Cause
from tests.unit.bringup_fakes import BOOTED, FakeDriver, FakeService, Lines, giving


@pytest.fixture
def config() -> ClusterConfig:
    return load_config("local")


@pytest.fixture
def driver(lease: Lease) -> FakeDriver:
    return FakeDriver(lease.state)


Make = Callable[..., Bringup]


@pytest.fixture
def make(config: ClusterConfig, lease: Lease, driver: FakeDriver) -> Make:
    def bringup(
        *services: FakeService, lease: Lease = lease, progress: Lines | None = None, within: float = 5.0
    ) -> Bringup:
        factories = {one.name: giving(one) for one in services}
        return Bringup(config, driver, lease, progress or Lines(), factories, within)

    return bringup


def test_machines_are_made_once_and_asked_over_ssh(make: Make, lease: Lease, driver: FakeDriver) -> None:
    progress = Lines()
    cluster = make(progress=progress).cluster()
    assert [node.name for node in cluster.nodes] == ["controller", "node01", "node02"]
    assert lease.record.steps["machines"].facts == {
        "controller": "10.78.0.10",
        "node01": "10.78.0.11",
        "node02": "10.78.0.12",
    }
    assert lease.record.steps["ssh"].facts == {name: name for name in ("controller", "node01", "node02")}
    assert progress.lines == ["local: making 3 machines (fake)", "local: waiting for ssh"]
    make().cluster()
    make(lease=Lease.join("local", "run1")).cluster()
    assert driver.ups == 1


class ContactingDriver(FakeDriver):
    contacted = True


@pytest.mark.parametrize("contacted", [True, False])
def test_machines_that_have_just_answered_the_driver_are_asked_no_more_until_the_next_run(
    config: ClusterConfig, lease: Lease, contacted: bool
) -> None:
    lease.release()
    driver, progress = ContactingDriver(lease.state), Lines()
    driver.contacted = contacted
    first = Lease.acquire("local", "run1", claim(config, driver))
    Bringup(config, driver, first, progress).cluster()
    asked = [[call.argv for call in fake.calls] for fake in driver.made.values()]
    assert asked == [[] if contacted else [("uname", "-n")]] * 3
    assert first.record.steps["ssh"].facts["node01"] == ("contacted" if contacted else "node01")
    assert progress.lines[1:] == ([] if contacted else ["local: waiting for ssh"])
    first.release("always")
    second = Lease.acquire("local", "run2", claim(config, driver))
    Bringup(config, driver, second, progress).cluster()
    assert [[call.argv for call in fake.calls] for fake in driver.made.values()] == [[("uname", "-n")]] * 3
    assert (driver.ups, second.record.steps["ssh"].facts["node01"]) == (1, "node01")
    second.release()


def test_what_the_machines_made_is_journalled_for_their_step(make: Make, lease: Lease) -> None:
    make().cluster()
    assert [(entry.step, entry.kind) for entry in lease.journal.pending()] == [("machines", "directory")]


def test_a_refusal_comes_before_anything_is_made(make: Make, lease: Lease, driver: FakeDriver) -> None:
    driver.refusal = HostError("localhost", "bridge br0 is taken", cure="choose another")
    with pytest.raises(
        StepFailed, match="localhost: step 'machines' failed: bridge br0 is taken\n  do: choose another"
    ):
        make().cluster()
    assert driver.ups == 0
    assert lease.journal.pending() == []
    with pytest.raises(StepBlocked, match="blocked: step 'machines' failed: localhost: bridge br0 is taken"):
        make(FakeService("slurm", (), [()])).ready("slurm")


def test_a_node_that_answers_late_is_waited_for(make: Make, driver: FakeDriver) -> None:
    driver.answers["node02"] = [TransportError("node02", "connection refused"), "node02\n"]
    assert make().cluster()["node02"].name == "node02"


def test_a_node_that_never_answers_is_named_with_what_it_last_said(
    make: Make, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SSH_WITHIN", 0.1)
    driver.answers["node02"] = [TransportError("node02", "connection refused")]
    expected = "^node02: step 'ssh' failed: not answering over ssh within 0.1 s; last seen: connection refused"
    with pytest.raises(StepFailed, match=expected):
        make().cluster()


def test_slow_machines_are_given_more_time(make: Make, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "pace", 3.0, raising=False)
    with pytest.raises(StepFailed, match=r"no, still after 0\.3 s"):
        make(FakeService("s1", (), [("s: no",)]), within=0.1).ready("s1")


@pytest.mark.parametrize("said", ["running\n", TransportError("node02", "the connection broke")])
def test_slow_machines_boot_in_peace_before_services_are_asked(
    make: Make, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, said: str | Exception
) -> None:
    make().cluster().close()
    assert not any("--wait" in call.argv for each in driver.made.values() for call in each.calls)
    monkeypatch.setattr(driver, "pace", 3.0, raising=False)
    driver.booted = [said]
    driver.print = "print2"
    make().cluster()
    assert all(BOOTED.split() == list(each.calls[-1].argv) for each in driver.made.values())


def test_slow_machines_may_answer_late(make: Make, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "pace", 3.0, raising=False)
    monkeypatch.setattr(module, "SSH_WITHIN", 0.1)
    driver.answers["node02"] = [TransportError("node02", "connection refused")]
    with pytest.raises(StepFailed, match=r"not answering over ssh within 0\.3 s"):
        make().cluster()


@pytest.mark.parametrize("services", [0, 2], ids=["ssh", "two services"])
def test_an_interrupt_ends_all_waits_so_that_the_process_can_end(make: Make, driver: FakeDriver, services: int) -> None:
    if not services:
        driver.answers["node02"] = [TransportError("node02", "refused")]
    bringup = make(*(FakeService(f"s{number}", (), [("s: no",)]) for number in range(services)), within=30.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    interrupt = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            bringup.ready_all([f"s{number}" for number in range(services)])
    finally:
        interrupt.join()
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: not _waiting(), within=5.0, what="all threads ended")
    assert time.monotonic() - started < 10.0, "the waits went on"


def _waiting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("bring-up")]


def test_a_wrong_host_key_is_not_waited_for(make: Make, driver: FakeDriver) -> None:
    driver.answers["node01"] = [HostKeyError("node01", "another host key than the pinned one")]
    begun = time.monotonic()
    with pytest.raises(StepFailed, match="^node01: step 'ssh' failed: another host key"):
        make().cluster()
    assert time.monotonic() - begun < 5


def test_a_service_is_ready_when_it_has_no_faults_and_its_needs_come_first(make: Make, lease: Lease) -> None:
    munge = FakeService("munge", (), [("node01: munge is down",), ()])
    slurm = FakeService("slurm", ("munge",), [()])
    assert make(munge, slurm).ready("slurm") is slurm
    assert munge.asked == 2
    assert list(lease.record.steps) == ["machines", "ssh", "munge", "slurm"]


def test_faults_that_stay_are_the_cause(make: Make) -> None:
    slurm = FakeService("slurm", (), [("node02: slurmd is down", "node01: slurmd is down")])
    with pytest.raises(StepFailed) as caught:
        make(slurm, within=0.1).ready("slurm")
    assert str(caught.value) == (
        "node02: step 'slurm' failed: slurmd is down (and 1 more: node01: slurmd is down), still after 0.1 s\n"
        "  expected: slurm to be ready\n"
        "  do: look inside: pytest-ai-how ssh --cluster local node02"
    )
    with pytest.raises(StepBlocked, match="^blocked: step 'slurm' failed: node02: slurmd is down"):
        make(slurm).ready("slurm")


class Explaining(FakeService):
    def causes(self) -> tuple[Cause, ...]:
        return (Cause("controller: port 6817 is taken by nc (process 812), expected slurmctld.service", final=True),)


class Mute(FakeService):
    def causes(self) -> tuple[Cause, ...]:
        raise TransportError("controller", "refused")


def test_what_lies_behind_faults_that_stay_comes_first(make: Make) -> None:
    script: list[tuple[str, ...] | Exception] = [("controller: slurmctld does not answer",)]
    with pytest.raises(StepFailed) as caught:
        make(Explaining("slurm", (), script), within=0.1).ready("slurm")
    assert str(caught.value).splitlines()[0] == (
        "controller: step 'slurm' failed: port 6817 is taken by nc (process 812), expected slurmctld.service "
        "(and 1 more: controller: slurmctld does not answer), still after 0.1 s"
    )


def test_what_no_waiting_mends_is_not_waited_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HOPE", 0.05)
    begun = time.monotonic()
    with pytest.raises(StepFailed, match=r"process 812\), expected .* \(and 1 .*, which no waiting mends"):
        make(Explaining("slurm", (), [("controller: slurmctld does not answer",)]), within=60.0).ready("slurm")
    assert time.monotonic() - begun < 10


def test_what_failed_once_may_still_come(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd starts it again, or somebody does: one look is no proof."""
    monkeypatch.setattr(waiting, "HOPE", 0.05)
    slow = FakeService("slurm", (), [*[("controller: slurmctld does not answer",)] * 12, ()])
    seen = iter([(Cause("controller: unit slurmctld.service is failed (failed)", final=True),)])
    slow.causes = lambda: next(seen, ())  # type: ignore[attr-defined]
    assert make(slow, within=60.0).ready("slurm") is slow
    assert next(seen, None) is None, "it was never asked"


def test_what_can_not_be_explained_stays_as_it_is(make: Make) -> None:
    with pytest.raises(StepFailed, match="^node02: step 'slurm' failed: slurmd is down, still after"):
        make(Mute("slurm", (), [("node02: slurmd is down",)]), within=0.1).ready("slurm")


def test_a_machine_that_can_not_be_asked_yet_is_a_fault(make: Make) -> None:
    group = ExceptionGroup("x", [TransportError("node01", "refused")])
    slurm = FakeService("slurm", (), [TransportError("node02", "refused"), group, ()])
    make(slurm).ready("slurm")
    assert slurm.asked == 3


def test_a_mistake_in_a_service_is_not_waited_for(make: Make) -> None:
    slurm = FakeService("slurm", (), [KeyError("oops")])
    with pytest.raises(StepFailed, match="localhost: step 'slurm' failed: KeyError: 'oops'"):
        make(slurm).ready("slurm")
    assert slurm.asked == 1


def test_independent_services_are_waited_for_side_by_side(make: Make) -> None:
    meeting = threading.Barrier(2, timeout=5)

    class Meeting(FakeService):
        def faults(self) -> tuple[str, ...]:
            meeting.wait()  # breaks when the other one is not asked at the same time
            return ()

    ready = make(Meeting("munge", (), [()]), Meeting("storage", (), [()])).ready_all(["munge", "storage"])
    assert list(ready) == ["munge", "storage"]


def test_of_two_failures_side_by_side_both_are_told(make: Make) -> None:
    services = [FakeService(name, (), [(f"node01: {name} is down",)]) for name in ("munge", "storage")]
    with pytest.raises(StepFailed, match="munge is down") as caught:
        make(*services, within=0.1).ready_all(["munge", "storage"])
    assert caught.value.__notes__[0].startswith("also: node01: step 'storage' failed: storage is down")


def test_unknown_and_circular_services_are_refused(make: Make) -> None:
    with pytest.raises(AiHowError, match="no service is called 'slrum'\n  expected: one of accounting,"):
        make().ready("slrum")
    circle = [FakeService("munge", ("slurm",), [()]), FakeService("slurm", ("munge",), [()])]
    with pytest.raises(AiHowError, match="services need each other: slurm -> munge -> slurm"):
        make(*circle).ready("slurm")


def test_changed_machines_are_made_anew_and_all_that_stands_on_them(make: Make, driver: FakeDriver) -> None:
    slurm = FakeService("slurm", (), [()])
    bringup = make(slurm)
    bringup.ready("slurm")
    before = driver.transports
    bringup.ready("slurm")
    assert (slurm.asked, driver.transports) == (1, before)
    driver.print = "print2"
    bringup.ready("slurm")
    assert (driver.ups, slurm.asked) == (2, 2)
    assert driver.transports > before  # new machines have new host keys


def test_a_kept_cluster_is_asked_again_by_each_run(
    make: Make, config: ClusterConfig, lease: Lease, driver: FakeDriver
) -> None:
    lease.release()
    first = Lease.acquire("local", "run1", claim(config, driver))
    slurm = FakeService("slurm", (), [()])
    make(slurm, lease=first).ready("slurm")
    first.release("always")
    second = Lease.acquire("local", "run2", claim(config, driver))
    assert second.attached
    make(slurm, lease=second).ready("slurm")
    assert (driver.ups, slurm.asked) == (1, 2)
    second.release()


def test_a_claim_holds_the_configuration(config: ClusterConfig, driver: FakeDriver) -> None:
    found = claim(config, driver)
    assert (found.driver, found.fingerprint) == ("fake", "print1")
    assert ClusterConfig.model_validate(dict(found.config), strict=False) == config


class Deploying(FakeDriver):
    """Puts images onto storage that runs."""

    def deploy(self, config: ClusterConfig, controller: Node) -> None:
        self.deployed = controller.name


def test_what_a_driver_deploys_is_there_before_the_service_that_serves_it_is_asked(
    make: Make, lease: Lease, config: ClusterConfig
) -> None:
    class Shelf(FakeService):
        deployed = True

        def faults(self) -> tuple[str, ...]:
            assert driver.deployed == "controller"
            return super().faults()

    driver = Deploying(lease.state)
    factories = {
        name: giving(one)
        for name, one in {"plain": FakeService("plain", (), [()]), "shelf": Shelf("shelf", (), [()])}.items()
    }
    bringup = Bringup(config, driver, lease, Lines(), factories)
    bringup.ready("plain")
    assert not hasattr(driver, "deployed")
    bringup.ready("shelf")
    assert driver.deployed == "controller"
