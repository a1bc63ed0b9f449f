"""One fio run: its command line, and what its JSON report says.

Option names and the report's keys are fio's own (fio(1), ``--output-format=json``; seen with 3.33 and 3.39).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.shell import Result

MIB = 2**20


@dataclass(frozen=True, slots=True)
class FioJob:
    """One fio job over files in ``directory``.

    Buffers are refilled with fresh random data for every block, so neither compression nor deduplication below can
    make a medium look faster than it is. I/O bypasses the page cache, or, ``cached``, is served from it on purpose;
    ``seconds`` > 0 repeats the pass over the file until that much time has gone.
    """

    name: str
    directory: str
    rw: Literal["write", "read", "randwrite", "randread"] = "write"
    block_kib: int = 1024
    size_mib: int = 256
    seconds: float = 0
    cached: bool = False
    files: int = 1
    jobs: int = 1

    def argv(self) -> tuple[str, ...]:
        """The command line; the report comes on standard output."""
        argv = [
            "fio", f"--name={self.name}", f"--directory={self.directory}", "--ioengine=psync",
            f"--numjobs={self.jobs}", f"--nrfiles={self.files}", "--group_reporting", "--output-format=json",
        ]  # fmt: skip
        argv += [f"--rw={self.rw}", f"--bs={self.block_kib}k", f"--size={self.size_mib}m", "--randrepeat=0"]
        argv += ["--direct=0", "--invalidate=0", "--pre_read=1"] if self.cached else ["--direct=1"]
        if self.rw in ("write", "randwrite"):
            argv += ["--refill_buffers", "--end_fsync=1", "--fallocate=none"]
        if self.files > 1:
            # Below the usual limit of 1024 open files a process.
            argv += ["--openfiles=64"]
        if self.seconds:
            # fio takes whole numbers only; a fraction of a second would count as no time at all.
            argv += ["--time_based", f"--runtime={round(self.seconds * 1000)}ms"]
        return tuple(argv)


#: fio's engines for metadata (fio(1)): files created, looked up, removed. No data is moved.
METADATA_ENGINES = ("filecreate", "filestat", "filedelete")


@dataclass(frozen=True, slots=True)
class MetadataJob:
    """``files`` files a process created, then all looked up, then all removed: one report for each engine."""

    directory: str
    files: int = 500
    jobs: int = 1

    def argv(self) -> tuple[str, ...]:
        """The command line; one engine after the other (``stonewall``) over the same files."""
        argv = [
            "fio", f"--directory={self.directory}", f"--numjobs={self.jobs}", f"--nrfiles={self.files}",
            "--filename_format=metadata.$jobnum.$filenum", "--filesize=4k", "--openfiles=1", "--fallocate=none",
            "--rw=read", "--group_reporting", "--output-format=json",
        ]  # fmt: skip
        for engine in METADATA_ENGINES:
            argv += [f"--name={engine}", "--stonewall", f"--ioengine={engine}"]
        return tuple(argv)


@dataclass(frozen=True, slots=True)
class FioReport:
    """What one run of fio measured.

    ``bytes`` moved in ``seconds`` of I/O time, ``operations`` completed; ``started`` is the job's start in seconds
    since the epoch by the node's clock (0 where fio is too old to say). ``device_read_mib`` and ``device_write_mib``
    are what the block devices below moved meanwhile, in MiB, None where fio saw no block device (BeeGFS, NFS).
    """

    node: str
    version: str
    bytes: int
    seconds: float
    operations: int
    started: float = 0.0
    device_read_mib: float | None = None
    device_write_mib: float | None = None

    @property
    def mib_per_second(self) -> float:
        """Bandwidth in MiB/s."""
        return self.bytes / MIB / self.seconds

    @property
    def operations_per_second(self) -> float:
        """Completed operations a second (IOPS for data, files a second for metadata engines)."""
        return self.operations / self.seconds


def parse_report(result: Result) -> FioReport:
    """Read the one job of fio's report, as :func:`parse_reports` does."""
    return next(iter(parse_reports(result).values()))


def parse_reports(result: Result) -> dict[str, FioReport]:
    """Read fio's JSON report from the standard output of ``result``, by job name.

    Raises :class:`~pytest_ai_how.errors.AiHowError`, machine first, when fio failed, printed no report, or measured
    nothing at all.
    """
    report = _load(result)
    disks: list[Mapping[str, Any]] = report.get("disk_util") or []
    return {str(job["jobname"]): _job_report(job, result, str(report["fio version"]), disks) for job in report["jobs"]}


def _job_report(job: Mapping[str, Any], result: Result, version: str, disks: list[Mapping[str, Any]]) -> FioReport:
    side = max((job["read"], job["write"]), key=lambda part: int(part["total_ios"]))
    failed = result.returncode or int(job["error"])
    if failed:
        reason = (result.stderr.strip() or "no reason given").splitlines()[0]
        raise AiHowError(result.node, f"fio {job['jobname']} failed with error {failed}: {reason}")
    seconds = float(side["runtime"]) / 1000
    if not side["total_ios"] or not seconds:
        raise AiHowError(result.node, f"fio {job['jobname']} measured nothing: no operation completed")
    return FioReport(
        node=result.node,
        version=version,
        bytes=int(side["io_bytes"]),
        seconds=seconds,
        operations=int(side["total_ios"]),
        started=float(job.get("job_start", 0)) / 1000,
        device_read_mib=_device_mib(disks, "read_sectors"),
        device_write_mib=_device_mib(disks, "write_sectors"),
    )


def _device_mib(disks: list[Mapping[str, Any]], key: str) -> float | None:
    # A sector of /proc/diskstats, where fio reads them, is 512 bytes whatever the device's own (proc_diskstats(5)).
    sectors = [int(disk[key]) for disk in disks if key in disk]
    return sum(sectors) * 512 / MIB if sectors else None


def _load(result: Result) -> dict[str, Any]:
    # fio may print notices before the report ("fio: this platform does not support …").
    start = result.stdout.find("{")
    try:
        report: dict[str, Any] = json.loads(result.stdout[start:]) if start >= 0 else {}
    except ValueError:
        report = {}
    if not report.get("jobs"):
        said = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[0][:200]
        raise AiHowError(result.node, f"`{result.command}` gave no report (exit status {result.returncode}): {said}")
    return report


def aggregate_mib_per_second(reports: Iterable[FioReport]) -> float:
    """The bandwidth of several nodes together: all their bytes over the time from the first start to the last end.

    Adding up each node's own bandwidth would count a node that ran alone as if it had shared the medium.
    """
    every = list(reports)
    if not every:
        raise AiHowError("fio", "no node reported anything")
    if all(report.started for report in every):
        window = max(report.started + report.seconds for report in every) - min(report.started for report in every)
    else:
        window = max(report.seconds for report in every)
    return sum(report.bytes for report in every) / MIB / window
