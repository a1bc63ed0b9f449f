"""What the records of a training say of its memory, its speed, and the GPUs that it had."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from .._gpus import Sample, at_work, by_gpu, drawn, shown
from ._oumi import WATCHED, Oumi, Ran
from ._state import State, parse_state
from ._work import PROCESSES, Training

#: How PyTorch 2.13, CUDA, the kernel and Slurm say that memory ran out.
_STARVED = re.compile(r"OutOfMemoryError|[Oo]ut of memory|out_of_memory|oom[-_]kill|\bOOM\b")
#: The share of its step that a training's own count of seconds may be longer: clocks of two processes.
_CLOCKS = 1.02


def starved(text: str) -> tuple[str, ...]:
    r"""The lines that tell of memory that ran out.

    >>> starved("loss 0.5\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n")
    ('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB',)
    """
    return tuple(line for line in text.splitlines() if _STARVED.search(line))


def watched(
    oumi: Oumi, ran: Ran, steps: Sequence[str], count: int, evidence: Evidence
) -> Mapping[str, tuple[Sample, ...]]:
    """What nvidia-smi wrote down during ``steps``, by GPU; held to ``count`` of them, each of which was at work."""
    texts = [oumi.read(ran.ended, WATCHED.format(step)) for step in steps]
    for step, text in zip(steps, texts, strict=True):
        evidence.attach(WATCHED.format(step), text or "nothing was written")
    found = by_gpu(texts)
    assert len(found) == count, (
        f"{ran.label}: nvidia-smi told of {len(found)} GPUs ({', '.join(found) or 'none'}) while it trained, expected "
        f"{count}"
    )
    for uuid, seen in found.items():
        assert at_work(seen), (
            f"{ran.label}: {uuid} was never busy in {len(seen)} samples; expected that the training uses it; do: see "
            "that the image has PyTorch for GPUs (oumi-cuda under containers.images)"
        )
    return found


def left(oumi: Oumi, ran: Ran, folder: str, evidence: Evidence) -> State:
    """``trainer_state.json`` of a training, attached."""
    text = oumi.read(ran.ended, f"{folder}/trainer_state.json")
    evidence.attach(f"{folder}/trainer_state.json", text, "application/json")
    return parse_state(text, f"{ran.label}: {folder}/trainer_state.json")


def rate(oumi: Oumi, ran: Ran, folder: str, work: Training, processes: int, evidence: Evidence) -> float:
    """Samples a second of a training that ``processes`` did, held to having done all of its ``work``."""
    state = left(oumi, ran, folder, evidence)
    assert state.global_step == work.steps, f"{ran.label}: took {state.global_step} steps, expected {work.steps}"
    assert state.train_batch_size == work.share(processes), (
        f"{ran.label}: each process took {state.train_batch_size} samples at once, expected {work.share(processes)}"
    )
    seconds, (step,) = state.runtime, ran.steps.values()
    assert 0 < seconds <= _CLOCKS * step.seconds, (
        f"{ran.label}: says that it trained for {seconds:.1f} s, in a step of {step.seconds:.1f} s"
    )
    return work.samples * work.epochs / seconds


def gain(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> float:
    """How often more samples of the same work a second two processes do than one; measures both, and attaches them."""
    (alone, folder), together, steps = oumi.reference(), oumi.paired(), oumi.plan.two.steps
    one = rate(oumi, alone, folder, oumi.plan.alone, 1, evidence)
    two = rate(oumi, together, "two", oumi.plan.two, PROCESSES, evidence)
    evidence.attach("samples a second", f"1 process    {one:.1f}\n{PROCESSES} processes  {two:.1f}")
    measure(scale.metric("oumi.rate.one"), one, "samples/s", node=alone.ended.node, samples=steps)
    measure(scale.metric("oumi.rate.two"), two, "samples/s", node=together.ended.node, samples=steps)
    return two / one


def both_busy(oumi: Oumi, ran: Ran, evidence: Evidence, measure: Measurements, metric: str) -> None:
    """Measure how busy each GPU was while two processes trained, and where that is judged, how busy one can be.

    A fast GPU waits for the interpreter, which starts the kernels of a small model one by one: how busy that keeps it
    says nothing of the machine. That it does not wait for data and storage as well, does. One that waits for the other
    counts as busy, by NCCL's kernels: what that costs, the gain tells.
    """
    node = ran.ended.node
    if most := measure.limits[metric].of:
        alone = oumi.paced()
        for uuid, seen in watched(oumi, alone, ["pace"], 1, evidence).items():
            busy = shown(evidence, at_work(seen), f"{alone.label}, {uuid}")
            measure.ceiling(most, busy, "%", node=node)
    files = [f"two-{number}/train" for number in range(len(ran.ended.nodes))]
    for uuid, seen in watched(oumi, ran, files, PROCESSES, evidence).items():
        drawn(evidence, measure, metric, at_work(seen), f"{ran.label}, {uuid}", node)
