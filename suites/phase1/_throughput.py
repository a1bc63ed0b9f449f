"""How much goes from one machine to another, and how much could at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pytest_ai_how.facts import Fact

from .._streams import MIB
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


def ring(names: Sequence[str]) -> tuple[Pair, ...]:
    """Each machine and its neighbours, both ways: all pairs of three machines, and each machine's wire of many."""
    steps = [(name, names[(at + 1) % len(names)]) for at, name in enumerate(names)]
    return tuple(
        dict.fromkeys(Pair(*ends) for one, other in steps for ends in ((one, other), (other, one)) if one != other)
    )
