"""The shared file system as a service of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_ai_how.cluster import Cluster, Nodes
from pytest_ai_how.node import Node
from pytest_ai_how.services.bounded import bounded, hung
from pytest_ai_how.services.storage.fio import FioJob, FioReport, MetadataJob
from pytest_ai_how.services.storage.medium import Bare, Medium, Moved
from pytest_ai_how.services.storage.mounts import FINDMNT, parse_mount
from pytest_ai_how.shell import Result


class Storage:
    """The shared file system that the configuration names at ``storage.mount``."""

    name = "storage"

    def __init__(self, cluster: Cluster, raw: Bare | None = None, disk: Bare | None = None) -> None:
        """``raw`` is what lies right below and can be measured, None where nobody knows such a place.

        ``disk`` is what lies below that, where it is something else: the disk under the targets of BeeGFS.
        """
        self.cluster, self.raw, self.disk = cluster, raw, disk
        self.mount = cluster.config.storage.mount
        self.kind = cluster.config.storage.kind
        self.needs: tuple[str, ...] = ("beegfs",) if self.kind == "beegfs" else ()

    def mounts(self) -> dict[str, str | None]:
        """The file system type mounted at ``storage.mount`` on each node, None where nothing is mounted there.

        A scratch folder is no mount; then it is the type of what it lies on, as stat(1) has it.
        """
        if self.kind == "scratch":
            told = self.cluster.all.map(lambda node: bounded(node, "stat", "--file-system", "--format=%T", self.mount))
            return {node: result.stdout.strip() or None for node, result in told.items()}
        results = self.cluster.all.map(lambda node: parse_mount(bounded(node, *FINDMNT, self.mount)))
        return {node: mount.type if mount else None for node, mount in results.items()}

    def faults(self) -> tuple[str, ...]:
        """One line a node that has nothing mounted, another type than declared, or a mount that cannot be written."""
        faults = []
        expected = "beegfs" if self.kind == "beegfs" else None
        for node, kind in self.mounts().items():
            if kind is None:
                what = "there is no folder" if self.kind == "scratch" else "nothing is mounted at"
                faults.append(f"{node}: {what} {self.mount}")
            elif expected and kind != expected:
                faults.append(f"{node}: {self.mount} is a {kind} file system, expected {expected}")
        writable = self.cluster.all.map(lambda node: bounded(node, "test", "-w", self.mount))
        for node, result in writable.items():
            if not result.ok:
                why = ": the file system does not answer" if hung(result) else ""
                faults.append(f"{node}: {self.mount} cannot be written{why}")
        return tuple(faults)

    def scratch(self, name: str) -> str:
        """Make and return a folder of our own on the shared file system; :meth:`discard` removes it."""
        folder = f"{self.mount}/.ai-how-{name}"
        self.cluster.controller.run("mkdir", "-p", folder)
        return folder

    def discard(self, folder: str) -> None:
        """Remove a folder that :meth:`scratch` made, and refuse any other."""
        if not folder.startswith(f"{self.mount}/.ai-how-") or "/../" in folder:
            raise ValueError(f"{folder!r} was not made by Storage.scratch")
        self.cluster.controller.run("rm", "-rf", "--", folder, timeout=60)

    def fan_out(self, nodes: Sequence[str], folder: str, job: FioJob) -> dict[str, tuple[FioReport, Result]]:
        """Run ``job`` on several nodes at once, each in a folder of its own below ``folder``.

        Where fio sees no block device, the reports have what the devices of :attr:`raw` moved meanwhile, each node's
        by its share of the bytes.
        """
        before = self.raw.moved() if self.raw else None
        found = self._nodes(nodes).map(
            lambda node: (own := self._own(node, folder)).measure(replace(job, directory=own.directory))
        )
        after = self.raw.moved() if self.raw and before else None
        return found if before is None or after is None else confirmed(found, before, after)

    def fan_out_metadata(
        self, nodes: Sequence[str], folder: str, job: MetadataJob
    ) -> dict[str, tuple[dict[str, FioReport], Result]]:
        """As :meth:`fan_out`, for metadata."""
        return self._nodes(nodes).map(
            lambda node: (own := self._own(node, folder)).measure_metadata(replace(job, directory=own.directory))
        )

    def _nodes(self, names: Sequence[str]) -> Nodes:
        return Nodes(self.cluster[name] for name in names)

    def _own(self, node: Node, folder: str) -> Medium:
        own = f"{folder}/{node.name}"
        node.run("mkdir", "-p", own)
        return Medium(node, own)


def confirmed(
    found: dict[str, tuple[FioReport, Result]], before: Moved, after: Moved
) -> dict[str, tuple[FioReport, Result]]:
    """The reports with what devices moved from ``before`` to ``after``, shared out by the bytes that each claims."""
    claimed = sum(report.bytes for report, _ in found.values())

    def share(report: FioReport) -> FioReport:
        part = report.bytes / claimed
        read, written = (after.read - before.read) * part, (after.written - before.written) * part
        return replace(report, device_read_mib=read, device_write_mib=written)

    return {node: (share(report), result) for node, (report, result) in found.items()}
