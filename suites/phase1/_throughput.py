"""How much goes from one machine to another, and how much could at most."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.facts import Fact
from pytest_ai_how.listening import LISTENING
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result

from ._mesh import Pair

#: The port that IANA has given to iperf3.
PORT = 5201
#: Seconds of each stream, and after which a server that nobody ended ends itself.
STREAM, SERVER = 1, 600
LOOPBACK = "127.0.0.1"
# Bits of a MiB.
_MIB = 8 * 2**20


def speeds(text: str) -> dict[str, float]:
    r"""MiB/s of each network card that tells its speed in Mbit/s; what is no card or is not linked tells none.

    >>> speeds("eth0 1000\nens1 -1\neth1\n")
    {'eth0': 119.20928955078125}
    """
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) * 1e6 / _MIB for row in rows if len(row) == 2 and row[1].isdigit() and int(row[1])}


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


def rate(told: Result) -> float:
    """MiB/s that arrived, of ``iperf3 --json`` (3.18). Raises :class:`AiHowError` with iperf3's own words.

    ::

        {"start": {…}, "end": {"sum_received": {"bytes": 1103888384, "bits_per_second": 8713922245.6}}}
        {"start": {}, "intervals": [], "end": {}, "error": "unable to connect to server: Connection refused"}
    """
    try:
        found = json.loads(told.stdout)
        if "error" in found:
            raise AiHowError(told.node, f"iperf3: {found['error']}", expected="a stream")
        return float(found["end"]["sum_received"]["bits_per_second"]) / _MIB
    except (ValueError, LookupError) as error:
        said = (told.stderr.strip() or told.stdout.strip() or "nothing").splitlines()[-1]
        raise AiHowError(told.node, f"`{told.command}` said {said[:200]!r}", expected="a stream's result") from error


def stream(source: Node, address: str, evidence: Evidence, what: str) -> float:
    """MiB/s of one TCP stream from ``source`` to a server at ``address``."""
    words = ("iperf3", "--client", address, "--port", str(PORT), "--time", str(STREAM), "--json")
    told = source.run(*words, "--connect-timeout", "3000", check=False, timeout=30.0 + STREAM)
    evidence.result(told, what)
    return rate(told)


@contextmanager
def serving(node: Node) -> Iterator[None]:
    """A server of iperf3 on a machine, for the time of the block. Should nobody end it, it ends by itself."""
    unit = "ai-how-iperf3"
    limits = ("--collect", f"--property=RuntimeMaxSec={SERVER}")
    node.run("systemd-run", f"--unit={unit}", *limits, "iperf3", "--server", "--port", str(PORT))
    try:
        wait_for(
            lambda: any(one.port == PORT for one in LISTENING.of(node.run(*LISTENING.argv))),
            within=20, what=f"listening on port {PORT}", where=node.name, cure=f"read `journalctl -u {unit}` there",
        )  # fmt: skip
        yield
    finally:
        node.run("systemctl", "stop", unit, check=False)


def ring(names: Sequence[str]) -> tuple[Pair, ...]:
    """Each machine and its neighbours, both ways: all pairs of three machines, and each machine's wire of many."""
    steps = [(name, names[(at + 1) % len(names)]) for at, name in enumerate(names)]
    return tuple(
        dict.fromkeys(Pair(*ends) for one, other in steps for ends in ((one, other), (other, one)) if one != other)
    )
