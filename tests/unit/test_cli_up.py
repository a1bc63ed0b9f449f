"""``pytest-ai-how up``: what it does with what it finds, and what it leaves when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_ai_how.cli import life
from pytest_ai_how.cli.parser import main
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig, Containers
from pytest_ai_how.config.storage import Storage
from pytest_ai_how.drivers.machines.boot import boot_failed
from pytest_ai_how.drivers.protocol import State
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.record import Claim
from pytest_ai_how.lease.state import cluster_state
from pytest_ai_how.progress import Silent
from tests.unit.bringup_fakes import FakeDriver, Lines


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "state" / "pytest-ai-how"


def test_a_failed_bring_up_is_taken_down(home: Path) -> None:
    driver = FakeDriver(home / "local")
    driver.answers["node01"] = [ValueError("broken")]
    with pytest.raises(AiHowError, match="step 'ssh' failed"):
        life.bring_up(load_config("local"), driver, Silent())
    assert driver.ups == 1
    assert list(home.iterdir()) == []


class Talking(FakeDriver):
    """Its machines have consoles, in the cluster's folder; node01 does not boot while it is ``broken``."""

    broken = True

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        super().up(config, journal)
        for name, path in self._paths().items():
            path.write_text(f"{name}: Welcome to Debian\nkey open-sesame-1234\n")
        if self.broken:
            raise boot_failed(config.nodes[1], self._paths()["node01"], "it ended")

    def consoles(self, config: ClusterConfig) -> Mapping[str, Path]:
        return {name: path for name, path in self._paths().items() if path.exists()}

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        return (b"open-sesame-1234",)

    def state(self, config: ClusterConfig, node: str) -> State:
        return "running"

    def stop(self, config: ClusterConfig, node: str, *, force: bool = False, within: float = 60.0) -> None:
        raise NotImplementedError

    def start(self, config: ClusterConfig, node: str) -> None:
        raise NotImplementedError

    def _paths(self) -> dict[str, Path]:
        return {name: cluster_state("local") / "machines" / name for name in ("controller", "node01")}


def bare() -> ClusterConfig:
    """Without any service."""
    config = load_config("local").model_copy(update={"slurm": None, "storage": Storage(kind="none")})
    return config.model_copy(update={"containers": Containers(runtime="none")})


def test_the_consoles_of_a_failed_bring_up_outlive_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver = Talking(home / "local")
    kept = home / ".failed" / "local" / "node01.log"

    def fails() -> None:
        with pytest.raises(AiHowError, match="it ended") as caught:
            life.bring_up(bare(), driver, Silent())
        assert caught.value.cure == f"read {kept}"
        assert not (home / "local").exists()
        assert kept.read_text() == "node01: Welcome to Debian\nkey [redacted]\n"
        assert sorted(path.name for path in kept.parent.iterdir()) == ["controller.log", "node01.log"]
        assert kept.parent.stat().st_mode & 0o777 == 0o700

    fails()
    assert main(["reap", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{kept.parent}: would be removed\n"
    fails()
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == f"{kept.parent}: removed\n"
    assert list(home.iterdir()) == []
    fails()
    assert main(["down"]) == 0
    assert list(home.iterdir()) == []
    fails()
    driver.broken = False
    assert life.bring_up(bare(), driver, Silent()) is False
    assert [path.name for path in home.iterdir()] == ["local"]


def test_consoles_that_can_not_be_kept_are_told_and_all_is_taken_down(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(life, "keep", full)
    driver = Talking(home / "local")
    with pytest.raises(AiHowError, match="it ended") as caught:
        life.bring_up(bare(), driver, Silent())
    assert caught.value.__notes__ == ["the consoles are not kept: [Errno 28] No space left on device"]
    assert not (home / "local").exists()


def test_a_cluster_with_a_fault_in_it_is_made_anew(home: Path) -> None:
    driver, told = FakeDriver(home / "local"), Lines()
    assert life.bring_up(bare(), driver, told) is False
    lease = Lease.acquire("local", "run2", Claim("fake", driver.print))
    lease.breaks("test_break")
    lease.close()
    assert life.bring_up(bare(), driver, told) is False
    said = "local: run run2 ended while test_break had put a fault into it: it was taken down, and is made anew"
    assert said in told.lines
    assert driver.ups == 2
