"""MLOPS-1.1: a training job of one process, judged by what it left and by what Slurm has of it."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from .._kernel import without_xid
from .._lines import clean
from .._metrics import falls, implausible
from .._trainer import Trainer
from .._utilisation import busy, busy_recorded
from ._run import NAME, request_of, trained, work_of

pytestmark = pytest.mark.requires("pytorch", "shared-storage")


@pytest.mark.check("TR1-01")
def test_data(trainer: Trainer, scale: Scale, evidence: Evidence) -> None:
    """The data set lies on the shared storage, and each compute node reads there what was published, bit by bit."""
    folder, declared = trainer.data(work_of(scale).data)
    for file in declared.files:
        path = f"{folder}/{file.name}"
        for node, told in trainer.cluster.on("compute").run("sha256sum", "--", path, check=False, timeout=300).items():
            evidence.result(told)
            assert told.ok, f"{node}: {path} cannot be read: {told.stderr.strip()}; expected {file.bytes} bytes"
            found = told.stdout.split()[0]
            assert found == file.sha256, f"{node}: {path} has the SHA-256 {found}, expected {file.sha256}"


@pytest.mark.check("TR1-02")
@pytest.mark.requires("slurm", "accounting", "gpu")
def test_allocation(trainer: Trainer, scale: Scale, evidence: Evidence) -> None:
    """The job asked for what there is, and the accounting has given it exactly that: one GPU, its CPUs, its memory."""
    found = trained(trainer, scale, evidence)
    request, tres = found.request, found.ended.tres
    assert request.gpus == 1, f"{found.label}: asked for {request.gpus} GPUs; expected one, as Slurm has GPUs"
    assert found.ended.nodes == request.on, f"{found.label}: asked for {', '.join(request.on)}"
    # Slurm allocates whole cores, which may have two threads.
    assert tres.get("cpu", 0) >= request.cpus, f"{found.label}: has {tres.get('cpu', 0)} CPUs, asked for {request.cpus}"
    for name, wanted in (("gres/gpu", request.gpus), ("node", request.nodes), ("mem", request.memory)):
        assert tres.get(name, 0) == wanted, (
            f"{found.label}: the accounting has {name}={tres.get(name, 0)}, expected {wanted}"
        )


@pytest.mark.check("TR1-03")
def test_time(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """All epochs are done in the time that they may take."""
    found = trained(trainer, scale, evidence)
    metrics, work = found.metrics(), work_of(scale)
    assert metrics.epochs == work.epochs, f"{found.label}: {metrics.epochs} epochs, expected {work.epochs}"
    node = found.ended.node
    measure(scale.metric("training.seconds"), metrics.training_time_seconds, "s", node=node, samples=metrics.epochs)
    rate = metrics.samples * metrics.epochs / sum(one.seconds for one in metrics.history)
    measure(scale.metric("training.rate"), rate, "samples/s", node=node, samples=metrics.epochs)
    busy_recorded(found, evidence, measure, scale.metric("training.gpu.utilisation"))


@pytest.mark.check("TR1-04")
def test_accuracy(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Of the images that it was not trained on, the model tells as many right as it should."""
    found = trained(trainer, scale, evidence)
    metrics = found.metrics()
    found.draw(evidence)
    measure(scale.metric("training.accuracy"), metrics.accuracy, "%", node=found.ended.node, samples=metrics.held_out)


@pytest.mark.check("TR1-05")
def test_loss(trainer: Trainer, scale: Scale, evidence: Evidence) -> None:
    """The loss is a number in each epoch, and falls."""
    found = trained(trainer, scale, evidence)
    falls(found.metrics(), found.label)
    found.draw(evidence)


@pytest.mark.check("TR1-06")
def test_reload(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """In a new process, the model that was left is the one that was trained, and as good."""
    found, work = trained(trainer, scale, evidence), work_of(scale)
    metrics, seen = found.metrics(), trainer.look(NAME, work, found.request, found.out)
    evidence.attach("what a new process says", str(seen))
    assert seen["parameters"] == metrics.parameters, (
        f"{found.label}: {found.out}/model.pt has the parameters {str(seen['parameters'])[:12]}…, "
        f"{metrics.parameters[:12]}… were trained"
    )
    apart = abs(float(str(seen["accuracy"])) - metrics.accuracy)
    measure("training.reload.apart", apart, "%", node=found.ended.node, samples=metrics.held_out)


@pytest.mark.check("TR1-07")
def test_metrics(trainer: Trainer, scale: Scale, evidence: Evidence) -> None:
    """metrics.json has its fields, and says what can be true of the job that wrote it and of what it was to do."""
    found, work = trained(trainer, scale, evidence), work_of(scale)
    metrics = found.metrics()
    asked = {"dataset": work.data, "model": work.model, "batch": work.batch, "epochs": work.epochs, "processes": 1}
    for name, wanted in asked.items():
        assert getattr(metrics, name) == wanted, (
            f"{found.label}: metrics.json has {name} {getattr(metrics, name)!r}, the job was to have {wanted!r}"
        )
    problems = list(implausible(metrics, found.ended.elapsed))
    assert not problems, f"{found.label}: metrics.json cannot be true: {'; '.join(problems)}"


@pytest.mark.check("TR1-08")
def test_errors(trainer: Trainer, scale: Scale, evidence: Evidence) -> None:
    """Neither the job's output nor its standard error tells of an error or a warning of CUDA, nor the kernel of Xid."""
    found = trained(trainer, scale, evidence)
    clean(found.label, [("standard output", found.stdout), ("standard error", found.stderr)])
    without_xid(trainer, found.ended, evidence)


@pytest.mark.check("TR1-09")
@pytest.mark.requires("gpu.real", "scale.full")
def test_utilisation(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """After the first epoch the GPU is busy most of the time; at smoke scale no GPU is, and test_time records it."""
    found = trained(trainer, scale, evidence)
    busy(found, 0, evidence, measure, scale.metric("training.gpu.utilisation"))


@pytest.mark.check("TR1-13")
@pytest.mark.requires("gpu.real")
def test_memory_afterwards(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """When the job has ended, no GPU of its machine keeps memory that was free before."""
    found = trained(trainer, scale, evidence)
    after = trainer.gpu_memory(found.ended.node)
    evidence.attach("MiB in use before and after", f"{found.idle}\n{after}")
    assert len(after) == len(found.idle) > 0, (
        f"{found.ended.node}: nvidia-smi tells of {len(after)} GPUs, of {len(found.idle)} before the job"
    )
    kept = max(now - before for now, before in zip(after, found.idle, strict=True))
    measure("training.gpu.kept", float(max(kept, 0)), "MiB", node=found.ended.node, samples=len(after))


@pytest.mark.check("TR1-10")
def test_repeat(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """The same seed gives the same model, or one as good, in another job."""
    found, work = trained(trainer, scale, evidence), work_of(scale)
    again = trainer.trained("train-again", work, request_of(trainer, work, evidence), f"--seed={found.metrics().seed}")
    again.attach(evidence)
    assert again.ended.id != found.ended.id, f"{again.label}: is the same job"
    apart = abs(again.metrics().accuracy - found.metrics().accuracy)
    measure("training.repeat.apart", apart, "%", node=again.ended.node, samples=found.metrics().held_out)


@pytest.mark.check("TR1-11")
def test_resume(trainer: Trainer, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """A job that is killed in the midst of an epoch goes on with that epoch in another, and comes to the same."""
    found, work = trained(trainer, scale, evidence), work_of(scale)
    killed, resumed = trainer.resumed("train-killed", work, request_of(trainer, work, evidence))
    evidence.attach(f"job {killed.ended.id}: record", killed.ended.to_json(), "application/json")
    resumed.attach(evidence)
    assert not killed.ended.ok, (
        f"{killed.ended.label}: was killed in epoch {work.middle}, and is {killed.ended.state}; expected FAILED"
    )
    goes_on(resumed.metrics().resumed_from, work.middle, resumed.label)
    problems = list(implausible(resumed.metrics(), resumed.ended.elapsed))
    assert not problems, f"{resumed.label}: metrics.json cannot be true: {'; '.join(problems)}"
    apart = abs(resumed.metrics().accuracy - found.metrics().accuracy)
    measure("training.resume.apart", apart, "%", node=resumed.ended.node, samples=found.metrics().held_out)


def goes_on(resumed_from: int, killed_in: int, where: str) -> None:
    """Hold a training to going on with the epoch in which it was killed."""
    assert resumed_from == killed_in - 1, (
        f"{where}: went on after epoch {resumed_from}; it was killed in epoch {killed_in}, so the last whole one is "
        f"{killed_in - 1}"
    )


@pytest.mark.check("TR1-12")
def test_record(trainer: Trainer, scale: Scale, evidence: Evidence) -> None:
    """TensorBoard's own reader finds the loss and accuracy of each epoch, as the job had them."""
    found, work = trained(trainer, scale, evidence), work_of(scale)
    seen = trainer.look(NAME, work, found.request, found.out)["scalars"]
    evidence.attach("TensorBoard's scalars", str(seen))
    assert isinstance(seen, dict), f"{found.label}: no scalars at all; expected loss and accuracy"
    metrics = found.metrics()
    for name, wanted in (("loss", metrics.losses), ("accuracy", metrics.accuracies)):
        steps = [step for step, _ in seen.get(name, ())]
        assert steps == list(range(1, metrics.epochs + 1)), (
            f"{found.label}: {name} was recorded for the epochs {steps}, expected 1 to {metrics.epochs}"
        )
        values = [value for _, value in seen[name]]
        # It keeps 32-bit numbers.
        assert values == pytest.approx(wanted, rel=1e-6), (
            f"{found.label}: {name} was recorded as {values}, was {wanted}"
        )
