"""TASK-041: how fast the shared file system is, as a fraction of the bare medium below it, measured in the same run.

Incompressible data, direct I/O, fsync at the end. Nothing else of this run uses the medium or starts containers
meanwhile (``exclusive``); faults of Slurm, which are waited for, run beside it. What other users of the machine take
from the medium is why each figure has its own ceiling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from pytest_ai_how.limits import Limits
from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.services.storage.baseline import Baseline
from pytest_ai_how.services.storage.fio import (
    METADATA_ENGINES,
    MIB,
    FioJob,
    FioReport,
    MetadataJob,
    aggregate_mib_per_second,
)
from pytest_ai_how.shell import Result
from pytest_ai_how.skin.keys import CREW

from ._beside import PASSES, Compared, beside_the_medium, metadata_beside_the_medium, raw_medium, timed
from ._chain import Chain, layers
from ._wire import Wire, wire

pytestmark = [
    pytest.mark.requires("shared-storage", "storage.raw"),
    pytest.mark.exclusive("storage", "registry", "apptainer"),
    pytest.mark.xdist_group("TASK-041"),
]

Reports = Mapping[str, tuple[FioReport, Result]]

#: What the baseline is of: the share of the bare medium that reads reach.
FRACTION = "storage.seq_read.fraction"
#: What all nodes together write.
WRITTEN = "storage.seq_write"
#: What some nodes write together, of what is possible.
SCALING = "storage.scaling_efficiency"
#: How much is written of a checkpoint, MiB.
VOLUME = "storage.checkpoint_volume"

# How many seconds those with a time last, and how large a checkpoint is, the limits say.
WRITE = FioJob("seq-write", "", rw="write", seconds=1)
READ = FioJob("seq-read", "", rw="read", seconds=1)
RANDOM_READ = FioJob("random-read", "", rw="randread", block_kib=4, size_mib=64, seconds=1)
RANDOM_WRITE = FioJob("random-write", "", rw="randwrite", block_kib=4, size_mib=64, seconds=1)
SMALL_FILES = FioJob("small-files", "", rw="write", block_kib=4, size_mib=2, files=500)
METADATA = MetadataJob("", files=500)
CHECKPOINT = FioJob("checkpoint", "", rw="write", block_kib=4096)
DATA_LOADER = FioJob("data-loader", "", rw="randread", block_kib=128, size_mib=64, jobs=4, seconds=1)


@pytest.fixture(scope="module")
def between(storage: Storage, request: pytest.FixtureRequest) -> Iterator[Wire | None]:
    """The network that data crosses; None where it is on the machine itself, or nothing is there to measure it."""
    if storage.kind != "beegfs" or request.config.stash[CREW].orders.why_absent("network.throughput"):
        yield None
        return
    with wire(storage.cluster) as found:
        yield found


@pytest.fixture(scope="module")
def writing(storage: Storage, scratch: str, limits: Limits, between: Wire | None) -> Compared:
    """All compute nodes write at once; measured once for all checks that judge it."""
    return beside_the_medium(storage, scratch, timed(WRITE, limits), wire=between)


@pytest.fixture(scope="module")
def reading(storage: Storage, scratch: str, limits: Limits, between: Wire | None) -> Compared:
    """All compute nodes read at once past the page cache; measured once for all checks that judge it."""
    return beside_the_medium(storage, scratch, timed(READ, limits), wire=between)


def typical_of_one_node(storage: Storage, scratch: str, job: FioJob, evidence: Evidence) -> FioReport:
    """The pass of ``job`` in the middle of several on the first compute node alone."""
    node = storage.cluster.on("compute").names[0]
    passes = [attach(evidence, storage.fan_out([node], scratch, job))[0] for _ in range(PASSES)]
    return sorted(passes, key=lambda report: report.operations_per_second)[PASSES // 2]


def against_baseline(
    metric: str, value: float, node: str, measure: Measurements, baseline: Baseline, *, of: str = ""
) -> None:
    """Judge a figure against earlier runs on this host, and remember it, good or bad; ``of`` is what it is of.

    Were only good ones remembered, a first run that met a burst of the medium would be what all others are held to.
    """
    kept = f"{metric} {of}".rstrip()
    before = baseline.median(kept)
    baseline.keep(kept, value)
    if before is not None:
        measure(f"{metric}.vs_baseline", value / before, "fraction", node=node)


def claimed_but_not_moved(report: FioReport) -> str:
    """How what a report claims differs from what the devices below moved; '' when it agrees or cannot be told.

    fio reads the devices' counters a little before its own end, so they lag by up to its last interval.
    """
    moved = max(report.device_read_mib or 0.0, report.device_write_mib or 0.0)
    claimed = report.bytes / MIB
    if report.device_read_mib is None or moved >= claimed / 2:
        return ""
    return f"{report.node}: fio claims {claimed:.0f} MiB, but the devices below moved {moved:.0f} MiB"


@pytest.fixture(scope="module")
def metadata(storage: Storage, scratch: str) -> dict[str, Compared]:
    """All compute nodes create, look up and remove files at once; measured once, by engine."""
    return metadata_beside_the_medium(storage, scratch, METADATA)


@pytest.fixture(scope="module")
def scratch(storage: Storage, run_id: str) -> Iterator[str]:
    """A folder on the shared file system, removed afterwards."""
    folder = storage.scratch(f"perf-{run_id}")
    yield folder
    storage.discard(folder)
    for bare in (storage.raw, storage.disk):
        if bare is not None:
            bare.clear()


def attach(evidence: Evidence, reports: Reports) -> list[FioReport]:
    """Attach each node's fio report and return them parsed."""
    for _, result in reports.values():
        evidence.result(result)
    return [report for report, _ in reports.values()]


@pytest.mark.check("STO-18")
def test_sequential_write(  # noqa: PLR0917  fixtures, by name
    storage: Storage,
    writing: Compared,
    scratch: str,
    evidence: Evidence,
    measure: Measurements,
    culprit: Culprit,
    between: Wire | None,
) -> None:
    """All compute nodes write at once; the sum is judged against what is possible, and who keeps it low is named."""
    names = storage.cluster.on("compute").names

    def enough(some: Sequence[str]) -> None:
        """Judge what was measured of all; in a re-run, measure some beside the medium, and record nothing."""
        if not measure.items:
            judge_bandwidth("write", writing, evidence, measure)
            return
        # One pass: three took emulated machines 92 s, and a moment of trouble is told by the round that confirms.
        again = beside_the_medium(storage, scratch, timed(WRITE, measure.limits), some, passes=1, wire=between)
        again.attach(evidence)
        reached = again.reached * (len(names) / len(some) if absolute(measure.limits, WRITTEN) else 1)
        judged = measure.limits.judge(WRITTEN, reached, "MiB/s", ceiling=again.ceiling)
        assert judged.outcome != "fail", judged.reason

    if len(names) > 1:
        culprit.of(names, enough, on=LimitExceeded)
    else:
        enough(names)


def absolute(limits: Limits, metric: str) -> bool:
    """Whether a limit is a number for all nodes together, of which some have to reach their part, and no share."""
    gate = limits[metric].gate
    return gate is not None and gate.min is not None


@pytest.mark.check("STO-19")
def test_sequential_read(reading: Compared, evidence: Evidence, measure: Measurements, baseline: Baseline) -> None:
    """All compute nodes read at once past the page cache; the sum is judged against the bare medium."""
    judge_bandwidth("read", reading, evidence, measure)
    if baseline.median(FRACTION) is None:  # from the second run on, STO-24 remembers what it let pass
        baseline.keep(FRACTION, share(reading))


def share(compared: Compared) -> float:
    """The share of the medium that was reached: above all of it is noise, which nobody is to be held to later."""
    return min(compared.reached / compared.ceiling, 1.0)


def judge_bandwidth(direction: str, compared: Compared, evidence: Evidence, measure: Measurements) -> None:
    """The devices below confirm each node's figure; the sum is the share of the possible that the limits ask for."""
    compared.attach(evidence)
    for report in compared.reports:
        assert not (wrong := claimed_but_not_moved(report)), f"{wrong}: the figures come from a cache"
    measure.ceiling(f"storage.raw.seq_{direction}", compared.medium, "MiB/s")
    if compared.network is not None:
        measure.ceiling(f"storage.network.{direction}", compared.network, "MiB/s")
    measure.ceiling(f"storage.possible.seq_{direction}", compared.ceiling, "MiB/s")
    measure(f"storage.seq_{direction}", compared.reached, "MiB/s", ceiling=compared.ceiling)


@pytest.mark.check("STO-20")
def test_scaling(storage: Storage, writing: Compared, scratch: str, evidence: Evidence, measure: Measurements) -> None:
    """N nodes write N times what one writes, or all that the medium can take, whichever is less: 2, 3 … all of them."""
    nodes = storage.cluster.on("compute").names
    assert len(nodes) > 1, f"{storage.cluster.name}: one compute node; scaling needs at least two"
    writing.attach(evidence)
    job = timed(WRITE, measure.limits)
    alone = typical_of_one_node(storage, scratch, job, evidence).mib_per_second
    most = measure.limits[SCALING].physical_max
    if most is not None and writing.reached > most * len(nodes) * alone:
        # Other users of the medium disturbed the node alone, or a cache took what all wrote: one more look tells.
        alone = max(alone, typical_of_one_node(storage, scratch, job, evidence).mib_per_second)
    reached = {1: alone}
    reached |= {some: typical_of_some(storage, scratch, job, some, evidence) for some in range(2, len(nodes))}
    reached[len(nodes)] = writing.reached
    curve = (f"{some} nodes: {rate:.1f} MiB/s, {rate / (some * alone):.2f} of linear" for some, rate in reached.items())
    evidence.attach("scaling over nodes", "\n".join([*curve, f"possible: {writing.ceiling:.1f} MiB/s"]))
    for some, rate in list(reached.items())[1:]:
        possible = min(some * alone, writing.ceiling)
        measure(SCALING, rate / possible, "fraction", node=f"{', '.join(nodes[:some])}")


@pytest.mark.check("STO-18")
def test_no_layer_slows_writing(chain: Chain, evidence: Evidence, measure: Measurements) -> None:
    """Disk, target, shared file system, container: each layer writes what the limits ask for of the one below it."""
    chain.judge(timed(WRITE, measure.limits), evidence, measure)


@pytest.mark.check("STO-19")
def test_no_layer_slows_reading(chain: Chain, evidence: Evidence, measure: Measurements) -> None:
    """As :func:`test_no_layer_slows_writing`, for reads past all caches."""
    chain.judge(timed(READ, measure.limits), evidence, measure)


@pytest.fixture(scope="module")
def chain(storage: Storage, apptainer: Apptainer, registry: Registry, scratch: str, between: Wire | None) -> Chain:
    """The layers that data passes on its way from the disk into a container."""
    return Chain(layers(storage, apptainer, registry.path("base"), scratch), between)


def typical_of_some(storage: Storage, scratch: str, job: FioJob, some: int, evidence: Evidence) -> float:
    """The pass of ``job`` in the middle of several on the first nodes together, MiB/s."""
    names = storage.cluster.on("compute").names[:some]
    passes = [aggregate_mib_per_second(attach(evidence, storage.fan_out(names, scratch, job))) for _ in range(PASSES)]
    return sorted(passes)[PASSES // 2]


@pytest.mark.check("STO-21")
@pytest.mark.parametrize("engine", METADATA_ENGINES)
def test_metadata(metadata: Mapping[str, Compared], evidence: Evidence, measure: Measurements, engine: str) -> None:
    """Files created, looked up and removed a second by all compute nodes at once."""
    compared = metadata[engine]
    compared.attach(evidence)
    measure.ceiling(f"storage.raw.metadata.{engine}", compared.ceiling, "ops/s")
    measure(f"storage.metadata.{engine}", compared.reached, "ops/s", ceiling=compared.ceiling)


@pytest.mark.check("STO-22")
@pytest.mark.parametrize("job", [RANDOM_READ, RANDOM_WRITE, SMALL_FILES], ids=lambda job: job.name)
def test_small_io(
    storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, baseline: Baseline, job: FioJob
) -> None:
    """4 KiB random I/O and 4 KiB files of one node, recorded, and compared with what this host gave before."""
    report = typical_of_one_node(storage, scratch, timed(job, measure.limits), evidence)
    metric = f"storage.{job.name.replace('-', '_')}"
    measure(metric, report.operations_per_second, "ops/s", node=report.node)
    against_baseline(metric, report.operations_per_second, report.node, measure, baseline)


@pytest.mark.check("STO-23")
@pytest.mark.requires("beegfs")
def test_faster_than_one_directory(
    storage: Storage, reading: Compared, evidence: Evidence, measure: Measurements, between: Wire | None
) -> None:
    """BeeGFS over all nodes against what one machine could serve of a directory: its disk, through its network."""
    reading.attach(evidence)
    medium = storage.disk or raw_medium(storage)
    single, result = medium.measure(replace(timed(READ, measure.limits), directory=medium.directory))
    evidence.result(result)
    served = single.mib_per_second
    if between:
        server, told = between.one("read")
        evidence.result(told)
        served = min(served, server)
    measure.ceiling("storage.vs_single_directory.possible", reading.ceiling / served, "fraction", node=single.node)
    measure("storage.vs_single_directory", reading.reached / served, "fraction", node=single.node)


@pytest.mark.check("STO-24")
@pytest.mark.requires("storage.baseline")
def test_no_regression(reading: Compared, evidence: Evidence, measure: Measurements, baseline: Baseline) -> None:
    """The fraction of the medium that the shared file system reaches is what it was on this host."""
    reading.attach(evidence)
    evidence.attach("baseline", baseline.describe(FRACTION))
    before = baseline.median(FRACTION)
    assert before is not None, f"{baseline.path}: no figure of an earlier run, though the profile says there is one"
    measure("storage.regression", share(reading) / before, "fraction")
    baseline.keep(FRACTION, share(reading))


@pytest.mark.check("STO-25")
def test_measurement_is_sound(
    storage: Storage, reading: Compared, scratch: str, evidence: Evidence, limits: Limits
) -> None:
    """A read past the cache is confirmed by the devices below; a read from memory, made on purpose, is found out."""
    reading.attach(evidence)
    direct = reading.reports[0]
    assert direct.device_read_mib is not None, (
        f"{direct.node}: fio saw no block device below {storage.mount}, so nothing confirms its figures"
    )
    assert not (wrong := claimed_but_not_moved(direct)), f"{wrong}: direct I/O is not direct there"
    from_memory = replace(timed(READ, limits), cached=True)
    # The first brings the file into memory, on BeeGFS into that of its servers, and moves it once for that.
    storage.fan_out([direct.node], scratch, from_memory)
    [cached] = attach(evidence, storage.fan_out([direct.node], scratch, from_memory))
    judged = limits.judge("storage.seq_read", cached.mib_per_second, "MiB/s", ceiling=reading.ceiling)
    found_out = claimed_but_not_moved(cached) or (judged.reason if judged.invalid else "")
    evidence.attach("judgement of a read from memory", found_out or f"not noticed: {judged}")
    assert found_out, (
        f"{direct.node}: a read from memory ({cached.mib_per_second:.0f} MiB/s) passes as one from a medium of "
        f"{reading.ceiling:.0f} MiB/s; lower the physical limit of storage.seq_read"
    )


@pytest.mark.check("STO-35")
@pytest.mark.requires("virtiofs")
@pytest.mark.parametrize("job", [WRITE, READ], ids=lambda job: job.name)
def test_virtiofs(storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, job: FioJob) -> None:
    """Each node alone through its virtiofs mount, beside the directory of this host that is behind it."""
    metric = job.name.replace("-", "_")
    for node in storage.cluster.on("compute").names:
        compared = beside_the_medium(storage, scratch, timed(job, measure.limits), [node])
        compared.attach(evidence)
        for report in compared.reports:
            assert not (wrong := claimed_but_not_moved(report)), f"{wrong}: the figures come from a cache"
        measure.ceiling(f"storage.raw.{metric}", compared.ceiling, "MiB/s", node=node)
        measure(f"storage.virtiofs.{metric}", compared.reached, "MiB/s", node=node)


@pytest.mark.check("STO-36")
@pytest.mark.parametrize("job", [CHECKPOINT, DATA_LOADER], ids=lambda job: job.name)
def test_training_load(
    storage: Storage, scratch: str, evidence: Evidence, measure: Measurements, baseline: Baseline, job: FioJob
) -> None:
    """A checkpoint written in one piece with fsync, and four loader processes reading samples at random."""
    job = timed(job, measure.limits) if job.seconds else as_large_as_asked(job, measure.limits)
    report = typical_of_one_node(storage, scratch, job, evidence)
    metric, of = f"storage.{job.name.replace('-', '_')}", ""
    if not job.seconds:
        measure(VOLUME, report.bytes / MIB, "MiB", node=report.node)
        of = f"of {job.size_mib} MiB"  # a larger one is another figure: bursts of the medium end
    measure(metric, report.mib_per_second, "MiB/s", node=report.node)
    against_baseline(metric, report.mib_per_second, report.node, measure, baseline, of=of)


def as_large_as_asked(job: FioJob, limits: Limits) -> FioJob:
    """``job`` with as many whole blocks as make up the volume that the limits ask for: fio writes no part of one."""
    blocks = -(-round(limits.minimum(VOLUME, "MiB") * 1024) // job.block_kib)
    return replace(job, size_mib=blocks * job.block_kib // 1024)
