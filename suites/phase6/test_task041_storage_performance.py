"""TASK-041: how fast the shared file system is, as a fraction of the bare medium below it, measured in the same run.

Incompressible data, direct I/O, fsync at the end. All of it runs alone (``exclusive``) and on one worker, so that
the medium is measured once and nothing else of this run competes for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from pytest_ai_how.limits import Limits
from pytest_ai_how.report.measurements import Measurements

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.storage import Medium, Storage
from pytest_ai_how.services.storage.baseline import Baseline
from pytest_ai_how.services.storage.fio import FioJob, FioReport, aggregate_mib_per_second
from pytest_ai_how.shell import Result

pytestmark = [
    pytest.mark.requires("shared-storage", "storage.raw"),
    pytest.mark.exclusive,
    pytest.mark.xdist_group("TASK-041"),
]

Reports = Mapping[str, tuple[FioReport, Result]]

WRITE = FioJob("seq-write", "", rw="write", seconds=1.5)
READ = FioJob("seq-read", "", rw="read", seconds=1.5)
RANDOM_READ = FioJob("random-read", "", rw="randread", block_kib=4, size_mib=64, seconds=1)
RANDOM_WRITE = FioJob("random-write", "", rw="randwrite", block_kib=4, size_mib=64, seconds=1)
METADATA = FioJob("metadata", "", files=5000)
SMALL_FILES = FioJob("small-files", "", rw="write", block_kib=4, size_mib=8, files=2000)
CHECKPOINT = FioJob("checkpoint", "", rw="write", block_kib=4096, size_mib=512)
DATA_LOADER = FioJob("data-loader", "", rw="randread", block_kib=128, size_mib=256, jobs=4, seconds=1)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the bare medium gives with as many writers as there are nodes: MiB/s, and files a second by engine."""

    write: float
    read: float
    metadata: Mapping[str, float]
    evidence: tuple[Result, ...]


@pytest.fixture(scope="module")
def ceilings(storage: Storage) -> Ceilings:
    """The bare medium, measured just before what stands on it."""
    assert storage.raw is not None, "requires('storage.raw') let a cluster without one through"
    return measure_ceilings(storage.raw, writers=len(storage.cluster.on("compute")))


def measure_ceilings(raw: Medium, writers: int) -> Ceilings:
    """Measure the bare medium with ``writers`` processes at once."""
    write, wrote = raw.measure(replace(WRITE, directory=raw.directory, jobs=writers))
    read, had_read = raw.measure(replace(READ, directory=raw.directory, jobs=writers))
    metadata, results = {}, []
    for engine in ("filecreate", "filestat", "filedelete"):
        report, result = raw.measure(replace(METADATA, directory=raw.directory, engine=engine, jobs=writers))
        metadata[engine] = report.operations_per_second
        results.append(result)
    return Ceilings(write.mib_per_second, read.mib_per_second, metadata, (wrote, had_read, *results))


@pytest.fixture(scope="module")
def scratch(storage: Storage, run_id: str) -> Iterator[str]:
    """A folder on the shared file system, removed afterwards."""
    folder = storage.scratch(f"perf-{run_id}")
    yield folder
    storage.discard(folder)


def attach(evidence: Evidence, reports: Reports) -> list[FioReport]:
    """Attach each node's fio report and return them parsed."""
    for _, result in reports.values():
        evidence.result(result)
    return [report for report, _ in reports.values()]


@pytest.mark.check("STO-18")
def test_sequential_write(
    storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, measure: Measurements
) -> None:
    """All compute nodes write at once; the sum is judged against the bare medium."""
    evidence.result(ceilings.evidence[0])
    reports = attach(evidence, storage.fan_out(storage.cluster.on("compute").names, scratch, WRITE))
    measure.ceiling("storage.raw.seq_write", ceilings.write, "MiB/s")
    measure("storage.seq_write", aggregate_mib_per_second(reports), "MiB/s", ceiling=ceilings.write)


@pytest.mark.check("STO-19")
def test_sequential_read(
    storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    """All compute nodes read at once past the page cache."""
    evidence.result(ceilings.evidence[1])
    reports = attach(evidence, storage.fan_out(storage.cluster.on("compute").names, scratch, READ))
    reached = aggregate_mib_per_second(reports)
    baseline.keep("storage.seq_read.fraction", reached / ceilings.read)
    measure.ceiling("storage.raw.seq_read", ceilings.read, "MiB/s")
    measure("storage.seq_read", reached, "MiB/s", ceiling=ceilings.read)


@pytest.mark.check("STO-20")
def test_scaling(storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, measure: Measurements) -> None:
    """N nodes write N times what one writes, or all that the medium can take, whichever is less."""
    nodes = storage.cluster.on("compute").names
    assert len(nodes) > 1, f"{storage.cluster.name}: one compute node; scaling needs at least two"
    [alone] = attach(evidence, storage.fan_out(nodes[:1], scratch, WRITE))
    together = attach(evidence, storage.fan_out(nodes, scratch, WRITE))
    possible = min(len(nodes) * alone.mib_per_second, ceilings.write)
    measure("storage.scaling_efficiency", aggregate_mib_per_second(together) / possible, "fraction")


@pytest.mark.check("STO-21")
@pytest.mark.parametrize("engine", ["filecreate", "filestat", "filedelete"])
def test_metadata(
    storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, measure: Measurements, engine: str
) -> None:
    """Files created, looked up and removed a second by all compute nodes at once."""
    job = replace(METADATA, engine=engine)  # type: ignore[arg-type]  # one of the Literal's own words
    reports = attach(evidence, storage.fan_out(storage.cluster.on("compute").names, scratch, job))
    rate = sum(report.operations for report in reports) / max(report.seconds for report in reports)
    measure(f"storage.metadata.{engine}", rate, "ops/s", ceiling=ceilings.metadata[engine])


@pytest.mark.check("STO-22")
@pytest.mark.parametrize("job", [RANDOM_READ, RANDOM_WRITE, SMALL_FILES], ids=lambda job: job.name)
def test_small_io(
    storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, baseline: Baseline, job: FioJob
) -> None:
    """4 KiB random I/O and 4 KiB files of one node, recorded, and compared with what this host gave before."""
    node = storage.cluster.on("compute").names[0]
    [report] = attach(evidence, storage.fan_out([node], scratch, job))
    metric = f"storage.{job.name.replace('-', '_')}"
    measure(metric, report.operations_per_second, "ops/s", node=node)
    if (before := baseline.median(metric)) is not None:
        measure(f"{metric}.vs_baseline", report.operations_per_second / before, "fraction", node=node)
    baseline.keep(metric, report.operations_per_second)


@pytest.mark.check("STO-23")
@pytest.mark.requires("beegfs")
def test_faster_than_the_host_directory(
    storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, measure: Measurements
) -> None:
    """BeeGFS over all nodes against the directory of one machine."""
    reports = attach(evidence, storage.fan_out(storage.cluster.on("compute").names, scratch, READ))
    measure("storage.vs_single_directory", aggregate_mib_per_second(reports) / ceilings.read, "fraction")


@pytest.mark.check("STO-24")
@pytest.mark.requires("storage.baseline")
def test_no_regression(
    storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    """The fraction of the medium that the shared file system reaches is what it was on this host."""
    reports = attach(evidence, storage.fan_out(storage.cluster.on("compute").names, scratch, READ))
    reached = aggregate_mib_per_second(reports) / ceilings.read
    before = baseline.median("storage.seq_read.fraction")
    evidence.attach("baseline", baseline.describe("storage.seq_read.fraction"))
    assert before is not None, f"{baseline.path}: no figure of an earlier run, though the profile says there is one"
    measure("storage.regression", reached / before, "fraction")


@pytest.mark.check("STO-25")
def test_measurement_is_sound(
    storage: Storage, ceilings: Ceilings, scratch: str, evidence: Evidence, limits: Limits
) -> None:
    """What is reported as read was read from the device, and a read from memory would have been found out."""
    node = storage.cluster.on("compute").names[0]
    [direct] = attach(evidence, storage.fan_out([node], scratch, READ))
    moved = direct.device_read_mib
    assert moved is not None, f"{node}: fio saw no block device below {storage.mount}; the figures cannot be checked"
    claimed = direct.bytes / 2**20
    # fio reads the device's counters a little before its own end, so they lag by up to its last interval.
    assert moved >= claimed / 2, (
        f"{node}: fio claims {claimed:.0f} MiB read from {storage.mount}, but the devices below moved {moved:.0f} MiB: "
        "the figures come from a cache"
    )
    [cached] = attach(evidence, storage.fan_out([node], scratch, replace(READ, direct=False)))
    outcome = limits.judge("storage.seq_read", cached.mib_per_second, "MiB/s", ceiling=ceilings.read)
    evidence.attach("judgement of a read from memory", f"{cached.mib_per_second:.0f} MiB/s: {outcome}")
    assert outcome.invalid, (
        f"{node}: a read from memory ({cached.mib_per_second:.0f} MiB/s) passes as one from a medium of "
        f"{ceilings.read:.0f} MiB/s; lower storage.seq_read's physical limit"
    )


@pytest.mark.check("STO-35")
@pytest.mark.requires("virtiofs")
@pytest.mark.parametrize("job", [WRITE, READ], ids=lambda job: job.name)
def test_virtiofs(storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, job: FioJob) -> None:
    """Each node alone through its virtiofs mount."""
    for node in storage.cluster.on("compute").names:
        [report] = attach(evidence, storage.fan_out([node], scratch, job))
        measure(f"storage.virtiofs.{job.name.replace('-', '_')}", report.mib_per_second, "MiB/s", node=node)


@pytest.mark.check("STO-36")
@pytest.mark.parametrize("job", [CHECKPOINT, DATA_LOADER], ids=lambda job: job.name)
def test_training_load(
    storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, baseline: Baseline, job: FioJob
) -> None:
    """A checkpoint written in one piece with fsync, and four loader processes reading samples at random."""
    node = storage.cluster.on("compute").names[0]
    [report] = attach(evidence, storage.fan_out([node], scratch, job))
    metric = f"storage.{job.name.replace('-', '_')}"
    measure(metric, report.mib_per_second, "MiB/s", node=node)
    if (before := baseline.median(metric)) is not None:
        measure(f"{metric}.vs_baseline", report.mib_per_second / before, "fraction", node=node)
    baseline.keep(metric, report.mib_per_second)
