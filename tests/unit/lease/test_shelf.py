"""What was read of machines, shared by processes: read once, forgotten by all, seen by nobody else."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.facts import Fact, Readings
from pytest_ai_how.lease.shelf import DiskShelf
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import LocalTransport

KERNEL = Fact("the kernel", ("uname", "-s"), str)
ODD = Fact("what is odd", ("printf", r"\303\244\377\nline"), str)
FAILS = Fact("what fails", ("sh", "-c", "echo why >&2; exit 3"), str)


class Counting(LocalTransport):
    """This host; each round trip is a line of a file, whichever process it is of."""

    log = Path()

    def execute(self, argv, *, timeout, input="", user=None):  # type: ignore[no-untyped-def]
        with self.log.open("a") as file:
            file.write(f"{self.node}\n")
        return super().execute(argv, timeout=timeout, input=input, user=user)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Counting, "log", tmp_path / "log")
    return tmp_path / "log"


def worker(state: Path) -> Readings:
    """What one process of a run has."""
    nodes = [Node(one, Counting(one.name)) for one in load_config("local").nodes]
    return Readings(nodes, [KERNEL, ODD, FAILS], DiskShelf(state))


def test_several_who_ask_at_once_ask_the_machines_once(tmp_path: Path, log: Path) -> None:
    workers = [worker(tmp_path) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda one: one.results(KERNEL), workers))
    assert sorted(log.read_text().split()) == ["controller", "node01", "node02"]
    assert all({name: one.stdout for name, one in each.items()} == dict.fromkeys(told[0], "Linux") for each in told)


def test_a_result_is_the_same_on_both_sides(tmp_path: Path, log: Path) -> None:
    first, second = worker(tmp_path), worker(tmp_path)
    for fact in (KERNEL, ODD, FAILS):
        assert first.results(fact) == second.results(fact)
    found = second.results(FAILS)["node02"]
    assert (found.argv, found.returncode, found.stderr, found.node) == (FAILS.argv, 3, "why\n", "node02")
    assert ODD.of(second.results(ODD)["node01"]) == "ä\ufffd\nline"
    assert isinstance(found, Result)


def test_what_one_forgets_all_forget(tmp_path: Path, log: Path) -> None:
    first, second = worker(tmp_path), worker(tmp_path)
    first.results(KERNEL)
    second.results(KERNEL)
    first.forget()
    second.results(KERNEL, ["node01"])
    assert log.read_text().split().count("node01") == 2
    first.results(KERNEL, ["node01"])
    assert log.read_text().split().count("node01") == 2
    assert log.read_text().split().count("node02") == 1


def test_it_is_for_its_owner_alone_and_can_be_cleared(tmp_path: Path, log: Path) -> None:
    worker(tmp_path).results(KERNEL)
    file = tmp_path / "facts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "facts.lock").stat().st_mode) == 0o600
    DiskShelf(tmp_path).clear()
    DiskShelf(tmp_path).clear()
    assert not file.exists()
    worker(tmp_path).results(KERNEL)
    assert log.read_text().split().count("node01") == 2
