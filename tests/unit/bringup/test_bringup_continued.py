"""Machines that were ready, stood still and continue: what is waited for then, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.bringup import Bringup, claim, services_of
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import StepFailed
from pytest_ai_how.lease.lease import Lease
from tests.unit.bringup_fakes import FakeDriver, FakeService, Lines, giving


@pytest.fixture
def config() -> ClusterConfig:
    return load_config("local").model_copy(update={"bringup": "restore"})


class WarmDriver(FakeDriver):
    """Keeps machines, and says so from then on."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.kept = 0

    def is_warm(self, config: ClusterConfig) -> bool:
        return self.kept > 0

    def keep_warm(self, config: ClusterConfig) -> None:
        self.kept += 1


class InstalledService(FakeService):
    installed = True


@pytest.mark.parametrize("continues", [False, True])
def test_what_is_only_installed_is_as_ready_as_it_was_until_the_next_run(
    config: ClusterConfig, lease: Lease, continues: bool
) -> None:
    lease.release()
    driver = WarmDriver(lease.state)
    driver.kept = int(continues)
    daemons = {name: FakeService(name, (), [()]) for name in services_of(config)}
    services = daemons | {"apptainer": InstalledService("apptainer", (), [()])}
    factories = {name: giving(one) for name, one in services.items()}
    first = Lease.acquire("local", "run1", claim(config, driver))
    Bringup(config, driver, first, Lines(), factories).ready_all(services)
    assert {name for name, one in services.items() if not one.asked} == ({"apptainer"} if continues else set())
    first.release("always")
    second = Lease.acquire("local", "run2", claim(config, driver))
    Bringup(config, driver, second, Lines(), factories).ready("apptainer")
    assert services["apptainer"].asked
    second.release()


@pytest.mark.parametrize("bringup", ["boot", "restore"])
def test_machines_are_kept_when_all_services_are_ready_and_were_not_before(
    config: ClusterConfig, lease: Lease, bringup: str
) -> None:
    driver, lines = WarmDriver(lease.state), Lines()
    wanted = config.model_copy(update={"bringup": bringup})
    services = {name: FakeService(name, (), [()]) for name in services_of(config)}

    def use(state: Lease) -> None:
        Bringup(wanted, driver, state, lines, {name: giving(one) for name, one in services.items()}).cluster()

    use(lease)
    assert driver.kept == (bringup == "restore")
    assert all(bool(service.asked) == (bringup == "restore") for service in services.values())
    use(Lease.join("local", "run1"))
    assert driver.kept == (bringup == "restore")
    assert lines.lines.count("local: keeping the machines for the next time") == driver.kept


def test_of_machines_that_continue_no_service_waits_for_another(config: ClusterConfig, lease: Lease) -> None:
    driver = WarmDriver(lease.state)
    driver.kept = 1
    services = {"munge": FakeService("munge", (), [()]), "slurm": FakeService("slurm", ("munge",), [()])}
    factories = {name: giving(one) for name, one in services.items()}
    continued = Bringup(config, driver, lease, Lines(), factories)
    assert [sorted(level) for level in continued._levels(["slurm"])] == [["machines"], ["ssh"], ["munge", "slurm"]]
    assert [len(level) for level in continued._levels(["warm"])] == [1, 1, len(services_of(config)), 1]
    booted = Bringup(config, WarmDriver(lease.state), lease, Lines(), factories)
    assert [sorted(level) for level in booted._levels(["slurm"])] == [["machines"], ["ssh"], ["munge"], ["slurm"]]


def test_machines_that_are_not_ready_are_not_kept(config: ClusterConfig, lease: Lease) -> None:
    driver = WarmDriver(lease.state)
    services = {name: FakeService(name, (), [()]) for name in services_of(config)}
    services["slurm"].script = [("node02: is down",)]
    factories = {name: giving(one) for name, one in services.items()}
    bringup = Bringup(config, driver, lease, Lines(), factories, 0.1)
    with pytest.raises(StepFailed, match="node02: step 'slurm' failed: is down"):
        bringup.cluster()
    assert driver.kept == 0
