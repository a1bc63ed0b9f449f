"""How much goes from one machine to another, and how much could at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.facts import Fact
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result

from .._streams import MIB, rate, serving, stream
from ._mesh import Pair

T = TypeVar("T")

LOOPBACK = "127.0.0.1"


def speeds(text: str) -> dict[str, float]:
    r"""MiB/s of each network card that tells its speed in Mbit/s; what is no card or is not linked tells none.

    >>> speeds("eth0 1000\nens1 -1\neth1\n")
    {'eth0': 119.20928955078125}
    """
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) * 1e6 / MIB for row in rows if len(row) == 2 and row[1].isdigit() and int(row[1])}


#: sysfs-class-net: a card has a ``device``; a veth has none, and makes up a speed.
SPEEDS = Fact(
    "the speed of its network cards",
    (
        "sh",
        "-c",
        'for card in /sys/class/net/*; do [ ! -e "$card/device" ] || '
        'echo "${card##*/} $(cat "$card/speed" 2>/dev/null)"; done',
    ),
    speeds,
)


def ends(of: Mapping[str, T], link: Pair) -> list[T]:
    """What the two machines of a link have."""
    return [of[link.source], of[link.target]]


def possible(link: Pair, alone: Mapping[str, float], cards: Mapping[str, Mapping[str, float]]) -> float:
    """MiB/s that a link can carry at most.

    It is what the slower of its machines moves to itself, with all of its network stack and no wire; or the speed that
    the slower of their network cards tells, where one does.

    >>> possible(Pair("a", "b"), {"a": 900.0, "b": 800.0}, {"a": {}, "b": {"eth0": 119.0}})
    119.0
    """
    return min(ends(alone, link) + [speed for card in ends(cards, link) for speed in card.values()])


@dataclass(frozen=True, slots=True)
class Path:
    """One direction of a path: MiB/s that one stream of TCP moved, and that could be moved at most."""

    link: Pair
    carried: float
    ceiling: float


def carried(
    cluster: Cluster, links: Sequence[Pair], cards: Mapping[str, Mapping[str, float]], evidence: Evidence
) -> tuple[Path, ...]:
    """Stream over each link, one after the other, once each of its machines has streamed to itself."""

    def arrived(told: Result, what: str) -> float:
        evidence.result(told, what)
        return rate(told)

    nodes = [cluster[name] for name in dict.fromkeys(name for link in links for name in (link.source, link.target))]
    with ExitStack() as servers:
        for node in nodes:
            servers.enter_context(serving(node))
        alone = {node.name: arrived(stream(node, LOOPBACK), f"{node.name}: to itself") for node in nodes}
        found = {link: arrived(stream(cluster[link.source], cluster[link.target].address), str(link)) for link in links}
    return tuple(Path(link, value, possible(link, alone, cards)) for link, value in found.items())


def ring(names: Sequence[str]) -> tuple[Pair, ...]:
    """Each machine and its neighbours, both ways: all pairs of three machines, and each machine's wire of many."""
    steps = [(name, names[(at + 1) % len(names)]) for at, name in enumerate(names)]
    return tuple(
        dict.fromkeys(Pair(*ends) for one, other in steps for ends in ((one, other), (other, one)) if one != other)
    )
