"""What PyTorch programs of several processes must come to, by hand, and how fast a collective was."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import JobOptions, Slurm

from ._ranks import Place, Ran, expect, launch, placed
from ._topology import pair

#: MiB for each process: PyTorch and the buffers of a reduction, and what CUDA's libraries take on top.
MEMORY, MEMORY_CUDA = 640, 6144
#: What programs are placed with: what they have in common, and how all of ours meet.
COMMON = ("../../mlops/payloads/meeting.py", "distributed/processes.py")
#: The share of a wait by which clocks and the moment of measuring may differ.
PUNCTUAL = 0.9
MIB = 2**20


def run_in_container(
    slurm: Slurm, evidence: Evidence, run_id: str, image: str, program: str, *args: str, at: Place,
    gpus: JobOptions | None = None,
) -> Ran:  # fmt: skip
    """Run a program of ``payloads/distributed`` as the tasks of one job step, each in a container of ``image``.

    ``gpus`` is what the job asks for besides, for a GPU each. The step's own ports serve the rendezvous.
    """
    mem = at.per_node * (MEMORY_CUDA if gpus else MEMORY)
    if not gpus:
        # Two processes of one node share the pages of PyTorch: a small node has room for them, not for twice as much.
        known = slurm.nodes()
        mem = min([mem, *(known[name].for_jobs for name in at.names if name in known)])
    wanted = (gpus or JobOptions()) | JobOptions(mpi="none", resv_ports=2, mem=mem)
    with placed(slurm, run_id, *COMMON, f"distributed/{program}.py") as folder:
        flags = ("nv",) if gpus else ()
        argv = command("exec", image, "python3", f"{folder}/{program}.py", *args, binds=[folder], flags=flags)
        return launch(slurm, evidence, program, at, argv, image, **wanted)


def on_two_gpus(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> Callable[..., Ran]:
    """The same for two GPUs, where one job can hold them best: a call takes the program and its arguments."""

    def in_containers(program: str, *args: str) -> Ran:
        best, image = pair(slurm, evidence), registry.path("pytorch")
        at = Place(best.nodes, best.per_node)
        return run_in_container(slurm, evidence, run_id, image, program, *args, at=at, gpus=best.options)

    return in_containers


def by_backend(ran: Ran, backend: str) -> None:
    """Hold all processes to a backend; two processes must not share a GPU."""
    for told in ran.told:
        expect(ran, told, "backend", backend)
    gpus = [told["gpu"] for told in ran.told if told["gpu"]]
    first = ran.told[0]["node"]
    assert len(set(gpus)) == len(gpus), f"{first}: processes of {ran.name} share a GPU: {', '.join(gpus)}"


def exact(ran: Ran, *keys: str) -> None:
    """Hold what each process got of each collective (default: all) to what it must be."""
    size = len(ran.told)
    total = size * (size + 1) // 2
    expected: dict[str, Any] = {
        "all_reduce": [total, 10 * total],
        "single": [total - size / 2],
        "broadcast": [100 + size - 1],
        "all_gather": [[rank, rank**3] for rank in range(size)],
    }
    for told in ran.told:
        for key in keys or tuple(expected):
            expect(ran, told, key, expected[key])


def punctual(ran: Ran) -> None:
    """Nobody leaves a barrier before the last has come."""
    for told in ran.told:
        assert told["waited"] >= PUNCTUAL * told["late"], (
            f"{told['node']}: rank {told['rank']} left a barrier after {told['waited']:.3f} s, "
            f"{told['late'] - told['waited']:.3f} s before rank 0 came; expected that it waits"
        )


def bus_bandwidth(size: int, seconds: Sequence[float], world: int) -> float:
    """MiB/s that each process's connection moved while ``size`` bytes were reduced: the median of all times.

    A ring moves 2 (n - 1) / n of the data through each connection (nccl-tests, PERFORMANCE.md: busbw of AllReduce).

    >>> bus_bandwidth(64 * 2**20, [0.5, 0.25, 9.0], 2)
    128.0
    """
    return 2 * (world - 1) / world * size / statistics.median(seconds) / MIB


def slowest(ran: Ran) -> tuple[str, float]:
    """The node whose process saw the lowest bandwidth, and that; nothing wrong may have been reduced."""
    found = {}
    for told in ran.told:
        expect(ran, told, "wrong", 0)
        where = f"{told['node']}: rank {told['rank']} of {ran.name}"
        assert told["seconds"], f"{where} measured nothing"
        found[told["node"]] = bus_bandwidth(told["bytes"], told["seconds"], len(ran.told))
    return min(found.items(), key=lambda item: item[1])


def same_parameters(ran: Ran) -> None:
    """After the first broadcast and after each epoch, all processes have the same parameters bit by bit.

    They began with others, or nothing would be proven, and every epoch changes them.
    """
    first = ran.told[0]
    begun = [told["initial"] for told in ran.told]
    assert len(set(begun)) == len(begun), f"{first['node']}: processes of {ran.name} began with the same parameters"
    for told in ran.told:
        where = f"{told['node']}: rank {told['rank']} of {ran.name}"
        steps = [("once they are shared", told["shared"], first["shared"])]
        epochs = zip(told["parameters"], first["parameters"], strict=True)
        steps += [(f"after epoch {epoch}", mine, its) for epoch, (mine, its) in enumerate(epochs, 1)]
        for when, mine, its in steps:
            assert mine == its, (
                f"{where} has the parameters {mine[:12]}… {when}, rank 0 on {first['node']} has {its[:12]}…; expected "
                "the same on all"
            )
    kinds = {first["shared"], *first["parameters"]}
    assert len(kinds) == 1 + len(first["parameters"]) > 1, f"{first['node']}: {ran.name} trained nothing"


def whole_epochs(ran: Ran) -> None:
    """In each epoch the processes see each sample once between them, and in another order than in the one before."""
    first = ran.told[0]
    for epoch, parts in enumerate(zip(*(told["samples"] for told in ran.told), strict=True), 1):
        seen = [sample for part in parts for sample in part]
        twice = sorted({sample for sample in seen if seen.count(sample) > 1})
        missing = sorted(set(range(first["total"])) - set(seen))
        for told, part in zip(ran.told, parts, strict=True):
            where = f"{told['node']}: rank {told['rank']} of {ran.name}"
            assert part, f"{where} saw no sample in epoch {epoch}"
            mine = [sample for sample in twice if sample in part]
            assert not mine, f"{where} saw sample {mine[0]} in epoch {epoch}, as another did ({len(twice)} twice)"
        assert not missing, (
            f"{first['node']}: no rank of {ran.name} saw sample {missing[0]} in epoch {epoch} ({len(missing)} of "
            f"{first['total']} missing)"
        )
    orders = {tuple(samples) for samples in first["samples"]}
    assert len(orders) == len(first["samples"]), (
        f"{first['node']}: {ran.name} sees samples in the same order each epoch"
    )
