"""The small cluster of phase 4: which it is, what it consists of, and what stands beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError, LeaseError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import process
from suites.phase4 import _small, _witness
from suites.phase4._facts import Facts
from suites.phase4.runs.fails_at_node01 import Failing
from tests.fakes import Switchboard

from .task035_fakes import small

RUN = "20261123-160000-a1b2"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Nspawn(Switchboard):
    name = "nspawn"


def test_it_is_another_cluster_beside_the_run_s_own(tmp_path: Path) -> None:
    own = load_config("local")
    config = _small.small_config(own, Nspawn({}), RUN)
    assert config.name == "life-a1b2"
    assert config.network is not None
    assert own.network is not None
    assert not config.network.subnet.overlaps(own.network.subnet)
    assert config.network.bridge != own.network.bridge
    assert [(node.name, node.auto_start) for node in config.nodes] == [(_small.ON, True), (_small.OFF, False)]
    assert [node.auto_start for node in _small.both_on(config).nodes] == [True, True]
    made = _small.prepared(config, Nspawn({}), tmp_path / "it", RUN, "fails_at_node01.py")
    assert load_config(str(made.file)) == config
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "cluster.yaml",
        "cluster_runs.py",
        "conftest.py",
        "pytest.ini",
    ]


def test_small_clusters_of_one_run_have_subnets_of_their_own() -> None:
    """Two workers look for a free subnet before either has taken one."""
    configs = [_small.small_config(load_config("local"), Nspawn({}), RUN, purpose) for purpose in _small.FIRST_SUBNET]
    networks = [config.network for config in configs if config.network]
    assert len({network.subnet for network in networks}) == len({network.bridge for network in networks}) == 2
    assert not networks[0].subnet.overlaps(networks[1].subnet)


def test_what_it_runs_can_be_collected(tmp_path: Path) -> None:
    made = _small.prepared(_small.small_config(load_config("local"), Nspawn({}), RUN), Nspawn({}), tmp_path / "it", RUN)
    result = made.pytest("--collect-only", "-q")
    assert result.ok, result.describe()
    assert [line.partition("::")[2] for line in result.stdout.splitlines() if "::" in line] == [
        *(f"test_together[{number}]" for number in range(3)),
        "test_endless",
        "test_short",
    ]


def test_notes_are_forgotten_and_files_are_not(tmp_path: Path) -> None:
    made = small(tmp_path)
    made.file.touch()
    (tmp_path / "worker0").write_text("7 8 9")
    assert made.note("worker0") == ["7", "8", "9"]
    made.forget()
    assert made.note("worker0") == []
    assert made.file.exists()


def test_a_driver_that_switches_nothing_is_told(tmp_path: Path) -> None:
    class Bare:
        name = "bare"

    made = _small.Small(load_config("local"), Bare(), tmp_path, RUN)  # type: ignore[arg-type]  # what it lacks is the point
    with pytest.raises(AiHowError, match="^driver bare: has no means to switch machines off and on"):
        made.facts()


def test_a_run_that_ends_before_it_is_killed_is_told_with_its_output(tmp_path: Path) -> None:
    made = small(tmp_path)
    (tmp_path / "killed.log").write_text("no such image")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as ended:
        ended.wait()
        with pytest.raises(AiHowError, match="the run ended with 3 before it was killed:\nno such image"):
            _small.await_note(made, "endless", ended)


def test_a_killed_run_takes_what_it_started_with_it(tmp_path: Path) -> None:
    started = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert started.stdout is not None
    child = int(started.stdout.readline())
    started.stdout.close()
    _small.kill_with_workers(started)  # type: ignore[arg-type]  # text or not
    wait_for(lambda: process(child) is None, within=5, what="the child gone")


def test_the_journal_has_no_room_for_one_machine(tmp_path: Path) -> None:
    journal = Failing(tmp_path / "journal").of("machines")
    journal.intend("process", cookie="pytest-ai-how:lab/controller")
    journal.intend("mount", target="/state/node01/root")
    with pytest.raises(LeaseError, match="^node01: made to fail on purpose"):
        journal.intend("process", cookie="pytest-ai-how:lab/node01")
    kept = Journal(tmp_path / "journal").pending()
    assert [(entry.kind, entry.step) for entry in kept] == [("process", "machines"), ("mount", "machines")]


def test_what_is_not_ours_is_seen_to_be_touched(tmp_path: Path) -> None:
    with _witness._machine("labx") as machine, _witness._folder("labx") as folder:
        assert machine.now() == machine.before
        assert folder.now() == folder.before
        number = int(machine.before.split()[1])
        # For a moment after exec(2) the kernel shows none.
        environ = wait_for(Path(f"/proc/{number}/environ").read_bytes, within=5, what="started", every=0.01)
        assert b"pytest-ai-how:labx/node01" in environ
        os.kill(number, 9)
        os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
        [path] = (tmp_path / "state").rglob("journal.jsonl")
        path.unlink()
        assert machine.now() == "gone"
        assert folder.now() != folder.before
    assert not list((tmp_path / "state").rglob("labx"))


def test_facts_are_told_in_lines() -> None:
    facts = Facts({"controller": "running"}, frozenset({(7, 70, "sh")}), (("bridge", "name=b"),), {})
    assert str(facts).splitlines() == [
        "controller: running, boot none",
        "process 7 (sh), started 70",
        "journal: bridge name=b",
    ]
