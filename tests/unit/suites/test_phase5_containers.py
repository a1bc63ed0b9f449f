"""The checks of distributed programs in containers go red for the right reason, and green on what was captured.

No machine of ours has two GPUs that compute: what is said of NCCL is what gloo said, with its name and with GPUs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.launch.direct import DirectLauncher
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import InvalidMeasurement, LimitExceeded
from pytest_ai_how.services.storage.baseline import Baseline
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import LocalTransport
from suites.phase1._throughput import SPEEDS
from suites.phase5 import test_containers as containers
from suites.phase5 import test_two_gpus as gpus
from suites.phase5._collectives import on_two_gpus
from suites.phase5._ranks import Ran
from suites.phase5._torchrun import run_by_torchrun
from tests.fakes import fake_cluster
from tests.unit.suites.phase1_fakes import also
from tests.unit.suites.phase5_fakes import IMAGE, NO_MPI, Edit, Ranks, asked, captured, changed, edited, slurm
from tests.unit.suites.task042_fakes import Rules, new_measure

NO_TORCH = Result((), 1, "", "ModuleNotFoundError: No module named 'torch'\nsrun: error: node01: task 0: Exited\n")
STORE = Result(
    (), 1, "", "torch.distributed.DistNetworkError: The client socket has timed out after 120000ms while trying to "
    "connect to (node01, 12056).\nsrun: error: node02: task 1: Exited with exit code 1\n",
)  # fmt: skip


def all_of(*edits: Edit) -> Edit:
    def edit(told: Ranks) -> None:
        for one in edits:
            one(told)

    return edit


# CON-16


@pytest.mark.seen_to_fail("CON-16")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (edited("mpi", changed(3, object=["from", 1])), r"node02: rank 3 of collectives: object is \['from', 1\], exp"),
        (
            edited("mpi", changed(0, buffer=[1.5, 1.5, 0.0])),
            r"node01: rank 0 of collectives: buffer is \[1.5, 1.5, 0.0",
        ),
        (edited("mpi", changed(0, bcast=100)), "node01: rank 0 of collectives: bcast is 100, expected 103"),
        (edited("mpi", changed(2, scatter=1)), "node02: rank 2 of collectives: scatter is 1, expected 4"),
        (
            edited("mpi", changed(3, gather=[0, 10])),
            r"node02: rank 3 .*: gather is \[0, 10\], expected \[0, 10, 20, 30\]",
        ),
        (edited("mpi", changed(1, allgather=[0, 1, 8, 9])), r"node01: rank 1 of collectives: allgather is"),
        (edited("mpi", changed(1, alltoall=[0, 0, 0, 0])), r"node01: rank 1 of collectives: alltoall is"),
        (edited("mpi", changed(0, reduce=9)), "node01: rank 0 of collectives: reduce is 9, expected 10"),
        (edited("mpi", changed(2, allreduce=25)), "node02: rank 2 of collectives: allreduce is 25, expected 24"),
        (edited("mpi", changed(3, scan=9)), "node02: rank 3 of collectives: scan is 9, expected 10"),
        (edited("mpi", changed(3, container="")), "node02: rank 3 of collectives: container is '', expected '/mnt"),
        (NO_MPI, "node02: collectives as 2×2 ranks ended with 1: ModuleNotFoundError: No module named 'mpi4py'"),
    ],
)
def test_mpi_that_is_wrong_in_containers(answer: Any, message: str, evidence: Evidence) -> None:
    found, registry = slurm(edited("mpi"))
    containers.test_mpi(found, registry, evidence, "r1")
    (srun,) = asked(found, "srun")
    assert {"--mpi=pmix", "--ntasks-per-node=2", "apptainer", IMAGE} <= set(srun)
    with pytest.raises(AssertionError, match=rf"(?m)^at first: {message}"):
        containers.test_mpi(*slurm(answer), evidence, "r1")


# CON-17


def lone(told: Ranks) -> None:
    """Each process trained for itself."""
    told[1]["parameters"][2] = "0" * 64


def idle(told: Ranks) -> None:
    """No epoch changed anything."""
    for one in told:
        one["parameters"] = [one["shared"]] * 3


def overlap(told: Ranks) -> None:
    """A sample is seen twice, and another by nobody."""
    told[1]["samples"][1][0] = told[0]["samples"][1][0]


def unseen(told: Ranks) -> None:
    told[1]["samples"][0].pop()


def unshuffled(told: Ranks) -> None:
    for one in told:
        one["samples"] = [one["samples"][0]] * 3


@pytest.mark.seen_to_fail("CON-17")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (edited("training_over_gloo", lone), r"node02: rank 1 of ddp has the parameters 0{12}… after epoch 3, rank 0 "),
        (edited("training_over_gloo", changed(1, shared="1" * 64)), "node02: rank 1 of ddp has .* once they are share"),
        (edited("training_over_gloo", idle), "node01: ddp trained nothing"),
        (edited("training_over_gloo", changed(1, initial=captured("training_over_gloo")[0]["initial"])),
         "node01: processes of ddp began with the same parameters"),
        (edited("training_over_gloo", overlap), r"node01: rank 0 of ddp saw sample \d+ in epoch 2, as another did \(1"),
        (edited("training_over_gloo", unseen), r"node01: no rank of ddp saw sample \d+ in epoch 1 \(1 of 256 missing"),
        (edited("training_over_gloo", changed(1, samples=[[], [], []])), "node02: rank 1 of ddp saw no sample in epoc"),
        (edited("training_over_gloo", unshuffled), "node01: ddp sees samples in the same order each epoch"),
        (edited("training_over_gloo", changed(0, backend="mpi")), "node01: rank 0 of ddp: backend is 'mpi', expected "),
        (edited("training_over_gloo", changed(1, node="node01")), "node01: ddp ran on node01; expected 2 distinct nod"),
        (NO_TORCH, "node01: ddp as 2×1 ranks ended with 1: ModuleNotFoundError: No module named 'torch'"),
        (STORE, "node02: ddp as 2×1 ranks ended with 1: torch.distributed.DistNetworkError: The client socket has tim"),
    ],
)  # fmt: skip
def test_training_that_is_not_one(answer: Any, message: str, evidence: Evidence) -> None:
    found, registry = slurm(edited("training_over_gloo"))
    containers.test_training_over_gloo(found, registry, evidence, new_measure(), "r1")
    assert {"--mpi=none", "--resv-ports=2", "--nodes=2", "--ntasks=2"} <= set(asked(found, "srun")[0])
    with pytest.raises(AssertionError, match=rf"(?m)^at first: {message}"):
        containers.test_training_over_gloo(*slurm(answer), evidence, new_measure(), "r1")


@pytest.mark.seen_to_fail("CON-17")
def test_training_that_is_not_what_one_process_does(evidence: Evidence) -> None:
    answer = edited("training_over_gloo", changed(1, apart=0.01))
    with pytest.raises(LimitExceeded, match=r"^node02: training\.apart is 0\.01 fraction"):
        containers.test_training_over_gloo(*slurm(answer), evidence, new_measure(), "r1")


WRONG_COLLECTIVES = [
    (changed(1, all_reduce=[3, 31]), r"node02: rank 1 of collectives: all_reduce is \[3, 31\], expected \[3, 30\]"),
    (changed(0, single=[1.9, 2.0]), r"node01: rank 0 of collectives: single is \[1.9, 2.0\], expected \[2.0\]"),
    (changed(0, broadcast=[100]), r"node01: rank 0 of collectives: broadcast is \[100\], expected \[101\]"),
    (changed(1, all_gather=[[0, 0], [0, 0]]), "node02: rank 1 of collectives: all_gather is"),
    (changed(1, waited=0.1), r"node02: rank 1 left a barrier after 0\.100 s, 0\.400 s before rank 0 came"),
]


@pytest.mark.seen_to_fail("CON-17")
@pytest.mark.parametrize(("edit", "message"), WRONG_COLLECTIVES)
def test_collectives_that_are_wrong(edit: Edit, message: str, evidence: Evidence) -> None:
    containers.test_collectives_over_gloo(*slurm(edited("collectives_over_gloo")), evidence, "r1")
    with pytest.raises(AssertionError, match=rf"(?m)^at first: {message}"):
        containers.test_collectives_over_gloo(*slurm(edited("collectives_over_gloo", edit)), evidence, "r1")


def carrying(there: float, back: float, alone: float = 1000.0) -> Rules:
    """Nodes between which TCP moves so much, from node01 to node02 and back, and to themselves."""

    def client(argv: tuple[str, ...]) -> str:
        to = {"127.0.0.1": alone, "10.78.0.12": there, "10.78.0.11": back}[argv[argv.index("--client") + 1]]
        return json.dumps({"start": {}, "end": {"sum_received": {"bits_per_second": to * 8 * 2**20}}})

    listens = 'tcp LISTEN 0 128 0.0.0.0:5201 0.0.0.0:* users:(("iperf3",pid=9,fd=3))\n'
    return [("systemd-run", ""), ("systemctl stop", ""), ("ss", listens), ("iperf3", client)]


def bandwidth(evidence: Evidence, path: Rules, *edits: Edit, card: str = "") -> dict[str, tuple[float, float | None]]:
    """The figures by metric and machine, with their ceilings; what the check raises, with them as its notes."""
    measure = new_measure()
    found, registry = slurm(edited("bandwidth_over_gloo", all_of(*edits)), compute=path)
    try:
        containers.test_bandwidth_over_gloo(found, registry, also(SPEEDS, other=card), evidence, measure, "r1")
    except AssertionError as error:
        error.add_note(" ".join(item.metric for item in measure.items))
        raise
    return {f"{item.metric} {item.node}": (round(item.value), item.ceiling) for item in measure.items}


CHAIN = ["network.path", "network.throughput", "network.path", "network.throughput", "collective.gloo.all_reduce"]


def test_a_collective_is_judged_by_its_path_and_the_path_by_what_it_could_carry(evidence: Evidence) -> None:
    assert bandwidth(evidence, carrying(800.0, 400.0)) == {
        "network.path node01 → node02": (1000, None),
        "network.throughput node01 → node02": (800, 1000),
        "network.path node02 → node01": (1000, None),
        "network.throughput node02 → node01": (400, 1000),
        # 32 MiB in the median of 0.112 s, on the node where it took longest.
        "collective.gloo.all_reduce node01": (277, 400),
    }
    gigabit = bandwidth(evidence, carrying(110.0, 112.0), *slow(0.4), card="eth0 1000\n")
    assert round(gigabit["network.throughput node01 → node02"][1] or 0) == 119
    assert gigabit["collective.gloo.all_reduce node01"] == (80, 110.0)


def slow(seconds: float) -> tuple[Edit, Edit]:
    """Each reduction takes so long, on both nodes."""
    return changed(0, seconds=[seconds] * 5), changed(1, seconds=[seconds] * 5)


@pytest.mark.seen_to_fail("CON-17")
def test_a_path_that_is_slow_is_told_from_a_slow_collective(evidence: Evidence) -> None:
    """A path that lost nine tenths slows the collective as well: seen beside each other both would look fine."""
    for reached in (0.5, 50.0):  # a fraction of what the path carries that is good, and one that is not
        with pytest.raises(LimitExceeded) as failed:
            bandwidth(evidence, carrying(40.0, 900.0), *slow(reached))
        said = str(failed.value)
        assert said.startswith("node01 → node02: network.throughput is 40 MiB/s, expected at least 50 MiB/s")
        assert f"the path is slow, not the collective over it, which reached {32 / reached:.0f} MiB/s; do: look" in said
        assert failed.value.__notes__ == [" ".join(CHAIN)], "all figures are recorded"
    with pytest.raises(LimitExceeded, match=r"^node02 → node01: network\.throughput is 40 MiB/s"):
        bandwidth(evidence, carrying(900.0, 40.0), *slow(0.5))
    with pytest.raises(
        LimitExceeded, match=r"^node01: collective\.gloo\.all_reduce is 64 MiB/s, expected at least 90 MiB/s"
    ) as failed:
        bandwidth(evidence, carrying(900.0, 950.0), *slow(0.5))
    assert "the path is slow" not in str(failed.value)


@pytest.mark.seen_to_fail("CON-17")
def test_a_reduction_that_can_not_be_true(evidence: Evidence) -> None:
    with pytest.raises(InvalidMeasurement, match=r"^node01: collective\.gloo\.all_reduce is 64000 MiB/s"):
        bandwidth(evidence, carrying(900.0, 900.0), *slow(0.0005))
    with pytest.raises(AssertionError, match="(?m)^at first: node02: rank 1 of bandwidth: wrong is 7, expected 0"):
        bandwidth(evidence, carrying(900.0, 900.0), changed(1, wrong=7))
    with pytest.raises(AssertionError, match="(?m)^at first: node02: rank 1 of bandwidth measured nothing"):
        bandwidth(evidence, carrying(900.0, 900.0), changed(1, seconds=[]))


# two GPUs


def on_gpus(name: str, *edits: Edit) -> str:
    """What gloo said, as NCCL would on two GPUs of node01."""
    card = {"node": "node01", "backend": "nccl", "device": "NVIDIA H100"}
    return edited(name, all_of(*(changed(n, **card, gpu=f"uuid-{n}") for n in (0, 1)), *edits))


@pytest.mark.seen_to_fail("CON-18")
def test_nccl_that_is_wrong_or_not_there(evidence: Evidence) -> None:
    found, registry = slurm(on_gpus("collectives_over_gloo"))
    containers.test_nccl(found, registry, evidence, "r1")
    assert {"--gres=gpu:2", "--nodes=1", "--ntasks-per-node=2", "--nv"} <= set(asked(found, "srun")[0])
    for answer, message in (
        (on_gpus("collectives_over_gloo", changed(1, backend="gloo")), "rank 1 of collectives: backend is 'gloo', exp"),
        (
            on_gpus("collectives_over_gloo", changed(1, gpu="uuid-0")),
            "processes of collectives share a GPU: uuid-0, uu",
        ),
        (
            on_gpus("collectives_over_gloo", changed(1, all_reduce=[1, 10])),
            r"rank 1 of collectives: all_reduce is \[1,",
        ),
        (NO_TORCH, "collectives as 1×2 ranks ended with 1: ModuleNotFoundError"),
    ):
        with pytest.raises(AssertionError, match=f"^node01: {message}"):
            containers.test_nccl(*slurm(answer), evidence, "r1")


@pytest.mark.seen_to_fail("TR2-02")
@pytest.mark.parametrize(("edit", "message"), WRONG_COLLECTIVES)
def test_collectives_over_nccl_that_are_wrong(edit: Edit, message: str, evidence: Evidence) -> None:
    gpus.test_collectives_over_nccl(on_two_gpus(*slurm(on_gpus("collectives_over_gloo")), evidence, "r1"))
    with pytest.raises(AssertionError, match=f"^{message.replace('node02', 'node01')}"):
        gpus.test_collectives_over_nccl(on_two_gpus(*slurm(on_gpus("collectives_over_gloo", edit)), evidence, "r1"))


@pytest.mark.seen_to_fail("TR2-02")
@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            "echo 'RuntimeError: NCCL error' >&2; exit 1",
            "ended as FAILED with 1: RuntimeError: NCCL error; expected",
        ),
        ("echo hello", r"printed 'hello\\n', expected JSON of all ranks once"),
        ("echo '[]'; echo '[]'", "expected JSON of all ranks once"),
    ],
)
def test_without_slurm_torchrun_starts_them(tmp_path: Path, says: str, message: str, evidence: Evidence) -> None:
    box = Node(fake_cluster({}).nodes[0].config, LocalTransport("box"))
    launcher = DirectLauncher(box, str(tmp_path / "jobs"))

    def two(program: str, *args: str) -> Ran:
        return run_by_torchrun(launcher, Runtime(str(tmp_path / "python")), evidence, "r1", program, *args)

    def python(text: str) -> None:
        (tmp_path / "python").write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\n{text}\n')
        (tmp_path / "python").chmod(0o755)

    (tmp_path / "told").write_text(on_gpus("collectives_over_gloo"))
    python(f"echo a library says something; cat {tmp_path}/told")
    gpus.test_collectives_over_nccl(two)
    assert {one["node"] for one in two("collectives").told} == {"controller"}
    assert "--standalone --local-addr=127.0.0.1" in (tmp_path / "asked").read_text()
    assert "--nproc-per-node=2" in (tmp_path / "asked").read_text()
    python(says)
    with pytest.raises(AssertionError, match=message):
        gpus.test_collectives_over_nccl(two)
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.seen_to_fail("TR2-03")
def test_nccl_that_became_slow(tmp_path: Path, evidence: Evidence) -> None:
    def run(seconds: float, run_id: str, *edits: Edit) -> None:
        each = (changed(n, seconds=[seconds] * 5, bytes=256 * 2**20) for n in (0, 1))
        answer = on_gpus("bandwidth_over_gloo", *each, *edits)
        baseline = Baseline(tmp_path / "figures.json", run_id)
        two = on_two_gpus(*slurm(answer), evidence, run_id)
        gpus.test_bandwidth_over_nccl(two, evidence, new_measure(), baseline)

    run(0.002, "r1")
    run(0.0021, "r2")
    with pytest.raises(LimitExceeded, match=r"^node01: collective\.nccl\.all_reduce\.vs_baseline is 0\.6\d+ fraction"):
        run(0.003, "r3")
    with pytest.raises(AssertionError, match="^node01: rank 0 of bandwidth: backend is 'gloo', expected 'nccl'"):
        run(0.002, "r4", changed(0, backend="gloo"))


# TR2-01


def where(*tasks: tuple[str, str]) -> str:
    told = ({"rank": n, "node": node, "gpus": gpus} for n, (node, gpus) in enumerate(tasks))
    return "".join(json.dumps(one) + "\n" for one in told)


ONE, TWO = where(("node01", "0,1"), ("node01", "0,1")), where(("node01", "0"), ("node02", "0"))


@pytest.mark.seen_to_fail("TR2-01")
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([where(("node01", "0"), ("node01", "0")), TWO], "node01: 1×2 on node01: task 0 has the GPUs 0, expected 2; d"),
        ([ONE, where(("node01", "0"), ("node01", "1"))], "node01: 2×1 on node01, node02: tasks ran on node01, node01,"),
        ([ONE, where(("node01", "0"), ("node02", ""))], "node02: 2×1 on node01, node02: task 1 has the GPUs none, exp"),
        ([ONE, ""], "node01: 2×1 on node01, node02: tasks ran on no node"),
        ([Result((), 1, "", "srun: error: Unable to allocate resources: Requested node configuration is not\n")],
         "controller: two GPUs as 1×2 on node01 were refused: srun: error: Unable to allocate resources: Requested no"),
    ],
)  # fmt: skip
def test_gpus_that_a_job_does_not_get(answers: list[Any], message: str, evidence: Evidence) -> None:
    found, _ = slurm([ONE, TWO])
    gpus.test_topology(found, evidence)
    assert [word for argv in asked(found, "srun") for word in argv if "gres" in word] == [
        "--gres=gpu:2",
        "--gres=gpu:1",
    ]
    with pytest.raises(AssertionError, match=f"^{message}"):
        gpus.test_topology(slurm(answers)[0], evidence)


@pytest.mark.seen_to_fail("TR2-01", "CON-18")
def test_gpus_that_slurm_does_not_have(evidence: Evidence) -> None:
    few = {"node01": {"gres": "gpu:sim:1"}, "node02": {"gres": "gpu:sim:1", "state": ["DOWN"]}}
    says = r"^controller: no job can hold 2 GPUs: Slurm has 1 on node01; 1 on node02, which is DOWN; expected two"
    with pytest.raises(AssertionError, match=says):
        gpus.test_topology(slurm("", **few)[0], evidence)
    with pytest.raises(AssertionError, match=says):
        containers.test_nccl(*slurm("", **few), evidence, "r1")
