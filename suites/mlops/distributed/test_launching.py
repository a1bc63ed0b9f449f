"""MLOPS-2.1: jobs of several processes meet where they should, and say so where they can't; FSDP; TensorBoard."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from pytest_ai_how.launch import Ended, JobFailed, Task, completed, done, run
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from .._request import Request
from .._trained import Work
from ._run import CIFAR, GPUS, MNIST, Runs

# Speed is measured, and two jobs must find room at once: no other jobs meanwhile.
pytestmark = [pytest.mark.requires("gpu.pair", "pytorch", "shared-storage"), pytest.mark.exclusive("slurm")]


@pytest.mark.check("TR2-16")
def test_fsdp(runs: Runs, evidence: Evidence) -> None:
    """With its parameters shared out among two processes, a network trains: each keeps a part, and the loss is one."""
    work = runs.work(MNIST)
    ended, said = once(runs, "fsdp", work, runs.request(work), program="fsdp.py")
    evidence.attach("what the processes say", said)
    told = json.loads(said.strip().splitlines()[-1])
    assert [one["rank"] for one in told] == list(range(GPUS)), f"{ended.label}: ranks {[one['rank'] for one in told]}"
    first = told[0]
    for one in told:
        where = f"{one['node']}: rank {one['rank']} of {ended.label}"
        assert len(one["losses"]) == work.epochs, f"{where}: {len(one['losses'])} steps, not {work.epochs}"
        assert all(map(math.isfinite, one["losses"])), f"{where}: its losses are {one['losses']}, expected numbers"
        assert one["losses"] == first["losses"], (
            f"{where}: its losses are {one['losses']}, rank 0 has {first['losses']}"
        )
        assert 0 < one["part"] < one["whole"], (
            f"{where}: keeps {one['part']} of {one['whole']} numbers; expected a part, or nothing is shared out"
        )
    total = sum(one["part"] for one in told)
    assert total == first["whole"], f"{ended.label}: the parts are {total} numbers, the network has {first['whole']}"


@pytest.mark.check("TR2-17")
@pytest.mark.requires("slurm")  # which gives each job ports of its own
def test_two_at_once(runs: Runs, evidence: Evidence) -> None:
    """Two jobs that train at the same time, on one node where it can take both, meet each at a port of its own."""
    work = runs.work(MNIST)
    whole = runs.request(work)
    half = Request(1, whole.memory // 2, 1, whole.on[:1], whole.partition)
    ended, said = together(runs, work, half)
    for one in ended:
        evidence.attach(f"job {one.id}: record", one.to_json(), "application/json")
    first, second = ended
    assert max(first.started, second.started) < min(first.ended, second.ended), (
        f"{first.label} and {second.label} did not run at the same time: {first.started:.0f} to {first.ended:.0f}, "
        f"{second.started:.0f} to {second.ended:.0f}"
    )
    ports = [endpoint(text, one) for text, one in zip(said, ended, strict=True)]
    assert ports[0] != ports[1], f"{first.label} and {second.label} both met at {ports[0]}; expected distinct ports"


def endpoint(text: str, ended: Ended) -> str:
    """Where a job's torchrun met, as its script said first: ``meets: node01:12000``."""
    found = [line.removeprefix("meets: ") for line in text.splitlines() if line.startswith("meets: ")]
    assert len(found) == 1, f"{ended.label}: said {len(found)} times where it meets, expected once"
    host, _, port = found[0].rpartition(":")
    right = bool(host) and port.isdecimal() and int(port) > 0
    assert right, f"{ended.label}: meets at {found[0]!r}, expected a host and a port"
    return found[0]


def together(runs: Runs, work: Work, request: Request) -> tuple[tuple[Ended, ...], tuple[str, ...]]:
    """Two jobs of this run at the same time: their ends, and what they said."""
    trainer = runs.trainer

    def action() -> dict[str, str]:
        tasks = [trainer.task(f"ddp-{name}", work, request, torchrun=True) for name in ("one", "other")]
        jobs = [trainer.launcher.start(task) for task in tasks]
        try:
            ended = [trainer.launcher.ended(job, work.minutes * 60) for job in jobs]
        except BaseException:
            for job in jobs:
                trainer.launcher.cancel(job)
            raise
        for one in ended:
            completed(one, trainer.launcher.read(one.stderr))
        return {str(number): one.to_json() for number, one in enumerate(ended)}

    told = trainer.once.told("mlops-together", action)
    ended = tuple(Ended.from_json(told[number]) for number in sorted(told))
    return ended, tuple(trainer.launcher.read(one.stdout) for one in ended)


@pytest.mark.check("TR2-17")
@pytest.mark.requires("slurm")  # which gives each job ports of its own
def test_port_taken(runs: Runs, evidence: Evidence, measure: Measurements) -> None:
    """Where somebody else has a job's port, the job ends soon, and says that the address is in use."""
    work = runs.work(MNIST)
    trainer = runs.trainer
    request = runs.request(work)

    def action() -> dict[str, str]:
        task = trainer.task("ddp-taken", work, request, torchrun=True)
        taken = (trainer.python, f"{trainer.payloads()}/occupied.py", *task.argv)
        return {"ended": run(trainer.launcher, replace(task, argv=taken), work.minutes * 60).to_json()}

    ended = Ended.from_json(trainer.once.told("mlops-taken", action)["ended"])
    said, errors = trainer.launcher.read(ended.stdout), trainer.launcher.read(ended.stderr)
    evidence.attach(f"job {ended.id}: record", ended.to_json(), "application/json")
    evidence.attach("stdout", said)
    evidence.attach("stderr", errors)
    assert "taken: " in said, f"{ended.label}: did not even take the port; it said {said[-200:]!r}"
    assert ended.state == "FAILED", f"{ended.label}: its port was taken, and it is {ended.state}; expected FAILED"
    assert "EADDRINUSE" in errors or "address already in use" in errors.lower(), (
        f"{ended.label}: its port was taken, and its standard error does not say that the address is in use"
    )
    measure("distributed.port_taken", ended.elapsed, "s", node=ended.node)


@pytest.mark.check("TR2-18")
def test_tracking_server(runs: Runs, evidence: Evidence, measure: Measurements) -> None:
    """TensorBoard starts, and shows over HTTP the losses that the training had."""
    found, trainer = runs.cifar(), runs.trainer
    metrics, work = found.metrics(), runs.work(CIFAR)

    def action() -> dict[str, str]:
        argv = (trainer.python, "board.py", f"{found.out}/tensorboard")
        task = Task("board", argv, trainer.folder, memory=min(work.memory, found.request.memory))
        ended, said = trainer.plain(task, work.minutes * 60)
        return {"ended": ended.to_json(), "said": said}

    told = trainer.once.told("mlops-board", action)
    ended = Ended.from_json(told["ended"])
    evidence.attach("what TensorBoard says", told["said"])
    seen = json.loads(told["said"].strip().splitlines()[-1])
    evidence.attach("servers of other kinds in the image", ", ".join(seen["others"]) or "none: neither Aim nor MLflow")
    assert seen["status"] == 200, f"{ended.label}: TensorBoard answered with {seen['status']}, expected 200"
    shown = [value for _, value in seen["scalars"].get("loss", ())]
    assert shown == pytest.approx(metrics.losses, rel=1e-6), (
        f"{ended.label}: TensorBoard shows the losses {shown}, the training had {list(metrics.losses)}"
    )
    measure("tracking.tensorboard.start", seen["seconds"], "s", node=ended.node)


def once(runs: Runs, name: str, work: Work, request: Request, program: str) -> tuple[Ended, str]:
    """A job of this run that is no training, and what it printed."""
    trainer = runs.trainer

    def action() -> dict[str, str]:
        task = trainer.task(name, work, request, program=program)
        ended = done(trainer.launcher, task, work.minutes * 60)
        said = trainer.launcher.read(ended.stdout)
        if not said.strip():
            raise JobFailed(ended.node, f"job {ended.id} ({name}) printed nothing", expected="a line of JSON")
        return {"ended": ended.to_json(), "said": said}

    told = trainer.once.told(f"mlops-{name}", action)
    return Ended.from_json(told["ended"]), told["said"]
