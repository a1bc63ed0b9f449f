"""Whether each machine reaches each other one: what is sent, what comes back, and who is to blame when it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import CommandTimeout, TransportError
from pytest_ai_how.facts import Fact, read
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result

#: Echo requests for each pair, some milliseconds apart: one that is lost is 5 %. A pair that failed is sent more, which
#: all come back by luck in one of twenty cases where 5 % are lost.
REQUESTS, AGAIN, APART = 20, 60, 0.02
# Seconds that an answer or a connection may take.
_PING_WAITS, _CONNECT_WAITS = 1, 3
# Octets of IPv4 and ICMP before the payload of a request (RFC 791, RFC 792).
_HEADERS = 28


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """From one machine to another."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} → {self.target}"


@dataclass(frozen=True, slots=True)
class Pings:
    """Echo requests, and how many were answered."""

    sent: int
    received: int

    @property
    def lost(self) -> float:
        """What was lost, in percent."""
        return 100 * (self.sent - self.received) / self.sent


@dataclass(frozen=True, slots=True)
class Seen:
    """What one probe of a pair saw. ``shut`` maps each port that was not reached to the reason."""

    pair: Pair
    pings: Pings
    mtu: int
    whole: bool
    shut: Mapping[int, str]
    silent: str = ""

    def faults(self, most_lost: float) -> tuple[str, ...]:
        """What is wrong, with a loss above ``most_lost`` percent; none when all is well."""
        if self.silent:
            return (f"{self.pair.source} could not be asked: {self.silent}",)
        if not self.pings.received:
            return (f"none of {self.pings.sent} echo requests was answered, expected all",)
        found = []
        if self.pings.lost > most_lost:
            found.append(
                f"{self.pings.sent - self.pings.received} of {self.pings.sent} echo requests got no answer, "
                f"{self.pings.lost:.3g} %, expected at most {most_lost:g} %"
            )
        if not self.whole:
            found.append(f"no packet of {self.mtu} octets comes through whole, expected that MTU")
        return (*found, *(f"TCP port {port} is not reached: {why}" for port, why in self.shut.items()))


@dataclass(frozen=True, slots=True)
class Mesh:
    """The machines of a cluster, with the TCP ports that each must show to others and the MTU of each."""

    cluster: Cluster
    ports: Mapping[str, tuple[int, ...]]
    mtu: Mapping[str, int]
    evidence: Evidence

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All ordered pairs of machines."""
        names = self.cluster.all.names
        return tuple(Pair(source, target) for source in names for target in names if source != target)

    def probe(self, pair: Pair, requests: int = REQUESTS) -> Seen:
        """Look at one pair, in one round trip to its source. Nothing is kept: it can be asked again, in any order."""
        target, mtu = self.cluster[pair.target].address, min(self.mtu[pair.source], self.mtu[pair.target])
        ping, whole = pinging(target, requests=requests), pinging(target, mtu)
        doors = {port: connecting(target, port) for port in self.ports[pair.target]}
        try:
            found = read(self.cluster[pair.source], (ping, whole, *doors.values()))
        except (TransportError, CommandTimeout) as error:
            self.evidence.attach(str(pair), str(error))
            return Seen(pair, Pings(requests, 0), mtu, False, {}, error.seen)
        self.evidence.attach(str(pair), "\n\n".join(result.describe() for result in found.values()))
        shut = {port: why for port, door in doors.items() if (why := _why(door, found[door]))}
        return Seen(pair, ping.of(found[ping]), mtu, whole.of(found[whole]).received > 0, shut)

    def look(self) -> tuple[Seen, ...]:
        """Probe all pairs; sources side by side, the targets of each one after the other."""

        def from_here(node: Node) -> list[Seen]:
            return [self.probe(pair) for pair in self.pairs if pair.source == node.name]

        return tuple(seen for found in self.cluster.all.map(from_here).values() for seen in found)

    def again(self, failed: Iterable[Seen]) -> tuple[Seen, ...]:
        """Probe pairs that failed once more, with more requests: a blame rests on what failed twice."""
        once = tuple(failed)

        def from_here(node: Node) -> list[Seen]:
            found: list[Seen] = []
            for one in once:
                if one.pair.source == node.name:
                    # Who can't be asked about one pair can't be about the next, and each question takes its time.
                    gone = one.silent and any(each.silent for each in found)
                    found.append(one if gone else self.probe(one.pair, AGAIN))
            return found

        return tuple(seen for found in self.cluster.all.map(from_here).values() for seen in found)


def pings(text: str) -> Pings:
    """Read the summary of ``ping -q`` (iputils 20240905).

    >>> pings("3 packets transmitted, 2 received, 33.3333% packet loss, time 41ms")
    Pings(sent=3, received=2)
    """
    found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    if not found:
        raise ValueError("no summary")
    return Pings(int(found[1]), int(found[2]))


def pinging(address: str, mtu: int = 0, *, requests: int = REQUESTS) -> Fact[Pings]:
    """Echo requests to an address; with ``mtu`` three that fill it and must not be cut in pieces (DF)."""
    many = ("-c", str(requests), "-i", str(APART)) if not mtu else ("-c3", "-M", "do", "-s", str(mtu - _HEADERS))
    what = f"a packet of {mtu} octets to {address}" if mtu else f"echoes of {address}"
    return Fact(what, ("ping", "-n", "-q", *many, "-W", str(_PING_WAITS), address), pings, frozenset({0, 1}))


def connecting(address: str, port: int) -> Fact[str]:
    """A TCP connection that is opened and closed; 124 is the status of timeout(1)."""
    argv = ("timeout", str(_CONNECT_WAITS), "bash", "-c", 'exec 3<>"/dev/tcp/$0/$1" && echo open || exit 1', address)
    return Fact(f"port {port} of {address}", (*argv, str(port)), str, frozenset({0, 1, 124}))


def _why(door: Fact[str], told: Result) -> str:
    """Why a connection was not opened, in bash's words; empty when it was.

    bash 5.2: ``10.78.0.11: line 1: /dev/tcp/10.78.0.11/99: Connection refused``
    """
    if told.ok:
        return ""
    door.of(told)
    if told.returncode == 124:
        return f"no answer within {_CONNECT_WAITS} s"
    return (told.stderr.strip() or "no reason was given").splitlines()[-1].rpartition(": ")[2]


def culprit(failing: Iterable[Pair]) -> str:
    """Who is in all failing pairs: a machine, when there are several and it alone is; else the first pair."""
    pairs = tuple(failing)
    shared = set.intersection(*({pair.source, pair.target} for pair in pairs))
    return shared.pop() if len(pairs) > 1 and len(shared) == 1 else str(pairs[0])


def failing(seen: Iterable[Seen], most_lost: float) -> dict[Pair, tuple[str, ...]]:
    """What is wrong with which pair, where anything is."""
    return {one.pair: faults for one in seen if (faults := one.faults(most_lost))}


def told(seen: Iterable[Seen], again: Iterable[Seen], most_lost: float) -> str:
    """All that is wrong with a mesh, the culprit first; empty when nothing is.

    ``again`` is what a second look at the failing pairs saw. The culprit is in all that failed twice. What passed then
    stays a failure, but it blames nobody as long as anything else does.
    """
    once = failing(seen, most_lost)
    if not once:
        return ""
    twice = {pair: faults for pair, faults in failing(again, most_lost).items() if pair in once}
    wrong = twice or once
    who, (first, faults) = culprit(wrong), next(iter(wrong.items()))
    where = f"{who}: " if who == str(first) else f"{who}: {first}: "
    count = [f"{len(wrong)} links fail"] if len(wrong) > 1 else []
    passed = [pair for pair in once if pair not in twice]
    if passed:
        count.append(
            f"{len(passed)} of {len(once)} passed when probed again: {'that' if twice else 'it'} comes and goes"
        )
    more = "".join(f"\n  {pair}: {'; '.join(said)}" for pair, said in wrong.items() if pair != first)
    if twice:
        more += "".join(f"\n  {pair}: {'; '.join(once[pair])}; passed when probed again" for pair in passed)
    return f"{where}{'; '.join(faults)}" + (f" ({'; '.join(count)}){more}" if count else "")
