"""How much goes from one machine to another, and how much could at most."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_ai_how.facts import Fact

from .._streams import MIB
from ._mesh import Pair

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


def ring(names: Sequence[str]) -> tuple[Pair, ...]:
    """Each machine and its neighbours, both ways: all pairs of three machines, and each machine's wire of many."""
    steps = [(name, names[(at + 1) % len(names)]) for at, name in enumerate(names)]
    return tuple(
        dict.fromkeys(Pair(*ends) for one, other in steps for ends in ((one, other), (other, one)) if one != other)
    )
