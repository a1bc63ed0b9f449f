"""What lies below BeeGFS: the file systems of its storage targets, and that of its metadata."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from pytest_ai_how.node import Node
from pytest_ai_how.services.beegfs.service import BeeGfs
from pytest_ai_how.services.storage.fio import FioJob, FioReport, MetadataJob
from pytest_ai_how.services.storage.medium import Medium, Moved, device_moved, together
from pytest_ai_how.shell import Result

# Beside the chunks of the target, so in the same file system; BeeGFS leaves it alone.
_FOLDER = ".ai-how-raw"
_METADATA = f"/var/tmp/{_FOLDER}"  # noqa: S108  on the metadata server, made and removed by root


class TargetMedia:
    """The targets' own file systems, all used at the same time: a :class:`~..storage.medium.Bare` medium."""

    def __init__(self, beegfs: BeeGfs) -> None:
        self._beegfs = beegfs
        self._nodes = beegfs.cluster.on("storage")
        self._metadata = beegfs.cluster[beegfs.hosts("metadata")[0]]

    @cached_property
    def directory(self) -> str:
        """The folder beside the chunks of each target."""
        return f"{self._beegfs.store(self._nodes[0])}/{_FOLDER}"

    def measure(self, job: FioJob) -> tuple[FioReport, Result]:
        """Run ``job`` beside all targets at once, its processes shared out among them."""
        share = replace(job, jobs=max(1, round(job.jobs / len(self._nodes))))
        return together(self._nodes.map(lambda node: self.alone(node).measure(share)))

    def measure_metadata(self, job: MetadataJob) -> tuple[dict[str, FioReport], Result]:
        """Run ``job`` on the metadata server's machine."""
        self._metadata.run("mkdir", "-p", _METADATA)
        return Medium(self._metadata, _METADATA).measure_metadata(replace(job, directory=_METADATA))

    def alone(self, node: Node) -> Medium:
        """The file system of one target."""
        node.run("mkdir", "-p", self.directory)
        return Medium(node, self.directory)

    def moved(self) -> Moved:
        """What the devices below the targets moved so far, all together."""
        store = self._beegfs.store(self._nodes[0])
        each = self._nodes.map(lambda node: device_moved(node, store))
        return Moved(sum(one.read for one in each.values()), sum(one.written for one in each.values()))

    def cool(self) -> None:
        """Write back and drop what the machines hold in memory of files."""
        self._beegfs.cluster.all.map(lambda node: node.sh("sync && echo 3 >/proc/sys/vm/drop_caches", timeout=120))

    def clear(self) -> None:
        """See :class:`~..storage.medium.Bare`."""
        self._nodes.run("rm", "-rf", "--", self.directory, timeout=60)
        self._metadata.run("rm", "-rf", "--", _METADATA, timeout=60)
