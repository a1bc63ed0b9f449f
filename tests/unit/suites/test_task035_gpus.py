"""The checks of devices that machines hold go red on claims that do not follow their machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig, Gpus, NodeConfig, PciDevice
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.lease import JOURNAL
from pytest_ai_how.lease.state import cluster_state, private_folder
from pytest_ai_how.machines import Machines
from pytest_ai_how.pci import Refusal, claim, release
from pytest_ai_how.report.evidence import Evidence
from suites.phase4 import test_task035_gpus as task035
from tests.fakes import Switchboard, fake_cluster

GPU = PciDevice(address="0000:01:00.0", vendor="10de", device="2805")
AUDIO = PciDevice(address="0000:01:00.1", vendor="10de", device="22bd", kind="audio")


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def config() -> ClusterConfig:
    local = load_config("local")
    given = {"gpus": Gpus(kind="passthrough", count=1, devices=(GPU, AUDIO))}
    nodes = (local.nodes[0], local.nodes[1].model_copy(update=given), local.nodes[2])
    return local.model_copy(update={"driver": "libvirt", "nodes": nodes})


class Claiming(Switchboard):
    """A driver that claims and gives up devices as machines are switched, but for what it forgets."""

    def __init__(self, forgets: Sequence[str] = ()) -> None:
        super().__init__({"node01": "running"})
        self.forgets = forgets
        self.journal = Journal(private_folder(cluster_state("local")) / JOURNAL)
        claim(config(), config().nodes[1], self.journal)

    def start(self, config: ClusterConfig, node: str) -> None:
        super().start(config, node)
        self._unless("start", claim, config)

    def stop(self, config: ClusterConfig, node: str, *, force: bool = False, within: float = 60.0) -> None:
        super().stop(config, node, force=force, within=within)
        self._unless("stop", release, config)

    def _unless(
        self, verb: str, deed: Callable[[ClusterConfig, NodeConfig, Journal], object], now: ClusterConfig
    ) -> None:
        if verb not in self.forgets:
            deed(now, now.nodes[1], self.journal)


def machines(driver: Switchboard, changed: ClusterConfig | None = None) -> Machines:
    return Machines(driver, fake_cluster({"*": {"uname": "it\n"}}, config=changed or config()))


@pytest.mark.seen_to_fail("PRV-18")
@pytest.mark.parametrize(
    ("forgets", "message"),
    [
        (["stop"], "node01: holds 0000:01:00.0 0000:01:00.1 although it is off, expected none"),
        (["start"], "node01: started again, it holds nothing, expected 0000:01:00.0 0000:01:00.1; node01: restarted"),
    ],
)
def test_a_claim_that_does_not_follow_its_machine_is_red(evidence: Evidence, forgets: list[str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        task035.test_claim_follows_the_machine(machines(Claiming(forgets)), evidence)


def test_a_claim_that_follows_its_machine_is_well(evidence: Evidence) -> None:
    task035.test_claim_follows_the_machine(machines(Claiming()), evidence)
    [shown] = evidence.items
    assert "stopped: none" in shown.content


@pytest.mark.seen_to_fail("PRV-18", "PRV-19")
def test_a_cluster_without_such_a_machine_proves_nothing(no_evidence: Evidence, tmp_path: Path) -> None:
    bare = machines(Switchboard({}), load_config("local"))
    with pytest.raises(AssertionError, match="no machine that starts by itself is given a device"):
        task035.test_claim_follows_the_machine(bare, no_evidence)
    with pytest.raises(AssertionError, match="no machine that starts by itself is given a device"):
        task035.test_second_owner_refused(bare, no_evidence, tmp_path)


OWNED = Refusal(
    "rival-local", "node01", "0000:01:00.0 is in use by machine node01 of cluster 'local'", "free", "stop it"
)


@pytest.mark.seen_to_fail("PRV-19")
@pytest.mark.parametrize(
    ("refusals", "message"),
    [
        ((), "node01: a second cluster with 0000:01:00.0 0000:01:00.1 is not refused, expected a refusal"),
        ((Refusal("rival", "nodeXX", "no room", "room", "wait"),), "the refusal does not name it and its cluster"),
    ],
)
def test_a_second_owner_that_is_planned_is_red(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: tuple[Refusal, ...], message: str
) -> None:
    monkeypatch.setattr(task035, "refusals", lambda rival: (OWNED,))
    found = machines(Claiming())
    task035.test_second_owner_refused(found, evidence, tmp_path)
    monkeypatch.setattr(task035, "refusals", lambda rival: refusals)
    with pytest.raises(AssertionError, match=message):
        task035.test_second_owner_refused(found, evidence, tmp_path)


@pytest.mark.seen_to_fail("PRV-19")
def test_a_second_owner_that_gets_it_is_red(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task035, "refusals", lambda rival: (OWNED,))
    driver = Claiming()
    release(config(), config().nodes[1], driver.journal)
    with pytest.raises(AssertionError, match=r"a second claim on 0000:01:00\.0 0000:01:00\.1 was granted"):
        task035.test_second_owner_refused(machines(driver), evidence, tmp_path)
