"""The layers that data passes between the disk and a program in a container, each measured against the one below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.storage import Bare, Storage
from pytest_ai_how.services.storage.fio import FioJob, FioReport, aggregate_mib_per_second, parse_report
from pytest_ai_how.shell import Result

from ._beside import PASSES
from ._wire import Wire

#: Where the node's own fio and its libraries are bound to in a container; images need not have it.
_TOOLS = "/opt/ai-how"
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_BOUND = "/bound"
#: The layer that data reaches over the network, and what that is called beside the layers.
SHARED, NETWORK = "shared", "network"
Reports = Mapping[str, tuple[FioReport, Result]]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its name in the limits, the machines that it is measured on, how, and what makes it cold before."""

    name: str
    nodes: tuple[str, ...]
    measure: Callable[[FioJob], Reports]
    cool: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Chain:
    """Layers, the lowest first; data crosses ``wire`` below the layer ``shared``."""

    layers: Sequence[Layer]
    wire: Wire | None = None

    def judge(self, job: FioJob, evidence: Evidence, measure: Measurements) -> None:
        """Measure all layers in turns, and judge each as a share of the one below it, from the bottom up.

        The first line of a failure so names the lowest layer that slows down. A layer that is fast only because
        the one below was disturbed for a moment does not count: the median of the passes does. Below a network is
        what comes through it.
        """
        if job.rw == "read":
            for layer in self.layers:
                layer.measure(job)  # lays the files out, which would else be read while they are still in memory
        passes = [self._one_pass(job, evidence) for _ in range(PASSES)]
        pairs = list(zip(self.layers, self.layers[1:], strict=False))
        shares = {
            upper.name: median(one[upper.name] / _below(one, lower, upper) for one in passes) for lower, upper in pairs
        }
        rates = {name: median(one[name] for one in passes) for name in passes[0]}
        lines = [
            f"{layer.name:9} {rates[layer.name]:9.1f} MiB/s"
            + (f"  {shares[layer.name]:6.2f} of the layer below" if layer.name in shares else "")
            for layer in self.layers
        ]
        if self.wire:
            lines.append(f"{NETWORK:9} {rates[NETWORK]:9.1f} MiB/s, before what is shared")
        evidence.attach(f"the chain, {job.rw}", "\n".join(lines))
        for _, upper in pairs:
            measure(f"storage.chain.{upper.name}.{job.rw}", shares[upper.name], "fraction", node=", ".join(upper.nodes))

    def _one_pass(self, job: FioJob, evidence: Evidence) -> dict[str, float]:
        rates = {}
        if self.wire:
            rates[NETWORK], told = self.wire.measure(job.rw, len(self.layers[-1].nodes))
            for result in told:
                evidence.result(result, f"{NETWORK}: {result.node}")
        for layer in self.layers:
            layer.cool()
            reports = layer.measure(job)
            for _, result in reports.values():
                evidence.result(result, f"{layer.name}: {result.node}")
            rates[layer.name] = aggregate_mib_per_second(report for report, _ in reports.values())
        return rates


def _below(rates: Mapping[str, float], lower: Layer, upper: Layer) -> float:
    """What a layer could give: all of the one below it, as far as a network between them carries it."""
    if upper.name == SHARED and NETWORK in rates:
        return min(rates[lower.name], rates[NETWORK])
    return rates[lower.name]


def layers(storage: Storage, apptainer: Apptainer, image: str, scratch: str) -> tuple[Layer, ...]:
    """The layers of a cluster: the disk, on BeeGFS its targets, the shared file system, a container on it."""
    assert storage.raw is not None, "requires('storage.raw') let a cluster without one through"
    nodes = storage.cluster.on("compute")
    lowest = storage.disk or storage.raw
    found = [bare_layer("disk", ("this host",), lowest, len(nodes))]
    if storage.disk:
        found.append(bare_layer("target", storage.cluster.on("storage").names, storage.raw, len(nodes)))
    cool = storage.raw.cool
    found.append(Layer(SHARED, nodes.names, lambda job: storage.fan_out(nodes.names, f"{scratch}/chain", job), cool))
    inside = Container(apptainer, image, f"{scratch}/contained")
    found.append(Layer("container", nodes.names, lambda job: nodes.map(lambda node: inside.measure(node, job)), cool))
    return tuple(found)


def bare_layer(name: str, where: tuple[str, ...], bare: Bare, jobs: int) -> Layer:
    """A layer below the shared file system, used by as many processes as there are nodes above."""

    def measure(job: FioJob) -> Reports:
        found = bare.measure(replace(job, directory=bare.directory, jobs=jobs))
        return {found[0].node: found}

    return Layer(name, where, measure, bare.cool)


@dataclass(frozen=True, slots=True)
class Container:
    """A container that does I/O in a folder of its node's on the shared file system, with the node's own fio."""

    apptainer: Apptainer
    image: str
    folder: str

    def measure(self, node: Node, job: FioJob) -> tuple[FioReport, Result]:
        """Run ``job`` in it, as the user that jobs run as."""
        own = f"{self.folder}/{node.name}"
        node.run("mkdir", "-p", own)
        node.run("chown", f"{self.apptainer.user}:", own)
        binds = (f"{own}:{_BOUND}", f"{_LIBRARIES}:{_TOOLS}/lib:ro", f"/usr/bin/fio:{_TOOLS}/fio:ro")
        # Debian's fio can do I/O to Ceph, whose libraries lie in a folder of their own.
        path = f"{_TOOLS}/lib:{_TOOLS}/lib/ceph"
        loader = (f"{_TOOLS}/lib/ld-linux-x86-64.so.2", "--library-path", path, f"{_TOOLS}/fio")
        words = replace(job, directory=_BOUND).argv()[1:]
        result = self.apptainer.exec(node, self.image, *loader, *words, binds=binds, timeout=120)
        return parse_report(result), result
