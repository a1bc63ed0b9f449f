"""Streams of TCP between machines, by iperf3: how much of them arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.listening import LISTENING
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result

#: The port that IANA has given to iperf3.
PORT = 5201
#: Seconds of each stream, and after which a server that nobody ended ends itself.
STREAM, SERVER = 1, 600
# Bits of a MiB.
MIB = 8 * 2**20


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
        return float(found["end"]["sum_received"]["bits_per_second"]) / MIB
    except (ValueError, LookupError) as error:
        said = (told.stderr.strip() or told.stdout.strip() or "nothing").splitlines()[-1]
        raise AiHowError(told.node, f"`{told.command}` said {said[:200]!r}", expected="a stream's result") from error


def stream(source: Node, address: str, *, back: bool = False) -> Result:
    """One TCP stream from ``source`` to a server at ``address``, or with ``back`` from there; :func:`rate` reads it."""
    words = ("iperf3", "--client", address, "--port", str(PORT), "--time", str(STREAM), "--json")
    more = ("--connect-timeout", "3000", *(("--reverse",) if back else ()))
    return source.run(*words, *more, check=False, timeout=30.0 + STREAM)


@contextmanager
def serving(node: Node, most: int = SERVER) -> Iterator[None]:
    """A server of iperf3 on a machine for the time of the block. Should nobody end it, ``most`` seconds do."""
    unit = "ai-how-iperf3"
    limits = ("--collect", f"--property=RuntimeMaxSec={most}")
    node.run("systemd-run", f"--unit={unit}", *limits, "iperf3", "--server", "--port", str(PORT))
    try:
        wait_for(
            lambda: any(one.port == PORT for one in LISTENING.of(node.run(*LISTENING.argv))),
            within=20, what=f"listening on port {PORT}", where=node.name, cure=f"read `journalctl -u {unit}` there",
        )  # fmt: skip
        yield
    finally:
        node.run("systemctl", "stop", unit, check=False)
