"""Where I/O is measured: a folder on a machine, and what lies below a shared file system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.services.storage.fio import FioJob, FioReport, MetadataJob, parse_report, parse_reports
from pytest_ai_how.shell import Result, quote

# fio on an idle medium ends in seconds; on a hanging one it must not hold the run.
FIO_TIMEOUT = 120.0
# A sector in a block device's statistics is 512 bytes whatever the device's own (kernel.org, block/stat).
_SECTORS_IN_MIB = 2**20 / 512
# Without --raw the number is padded with blanks (util-linux 2.41).
_STATISTICS = "cat /sys/dev/block/$(findmnt --raw --noheadings --output MAJ:MIN --target {})/stat"


@dataclass(frozen=True, slots=True)
class Moved:
    """What block devices moved since they were there, in MiB."""

    read: float
    written: float


class Bare(Protocol):
    """What lies below a shared file system, on one machine or several."""

    @property
    def directory(self) -> str:
        """The folder in which files are written and read, on each of its machines."""

    def measure(self, job: FioJob) -> tuple[FioReport, Result]:
        """Run ``job``, its processes shared out among the machines; one report of them together, and the evidence."""

    def measure_metadata(self, job: MetadataJob) -> tuple[dict[str, FioReport], Result]:
        """Run ``job`` where metadata is kept; a report by engine, and the evidence."""

    def moved(self) -> Moved | None:
        """What its block devices moved so far; None where fio on the nodes sees them itself."""

    def cool(self) -> None:
        """Make sure that the next read is not served from the memory of the machines below."""

    def clear(self) -> None:
        """Remove what measurements left."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A folder on a machine; a :class:`Bare` medium below a folder of the same file system.

    ``serves``: others reach that by virtiofs, and their fio sees no device. What the device here moves tells then.
    """

    node: Node
    directory: str
    serves: bool = False

    def measure(self, job: FioJob) -> tuple[FioReport, Result]:
        """Run ``job`` here, in the foreground; the report, and the command with its whole output as evidence."""
        result = self.node.run(*job.argv(), check=False, timeout=FIO_TIMEOUT)
        return parse_report(result), result

    def measure_metadata(self, job: MetadataJob) -> tuple[dict[str, FioReport], Result]:
        """Run ``job`` here; a report by engine, and the command with its whole output as evidence."""
        result = self.node.run(*job.argv(), check=False, timeout=FIO_TIMEOUT)
        return parse_reports(result), result

    def moved(self) -> Moved | None:
        """None where fio sees the devices below a folder itself."""
        return device_moved(self.node, self.directory) if self.serves else None

    def cool(self) -> None:
        """Direct I/O passes the page cache, that of the machine which serves it as well."""

    def clear(self) -> None:
        """See :class:`Bare`."""
        self.node.run("find", self.directory, "-mindepth", "1", "-delete", timeout=60)


def device_moved(node: Node, path: str) -> Moved:
    """What the block device below a folder moved so far. Raises CommandError where there is none (btrfs, tmpfs)."""
    return parse_statistics(node.sh(_STATISTICS.format(quote([path]))).stdout)


def parse_statistics(text: str) -> Moved:
    """Read ``/sys/dev/block/…/stat`` (kernel.org, block/stat): the third field is sectors read, the seventh written.

    >>> parse_statistics("  312  12  4096  90  870  550  20480  1200  0  900  1300  0 0 0 0 0 0")
    Moved(read=2.0, written=10.0)
    """
    fields = text.split()
    return Moved(int(fields[2]) / _SECTORS_IN_MIB, int(fields[6]) / _SECTORS_IN_MIB)


def together(reports: Mapping[str, tuple[FioReport, Result]]) -> tuple[FioReport, Result]:
    """Several machines that ran the same job at once, as if they were one: bytes added up over the common window."""
    if not reports:
        raise AiHowError("fio", "no node reported anything")
    each = [report for report, _ in reports.values()]
    ends = max(report.started + report.seconds for report in each)
    known = all(report.started for report in each)
    one = FioReport(
        node=", ".join(reports),
        version=each[0].version,
        bytes=sum(report.bytes for report in each),
        seconds=ends - min(report.started for report in each) if known else max(report.seconds for report in each),
        operations=sum(report.operations for report in each),
        started=min(report.started for report in each),
    )
    results = [result for _, result in reports.values()]
    said = "\n".join(result.describe(lines=400) for result in results)
    status = max(result.returncode for result in results)
    return one, Result(results[0].argv, status, said, "", max(result.seconds for result in results), one.node)
