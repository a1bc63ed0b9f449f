"""MLOPS-2.1: two processes train together by torchrun, judged by what they left."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.monitoring import Monitoring

from .._kernel import without_xid
from .._lines import clean
from .._metrics import falls, implausible
from .._utilisation import busy, busy_recorded
from ._judged import in_place, same_parameters, whole_epochs
from ._run import CIFAR, GPUS, MNIST, Runs
from ._speeds import EFFICIENCY, SPEED_UP, speed_up, speed_up_recorded
from ._watched import watched

# Speed is measured, and two jobs must find room at once: no other jobs meanwhile.
pytestmark = [pytest.mark.requires("gpu.pair", "pytorch", "shared-storage"), pytest.mark.exclusive("slurm")]


@pytest.mark.check("TR2-04")
def test_time(runs: Runs, evidence: Evidence, measure: Measurements) -> None:
    """Two processes do all epochs in the time that they may take, and say what can be true of their job.

    How much faster they are than one, and how busy their GPUs, is recorded here where nothing can be asked of it: on
    CPUs, and on GPUs that have next to nothing to do.
    """
    found, work = runs.cifar(), runs.work(CIFAR)
    metrics = found.metrics()
    did, wanted = (metrics.epochs, metrics.processes), (work.epochs, GPUS)
    assert did == wanted, f"{found.label}: {did[0]} epochs by {did[1]} processes, expected {wanted[0]} by {wanted[1]}"
    problems = list(implausible(metrics, found.ended.elapsed))
    assert not problems, f"{found.label}: metrics.json cannot be true: {'; '.join(problems)}"
    falls(metrics, found.label)
    found.draw(evidence)
    name = runs.scale.metric("distributed.seconds")
    measure(name, metrics.training_time_seconds, "s", node=found.ended.node, samples=metrics.epochs)
    busy_recorded(found, evidence, measure, runs.scale.metric("distributed.gpu.utilisation"))
    speed_up_recorded(runs, measure)


@pytest.mark.check("TR2-05")
def test_accuracy(runs: Runs, measure: Measurements) -> None:
    """Of the images that they were not trained on, the network tells as many right as it should."""
    found = runs.cifar()
    metrics = found.metrics()
    name = runs.scale.metric("distributed.accuracy")
    measure(name, metrics.accuracy, "%", node=found.ended.node, samples=metrics.held_out)


@pytest.mark.check("TR2-06")
@pytest.mark.requires("gpu.real", "scale.full")
def test_utilisation(runs: Runs, evidence: Evidence, measure: Measurements) -> None:
    """After the first epoch both GPUs are busy most of the time."""
    found = runs.cifar()
    for rank in range(GPUS):
        busy(found, rank, evidence, measure, runs.scale.metric("distributed.gpu.utilisation"))


@pytest.mark.check("TR2-07")
@pytest.mark.requires("gpu.real", "scale.full")
def test_speed_up(runs: Runs, measure: Measurements) -> None:
    """Two GPUs do more samples of the same work a second than one does."""
    speed_up(runs, measure, SPEED_UP)


@pytest.mark.check("TR2-12")
@pytest.mark.requires("gpu.real", "scale.full")
def test_efficiency(runs: Runs, measure: Measurements) -> None:
    """Each of two GPUs does nearly as many samples of the same work a second as one alone does."""
    speed_up(runs, measure, EFFICIENCY)


@pytest.mark.check("TR2-08")
def test_parameters(runs: Runs) -> None:
    """After each epoch all processes have the same parameters, bit by bit, and these are the ones that were saved."""
    for found in (runs.cifar(), runs.mnist()):
        same_parameters(found, in_place(found, backend(runs)))


@pytest.mark.check("TR2-09")
def test_samples(runs: Runs) -> None:
    """In each epoch the processes are fed each sample once between them."""
    for found in (runs.cifar(), runs.mnist()):
        whole_epochs(found, in_place(found, backend(runs)))


def backend(runs: Runs) -> str:
    """What processes must talk over: NCCL where GPUs compute, gloo where there are none such."""
    return "nccl" if runs.trainer.real else "gloo"


@pytest.mark.check("TR2-10")
def test_errors(runs: Runs) -> None:
    """Nothing that the jobs said tells of an error or time-out of NCCL or gloo, or of another, and no kernel of Xid."""
    for found in (runs.cifar(), runs.mnist()):
        clean(found.label, [("standard output", found.stdout), ("standard error", found.stderr)])
        without_xid(runs.trainer, found.ended, runs.evidence)


@pytest.mark.check("TR2-11")
def test_mnist(runs: Runs, evidence: Evidence, measure: Measurements) -> None:
    """The small network, by processes on as many nodes as there are, learns enough in time."""
    found, work = runs.mnist(), runs.work(MNIST)
    metrics, node = found.metrics(), found.ended.node
    in_place(found, backend(runs))
    assert metrics.epochs == work.epochs, f"{found.label}: {metrics.epochs} epochs, expected {work.epochs}"
    found.draw(evidence)
    name = runs.scale.metric("distributed.mnist.seconds")
    measure(name, metrics.training_time_seconds, "s", node=node, samples=metrics.epochs)
    name = runs.scale.metric("distributed.mnist.accuracy")
    measure(name, metrics.accuracy, "%", node=node, samples=metrics.held_out)


@pytest.mark.check("TR2-13")
def test_resume(runs: Runs, evidence: Evidence, measure: Measurements) -> None:
    """A training that lost a process goes on in another job with the epoch in which it was, on the same loss curve."""
    whole, work = runs.mnist(), runs.work(MNIST)
    _, resumed = runs.killed()
    after, before = resumed.metrics(), whole.metrics()
    assert after.resumed_from == work.middle - 1, (
        f"{resumed.label}: went on after epoch {after.resumed_from}; it was killed in epoch {work.middle}, so the last "
        f"whole one is {work.middle - 1}"
    )
    assert len(after.losses) == len(before.losses), (
        f"{resumed.label}: tells of {len(after.losses)} epochs, {whole.label} of {len(before.losses)}"
    )
    resumed.draw(evidence)
    apart = max(abs(mine - its) / its for mine, its in zip(after.losses, before.losses, strict=True))
    measure("distributed.resume.apart", apart, "fraction", node=resumed.ended.node, samples=len(after.losses))


@pytest.mark.check("TR2-14")
def test_killed(runs: Runs, measure: Measurements) -> None:
    """When one process of a training is killed, its whole job ends soon, as FAILED."""
    killed, _ = runs.killed()
    ended = killed.ended
    assert ended.state == "FAILED", (
        f"{ended.label}: one process was killed, and the job is {ended.state}; expected FAILED"
    )
    measure("distributed.killed", killed.seconds, "s", node=ended.node)


@pytest.mark.check("TR2-15")
@pytest.mark.requires("slurm", "accounting")
def test_accounting(runs: Runs) -> None:
    """The accounting has both GPUs of each job, on the nodes that were asked for; monitoring is asked beside it."""
    for found in (runs.cifar(), runs.mnist()):
        tres, request = found.ended.tres, found.request
        counted = tres.get("gres/gpu", 0)
        assert counted == GPUS, f"{found.label}: the accounting has {counted} GPUs for it, expected {GPUS}"
        nodes = tres.get("node", 0), found.ended.nodes
        assert nodes == (request.nodes, request.on), (
            f"{found.label}: the accounting has {nodes[0]} nodes for it, {', '.join(nodes[1])}; expected "
            f"{', '.join(request.on)}"
        )


@pytest.mark.check("TR2-15")
@pytest.mark.requires("gpu.real", "dcgm", "monitoring")
def test_monitoring(runs: Runs, monitoring: Monitoring, evidence: Evidence) -> None:
    """Prometheus has of both GPUs of each job, on its machines and in its time, how busy they were."""
    for found in (runs.cifar(), runs.mnist()):
        watched(monitoring, found, GPUS, evidence)
