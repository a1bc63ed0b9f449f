"""The MPI programs of phase 5 come to what the checks expect, over ranks that are threads of this process."""

from __future__ import annotations

import functools
import json
import math
import operator
import runpy
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from suites.phase5 import _mpi as right
from suites.phase5._ranks import Ran

PROGRAMS = Path(right.__file__).parent / "payloads"
MPI = SimpleNamespace(SUM=operator.add, PROD=operator.mul, DOUBLE="d")


class World:
    """What the ranks of one program share."""

    def __init__(self, size: int) -> None:
        self.size, self.slots = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=10)
        self.mail: dict[tuple[int, int, int], Queue[Any]] = defaultdict(Queue)


class Comm:
    """One rank's communicator, as mpi4py 4 has it: what the programs use of it, all by way of ``allgather``."""

    def __init__(self, world: World, rank: int) -> None:
        self.world, self.rank = world, rank
        self.Get_rank, self.Get_size, self.Barrier = lambda: rank, lambda: world.size, world.barrier.wait

    def allgather(self, own: Any) -> list[Any]:
        self.world.slots[self.rank] = own
        self.world.barrier.wait()
        found = list(self.world.slots)
        self.world.barrier.wait()
        return found

    def gather(self, own: Any, root: int) -> list[Any] | None:
        found = self.allgather(own)
        return found if self.rank == root else None

    def bcast(self, own: Any, root: int) -> Any:
        return self.allgather(own)[root]

    def scatter(self, own: Any, root: int) -> Any:
        return self.allgather(own)[root][self.rank]

    def alltoall(self, own: list[Any]) -> list[Any]:
        return [row[self.rank] for row in self.allgather(own)]

    def allreduce(self, own: Any, op: Callable[[Any, Any], Any]) -> Any:
        return functools.reduce(op, self.allgather(own))

    def reduce(self, own: Any, op: Callable[[Any, Any], Any], root: int) -> Any:
        found = self.allreduce(own, op)
        return found if self.rank == root else None

    def scan(self, own: Any, op: Callable[[Any, Any], Any]) -> Any:
        return functools.reduce(op, self.allgather(own)[: self.rank + 1])

    def sendrecv(self, own: Any, dest: int, source: int) -> Any:
        to, sent = self.allgather((dest, own))[source]
        assert to == self.rank
        return sent

    def Isend(self, buffer: list[Any], dest: int, tag: int) -> Any:
        self.world.mail[self.rank, dest, tag].put(buffer[0][:])
        return SimpleNamespace(Wait=lambda: None)

    def Recv(self, buffer: list[Any], source: int, tag: int) -> None:
        buffer[0][:] = self.world.mail[source, self.rank, tag].get(timeout=10)


@pytest.fixture(autouse=True)
def _mpi4py(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=MPI))  # type: ignore[arg-type]
    monkeypatch.syspath_prepend(str(PROGRAMS / "mpi"))
    yield
    sys.modules.pop("ranks", None)


def run(program: str, function: str, size: int, *args: Any) -> Ran:
    """What the ranks of a program find, and how they tell it."""
    module, world = runpy.run_path(str(PROGRAMS / "mpi" / program)), World(size)
    comms = [Comm(world, rank) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(lambda comm: module[function](comm, *args), comms))
        list(pool.map(module["tell"], comms, found))
    return Ran(program, tuple(found), 0.0)


def told(capsys: pytest.CaptureFixture[str], program: str, function: str, size: int, *args: Any) -> Ran:
    """What rank 0 prints."""
    run(program, function, size, *args)
    (line,) = capsys.readouterr().out.splitlines()
    return Ran(program, tuple(json.loads(line)), 0.0)


def test_hello(capsys: pytest.CaptureFixture[str]) -> None:
    ran = told(capsys, "hello.py", "hello", 3)
    assert [one["heard"].split(" on ")[0] for one in ran.told] == ["rank 2 of 3", "rank 0 of 3", "rank 1 of 3"]
    assert [(one["rank"], one["size"], one["pmix"]) for one in ran.told] == [(0, 3, ""), (1, 3, ""), (2, 3, "")]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_pi(capsys: pytest.CaptureFixture[str], size: int) -> None:
    ran = told(capsys, "pi.py", "pi", size, 1000)
    right.right_shares(ran, 1000)
    assert math.isclose(ran.told[-1]["pi"], math.pi, abs_tol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_matrix_product(capsys: pytest.CaptureFixture[str], tmp_path: Path, size: int) -> None:
    left, other = right.matrices(7)
    (tmp_path / "m.json").write_text(json.dumps({"left": left, "right": other}))
    right.right_rows(told(capsys, "matmul.py", "matmul", size, tmp_path / "m.json"), left, other)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_collectives(size: int) -> None:
    found = run("collectives.py", "collectives", size).told
    points = run("collectives.py", "point_to_point", size).told
    assert [one | two for one, two in zip(points, found, strict=True)] == [
        right.collected(rank, size) for rank in range(size)
    ]


def test_exchange_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(run, "exchange.py", "exchange", 2, tmp_path)
        while len(list(tmp_path.glob("rank-*.json"))) < 2 and not going.done():
            pass
        (tmp_path / "stop").touch()
        assert all(one["whole"] > 0 for one in going.result(timeout=10).told)
    assert {json.loads((tmp_path / f"rank-{n}.json").read_text())["rank"] for n in range(2)} == {0, 1}


@pytest.mark.parametrize(
    ("slurm", "address", "port"),
    [
        ({"SLURM_STEP_NODELIST": "node[01-02]", "SLURM_STEP_RESV_PORTS": "12056-12057"}, "node01", "12056"),
        ({"SLURM_STEP_NODELIST": "node07,node09", "SLURM_STEP_RESV_PORTS": "12001"}, "node07", "12001"),
        ({"SLURM_STEP_NODELIST": "gpu-a", "SLURM_STEP_RESV_PORTS": "12000-12001"}, "gpu-a", "12000"),
        ({"SLURM_STEP_NODELIST": "gpu-a"}, "gpu-a", "29500"),
    ],
)
def test_processes_find_each_other_by_what_slurm_says(
    monkeypatch: pytest.MonkeyPatch, slurm: dict[str, str], address: str, port: str
) -> None:
    for name in ("torch", "meeting"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    from_slurm = runpy.run_path(str(PROGRAMS / "distributed/processes.py"))["from_slurm"]
    step = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}
    told = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    assert from_slurm(step | slurm) == told | {"MASTER_ADDR": address, "MASTER_PORT": port}
    assert from_slurm({})["WORLD_SIZE"] == "1"
