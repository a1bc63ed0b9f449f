"""What the shared file system reaches, measured beside what lies below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_ai_how.limits import Limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.storage import Bare, Storage
from pytest_ai_how.services.storage.fio import (
    METADATA_ENGINES,
    FioJob,
    FioReport,
    MetadataJob,
    aggregate_mib_per_second,
)
from pytest_ai_how.shell import Result

from ._wire import Wire

#: Odd, so that there is a pass in the middle.
PASSES = 3
#: How long one of them lasts, seconds.
LASTS = "storage.pass"


@dataclass(frozen=True, slots=True)
class Compared:
    """What the nodes together reached and what was possible beside it, both in MiB/s or operations a second.

    Possible is what the bare medium gave or, where it is less, what the ``network`` before it carried.
    """

    reached: float
    medium: float
    reports: tuple[FioReport, ...]
    results: tuple[Result, ...]
    network: float | None = None

    @property
    def ceiling(self) -> float:
        """What was possible."""
        return self.medium if self.network is None else min(self.medium, self.network)

    def attach(self, evidence: Evidence) -> None:
        """Attach every fio report behind it."""
        for result in self.results:
            evidence.result(result)


def timed(job: FioJob, limits: Limits) -> FioJob:
    """``job``, if it has a time, for as long as the limits ask a pass to last.

    Emulated machines begin a job seconds apart: only in a longer one do they work at the same time.
    """
    return replace(job, seconds=limits.minimum(LASTS, "s")) if job.seconds else job


def beside_the_medium(
    storage: Storage,
    scratch: str,
    job: FioJob,
    some: Sequence[str] = (),
    passes: int = PASSES,
    wire: Wire | None = None,
) -> Compared:
    """Run ``job`` on the bare medium and right after it on compute nodes, with as many processes, several times.

    That is on ``some`` of them, by default on all; ``passes`` is odd. Between the two is the turn of ``wire``, of whose
    whole some get their part.

    The pair with the median ratio counts: a medium that others use, or that the host throttles after a burst, differs
    more from one second to the next than the two sides of one pair do.
    """
    nodes = some or storage.cluster.on("compute").names
    medium = raw_medium(storage)
    pairs: list[Compared] = []
    results: list[Result] = []
    lay_out(storage, scratch, job, nodes)
    for _ in range(passes):
        medium.cool()
        bare, result = medium.measure(replace(job, directory=medium.directory, jobs=len(nodes)))
        network, streams = wire.measure(job.rw, len(nodes)) if wire else (None, [])
        reports = storage.fan_out(nodes, scratch, job)
        results += [result, *streams, *(one for _, one in reports.values())]
        each = tuple(report for report, _ in reports.values())
        pairs.append(Compared(aggregate_mib_per_second(each), bare.mib_per_second, each, (), network))
    return replace(in_the_middle(pairs), results=tuple(results))


def metadata_beside_the_medium(storage: Storage, scratch: str, job: MetadataJob) -> dict[str, Compared]:
    """As :func:`beside_the_medium`, for files a second by engine."""
    nodes = storage.cluster.on("compute").names
    medium = raw_medium(storage)
    pairs: dict[str, list[Compared]] = {engine: [] for engine in METADATA_ENGINES}
    results: list[Result] = []
    for _ in range(PASSES):
        bare, result = medium.measure_metadata(replace(job, directory=medium.directory, jobs=len(nodes)))
        reports = storage.fan_out_metadata(nodes, scratch, job)
        results += [result, *(one for _, one in reports.values())]
        for engine in METADATA_ENGINES:
            each = tuple(by_engine[engine] for by_engine, _ in reports.values())
            rate = sum(report.operations for report in each) / max(report.seconds for report in each)
            pairs[engine].append(Compared(rate, bare[engine].operations_per_second, each, ()))
    return {engine: replace(in_the_middle(found), results=tuple(results)) for engine, found in pairs.items()}


def in_the_middle(pairs: Sequence[Compared]) -> Compared:
    """The pair with the median ratio."""
    return sorted(pairs, key=lambda pair: pair.reached / pair.ceiling)[len(pairs) // 2]


def lay_out(storage: Storage, scratch: str, job: FioJob, nodes: Sequence[str]) -> None:
    """Write what ``job`` is to read, where machines below would else keep it in memory from being written just then."""
    medium = raw_medium(storage)
    if job.rw in ("read", "randread") and medium.moved() is not None:
        storage.fan_out(nodes, scratch, job)
        medium.measure(replace(job, directory=medium.directory, jobs=len(nodes)))


def raw_medium(storage: Storage) -> Bare:
    """Where the bare medium is measured."""
    assert storage.raw is not None, "requires('storage.raw') let a cluster without one through"
    return storage.raw
