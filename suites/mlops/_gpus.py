"""What nvidia-smi wrote down of GPUs while a job ran (payloads/watch.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ._curves import chart

#: Lines of each GPU a second.
RATE = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """A GPU at one moment: percent of the time that it was busy since the one before, MiB in use and in all."""

    uuid: str
    busy: float
    used: int
    total: int


def samples(text: str) -> tuple[Sample, ...]:
    r"""Read the lines; of the last, which may be cut off, and of ``[N/A]`` nothing is taken.

    >>> samples("GPU-6f, 91, 4210, 81559\nGPU-6f, [N/A], 1, 81559\nGPU-6f, 8")
    (Sample(uuid='GPU-6f', busy=91.0, used=4210, total=81559),)
    """
    rows = [line.split(", ") for line in text.splitlines()]
    whole = [row for row in rows if len(row) == 4 and all(word.isdecimal() for word in row[1:])]
    return tuple(Sample(row[0], float(row[1]), int(row[2]), int(row[3])) for row in whole)


def by_gpu(texts: Sequence[str]) -> Mapping[str, tuple[Sample, ...]]:
    """The samples of each GPU, in their order."""
    found = [one for text in texts for one in samples(text)]
    return {uuid: tuple(one for one in found if one.uuid == uuid) for uuid in dict.fromkeys(one.uuid for one in found)}


def at_work(seen: Sequence[Sample]) -> tuple[float, ...]:
    """How busy a GPU was from the first to the last moment at which it was: before and after, files are read.

    >>> at_work([Sample("a", busy, 0, 1) for busy in (0, 0, 90, 0, 80, 0)])
    (90, 0, 80)
    """
    busy = [number for number, one in enumerate(seen) if one.busy]
    return tuple(one.busy for one in seen[busy[0] : busy[-1] + 1]) if busy else ()


def shown(evidence: Evidence, values: Sequence[float], who: str) -> float:
    """Attach the curve of how busy a GPU was, and return its median; ``who`` is the GPU's part in which job."""
    points = [(number / RATE, value) for number, value in enumerate(values)]
    picture = chart(f"utilisation, {who}", "seconds", "%", {"GPU": points})
    evidence.attach(f"utilisation, {who}.svg", picture, "image/svg+xml")
    return median(values)


def drawn(evidence: Evidence, measure: Measurements, metric: str, values: Sequence[float], who: str, node: str) -> None:
    """Measure that median, and attach the curve."""
    measure(metric, shown(evidence, values, who), "%", node=node, samples=len(values))
