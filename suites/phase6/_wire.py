"""What the network between compute nodes and the targets of a file system carries, as a ceiling of all I/O over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pytest_ai_how.cluster import Cluster, Nodes
from pytest_ai_how.shell import Result

from .._streams import rate, serving, stream

#: Seconds after which a server that nobody ended ends itself: all of TASK-041 takes emulated machines twenty minutes.
_SERVER = 7200


@dataclass(frozen=True, slots=True)
class Wire:
    """The network from each machine with a target to a compute node, ``pairs`` (target, compute node), all at once.

    ``remote`` is the share of all data that crosses it, when files are striped over all targets: a machine that has a
    target of its own keeps that part.
    """

    cluster: Cluster
    pairs: Sequence[tuple[str, str]]
    remote: float

    def measure(self, rw: str, nodes: int) -> tuple[float, list[Result]]:
        """MiB/s that ``nodes`` compute nodes could write, or else (``rw``) read, if only the network were slow."""
        target = {compute: target for target, compute in self.pairs}
        told = Nodes(self.cluster[name] for name in target).map(
            lambda node: stream(node, self.cluster[target[node.name]].address, back=rw != "write")
        )
        part = nodes / len(self.cluster.on("compute"))
        return sum(rate(one) for one in told.values()) / self.remote * part, list(told.values())

    def one(self, rw: str) -> tuple[float, Result]:
        """MiB/s that one machine could serve, as :meth:`measure` has ``rw``."""
        target, compute = self.pairs[0]
        told = stream(self.cluster[compute], self.cluster[target].address, back=rw != "write")
        return rate(told), told


@contextmanager
def wire(cluster: Cluster) -> Iterator[Wire | None]:
    """The network of a cluster's storage, with servers of iperf3 for the time of the block; None if none is crossed."""
    targets, compute = cluster.on("storage").names, cluster.on("compute").names
    pairs, remote = facing(targets, compute), crossing(targets, compute)
    if not pairs:
        yield None
        return
    with ExitStack() as servers:
        for target, _ in pairs:
            servers.enter_context(serving(cluster[target], _SERVER))
        yield Wire(cluster, pairs, remote)


def facing(targets: Sequence[str], compute: Sequence[str]) -> list[tuple[str, str]]:
    """Machines with a target and a compute node each that is another machine, no machine twice on a side.

    >>> facing(("n1", "n2", "n3"), ("n1", "n2", "n3"))
    [('n1', 'n2'), ('n2', 'n3'), ('n3', 'n1')]
    >>> facing(("s1", "s2"), ("n1",)), facing(("n1",), ("n1",))
    ([('s1', 'n1')], [])
    """
    left = [*compute[1:], *compute[:1]]
    pairs = []
    for target in targets:
        other = next((name for name in left if name != target), None)
        if other:
            left.remove(other)
            pairs.append((target, other))
    return pairs


def crossing(targets: Sequence[str], compute: Sequence[str]) -> float:
    """The share of data that goes to other machines than the one that writes it.

    >>> crossing(("s1", "s2"), ("n1",)), round(crossing(("n1", "n2", "n3"), ("n1", "n2", "n3")), 3)
    (1.0, 0.667)
    """
    return sum(1 - (name in targets) / len(targets) for name in compute) / len(compute)
