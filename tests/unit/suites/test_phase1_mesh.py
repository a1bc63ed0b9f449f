"""The check of all links goes red on a network that is broken, and names the machine or the link."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import TransportError
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from suites.phase1 import _facts as read
from suites.phase1 import test_network as network
from suites.phase1._mesh import Mesh, Pair, Pings, Seen, culprit, told
from tests.fakes import fake_cluster

from .phase1_fakes import ADDRESS, facts, links, measure

ALL = tuple(ADDRESS)


@pytest.fixture
def cluster() -> Cluster:
    return fake_cluster({})


def answering(name: str, broken: Callable[[str, list[str]], tuple[int, str, str] | None]) -> Callable[..., Any]:
    """A machine that understands the script of facts, and says what ping and bash say: all is well unless broken."""

    def answer(script: str) -> Result:
        [mark] = set(re.findall(r"[0-9a-f]{32}", script))
        blocks = []
        for line in re.findall(r"^fact (.*)$", script, re.MULTILINE):
            argv = shlex.split(line)
            status, out, errors = broken(name, argv) or well(argv)
            blocks.append(f"{errors}\n{mark} {status}\n{out}\n{mark}\n")
        return Result(("sh",), 0, "".join(blocks))

    return answer


def well(argv: list[str]) -> tuple[int, str, str]:
    if argv[0] == "ping":
        count = argv[argv.index("-c") + 1] if "-c" in argv else "3"
        return 0, pinged(int(count), int(count)), ""
    return 0, "open", ""


def pinged(sent: int, received: int) -> str:
    """The summary of `ping -q` (iputils 20240905)."""
    lost = 100 * (sent - received) / sent
    return f"--- ping statistics ---\n{sent} packets transmitted, {received} received, {lost:g}% packet loss, time 41ms"


class Wire:
    """A transport over which each script is answered; ``down`` machines are not reached at all."""

    def __init__(self, name: str, answer: Callable[[str], Result], down: bool = False) -> None:
        self.node, self.answer, self.down = name, answer, down

    def execute(self, argv: Any, *, timeout: float, input: str = "", user: str | None = None) -> Result:
        if self.down:
            raise TransportError(self.node, "no ssh connection to root@10.78.0.12:22: timed out")
        return self.answer(input)


def wired(broken: Callable[[str, list[str]], tuple[int, str, str] | None], down: str = "") -> Cluster:
    made = fake_cluster({})
    for node in made.nodes:
        node.transport = Wire(node.name, answering(node.name, broken), node.name == down)  # type: ignore[assignment]
    return made


def meshed(broken: Callable[[str, list[str]], tuple[int, str, str] | None], down: str = "", **changed: Any) -> None:
    evidence = Evidence()
    try:
        network.test_mesh(wired(broken, down), facts(evidence, **changed), evidence, measure())
    finally:
        assert len(evidence.items) >= 6, "not every link left evidence"


def nothing(name: str, argv: list[str]) -> None:
    """All is well."""


@pytest.mark.seen_to_fail("INF-08")
def test_a_port_that_is_shut() -> None:
    meshed(nothing)

    def shut(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        if argv[0] == "timeout" and argv[-2:] == ["10.78.0.10", "6817"] and name == "node02":
            return 1, "", "10.78.0.10: connect: Connection refused\n10.78.0.10: line 1: /dev/tcp: Connection refused"
        return None

    with pytest.raises(
        AssertionError, match=r"^node02 → controller: TCP port 6817 is not reached: Connection refused\n"
    ):
        meshed(shut)


@pytest.mark.seen_to_fail("INF-08")
def test_a_port_that_is_silent_for_everybody() -> None:
    def shut(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        return (124, "", "") if argv[0] == "timeout" and argv[-2:] == ["10.78.0.11", "6818"] else None

    with pytest.raises(AssertionError) as failed:
        meshed(shut)
    first, *more = str(failed.value).splitlines()
    assert first == "node01: controller → node01: TCP port 6818 is not reached: no answer within 3 s (2 links fail)"
    assert more[0].strip() == "node02 → node01: TCP port 6818 is not reached: no answer within 3 s"


def said(failed: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    """The lines of a message, without what pytest adds of the expression."""
    return str(failed.value).partition("\nassert ")[0].splitlines()


Broken = Callable[[str, list[str]], "tuple[int, str, str] | None"]


def losing(kept: float, *links: tuple[str, str]) -> Broken:
    """So much of what goes over these links (source, address) arrives."""

    def broken(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        if argv[0] != "ping" or "-i" not in argv or (name, argv[-1]) not in links:
            return None
        sent = int(argv[argv.index("-c") + 1])
        received = round(sent * kept)
        return int(not received), pinged(sent, received), ""

    return broken


def once(broken: Broken, *links: tuple[str, str]) -> Broken:
    """The same, but these links lose at the first look only."""
    seen: set[tuple[str, str]] = set()

    def other(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        link = (name, argv[-1])
        if argv[0] == "ping" and "-i" in argv and link in links:
            if link in seen:
                return None
            seen.add(link)
        return broken(name, argv)

    return other


A, B = ("node01", ADDRESS["node02"]), ("node02", ADDRESS["node01"])
OF_NODE02 = (A, ("controller", ADDRESS["node02"]), B, ("node02", ADDRESS["controller"]))


@pytest.mark.seen_to_fail("INF-08")
def test_a_link_that_loses() -> None:
    with pytest.raises(
        AssertionError,
        match=r"^node01 → node02: 3 of 60 echo requests got no answer, 5 %, expected at most 0 %\n",
    ):
        meshed(losing(0.95, A))
    with pytest.raises(AssertionError, match=r"^node01 → node02: none of 60 echo requests was answered, expected all"):
        meshed(losing(0, A))


@pytest.mark.seen_to_fail("INF-08")
def test_a_node_that_loses_is_named_before_its_links() -> None:
    figures, evidence = measure(), Evidence()
    with pytest.raises(AssertionError) as failed:
        network.test_mesh(wired(losing(0.8, *OF_NODE02)), facts(evidence), evidence, figures)
    first, *more = said(failed)
    assert first == (
        "node02: controller → node02: 12 of 60 echo requests got no answer, 20 %, expected at most 0 % (4 links fail)"
    )
    assert [line.partition(": ")[0].strip() for line in more] == [
        "node01 → node02",
        "node02 → controller",
        "node02 → node01",
    ]
    # All figures are kept, not only those up to the first that is wrong.
    assert sorted(item.value for item in figures.items) == [0, 0, 20, 20, 20, 20]


@pytest.mark.seen_to_fail("INF-08")
def test_what_fails_once_blames_nobody_while_something_fails_twice() -> None:
    """A link between two others lost something once: the node is still the one in all that failed twice."""
    stray = ("controller", ADDRESS["node01"])
    with pytest.raises(AssertionError) as failed:
        meshed(once(losing(0.8, *OF_NODE02, stray), stray))
    first, *more = said(failed)
    assert first.startswith("node02: controller → node02: 12 of 60 echo requests got no answer, 20 %")
    assert first.endswith(" (4 links fail; 1 of 5 passed when probed again: that comes and goes)")
    assert more[-1].strip() == (
        "controller → node01: 4 of 20 echo requests got no answer, 20 %, expected at most 0 %; passed when probed again"
    )


@pytest.mark.seen_to_fail("INF-08")
def test_what_fails_once_and_not_again_stays_a_failure() -> None:
    with pytest.raises(AssertionError) as failed:
        meshed(once(losing(0.95, A), A))
    assert said(failed) == [
        "node01 → node02: 1 of 20 echo requests got no answer, 5 %, expected at most 0 % (1 of 1 passed when probed "
        "again: it comes and goes)"
    ]


def test_who_can_not_be_asked_is_asked_about_one_link_again() -> None:
    cluster = wired(nothing, down="node02")
    mesh = Mesh(cluster, dict.fromkeys(ALL, (22,)), dict.fromkeys(ALL, 1500), Evidence())
    failed = [one for one in mesh.look() if one.faults(0)]
    assert [str(one.pair) for one in failed] == ["node02 → controller", "node02 → node01"]
    first, second = mesh.again(failed)
    assert (first.pings.sent, second.pings.sent) == (60, 20), "the second one was asked for once more"
    assert {one.pair for one in (first, second)} == {one.pair for one in failed}


@pytest.mark.seen_to_fail("INF-08")
def test_a_path_that_is_too_narrow() -> None:
    def narrow(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        cut = argv[0] == "ping" and argv[-1] == "10.78.0.12" and "8972" in argv
        return (1, pinged(3, 0), "ping: sendmsg: Message too long") if cut else None

    jumbo = {name: {read.INTERFACES: links(address, mtu=9000)} for name, address in ADDRESS.items()}
    with pytest.raises(
        AssertionError, match=r"^node02: controller → node02: no packet of 9000 octets comes through who"
    ):
        meshed(narrow, **jumbo)


@pytest.mark.seen_to_fail("INF-08")
def test_a_machine_that_nobody_reaches() -> None:
    def gone(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        if "10.78.0.12" not in argv:
            return None
        return (1, pinged(20, 0), "") if argv[0] == "ping" else (124, "", "")

    with pytest.raises(
        AssertionError, match=r"^node02: controller → node02: none of 20 echo .* \(4 links fail\)"
    ) as seen:
        meshed(gone, down="node02")
    assert "  node02 → node01: node02 could not be asked: no ssh connection to root@10.78.0.12:22" in str(seen.value)


def test_a_program_that_is_missing_is_no_verdict() -> None:
    def missing(name: str, argv: list[str]) -> tuple[int, str, str] | None:
        return (127, "", "ping: not found") if argv[0] == "ping" else None

    with pytest.raises(ExceptionGroup, match=r"^controller.*echoes of 10\.78\.0\.11 is not known: .*ping: not found"):
        network.test_mesh(wired(missing), facts(), Evidence(), measure())


@pytest.mark.seen_to_fail("INF-08")
def test_a_cluster_of_one_machine_has_no_link(cluster: Cluster) -> None:
    alone = Cluster(cluster.config, cluster.nodes[:1])
    with pytest.raises(AssertionError, match="^local: has one machine; there is no link to put to the test"):
        network.test_mesh(alone, facts(), Evidence(), measure())


def test_the_culprit_is_who_is_in_every_failing_link() -> None:
    a, b, c = Pair("a", "b"), Pair("b", "c"), Pair("c", "a")
    assert culprit([a]) == "a → b"
    assert culprit([a, b]) == "b"
    assert culprit([a, Pair("b", "a")]) == "a → b", "either may be to blame"
    assert culprit([a, b, c]) == "a → b"
    assert told([Seen(a, Pings(20, 20), 1500, True, {})], [], 0) == ""
    lossy = [Seen(a, Pings(20, 19), 1500, True, {})]
    assert told(lossy, lossy, 5) == "", "the limit says what may be lost"


def test_a_probe_can_be_asked_again() -> None:
    cluster = wired(nothing)
    mesh = Mesh(cluster, dict.fromkeys(ALL, (22,)), dict.fromkeys(ALL, 1500), Evidence())
    pair = mesh.pairs[0]
    assert mesh.probe(pair) == mesh.probe(pair)
    assert len(mesh.pairs) == 6
