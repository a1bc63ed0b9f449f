"""The checks of names and links go red on a network that is broken, and name the machine or the link."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.outside import Outside
from pytest_ai_how.errors import AiHowError, TransportError
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites._streams import rate
from suites.phase1 import _facts as read
from suites.phase1 import test_network as network
from suites.phase1._mesh import Mesh, Pair, Pings, Seen, culprit, told
from suites.phase1._throughput import SPEEDS, ring
from tests.fakes import fake_cluster

from .phase1_fakes import ADDRESS, HOSTS, also, facts, links, measure

ALL = tuple(ADDRESS)


@pytest.fixture
def cluster() -> Cluster:
    return fake_cluster({})


# INF-07


@pytest.mark.seen_to_fail("INF-07")
def test_names_that_are_not_one(cluster: Cluster) -> None:
    network.test_names(cluster, facts())
    with pytest.raises(
        AssertionError, match=r"^node02: calls itself 'debian', expected 'node02' as Slurm and the YAML"
    ):
        network.test_names(cluster, facts(node02={read.HOSTNAME: "debian\n"}))
    with pytest.raises(
        AssertionError, match=r"^node01: /etc/hosts has 127\.0\.1\.1 for node01, expected 10\.78\.0\.11"
    ):
        network.test_names(cluster, facts(node01={read.HOSTS: HOSTS + "127.0.1.1 node01\n"}))
    with pytest.raises(AssertionError, match=r"^node02: /etc/hosts does not have node01, that of controller does; exp"):
        network.test_names(cluster, facts(node02={read.HOSTS: HOSTS.replace("10.78.0.11 node01\n", "")}))
    with pytest.raises(AssertionError, match=r"^node01: /etc/hosts has controller, that of controller does not"):
        network.test_names(
            cluster, facts(controller={read.HOSTS: "127.0.0.1 localhost\n10.78.0.11 node01\n10.78.0.12 node02\n"})
        )


# INF-08


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


def stream(mib: float) -> str:
    """What counts of `iperf3 --json` (3.18)."""
    return json.dumps({"start": {}, "end": {"sum_received": {"bits_per_second": mib * 8 * 2**20}}})


def pumping(slow: float, card: str = "") -> None:
    def client(argv: tuple[str, ...]) -> str:
        return stream(1000.0 if "127.0.0.1" in argv else slow)

    listens = 'tcp LISTEN 0 128 0.0.0.0:5201 0.0.0.0:* users:(("iperf3",pid=9,fd=3))\n'
    script = {"systemd-run": "", "systemctl stop": "", "ss": listens, "iperf3": client}
    evidence = Evidence()
    told = also(SPEEDS, other=card)
    network.test_throughput(fake_cluster({"*": script}), told, evidence, measure())


@pytest.mark.seen_to_fail("INF-08")
def test_a_wire_that_is_slow() -> None:
    pumping(400.0)
    with pytest.raises(
        LimitExceeded, match=r"^controller → node01: network\.throughput is 20 MiB/s, expected at least 50"
    ):
        pumping(20.0)
    pumping(20.0, card="eth0 1000\n")  # a twentieth of a gigabit is 6 MiB/s


def test_a_stream_that_failed_is_no_verdict() -> None:
    refused = Result(("iperf3",), 1, json.dumps({"error": "unable to connect to server: Connection refused"}), node="n")
    with pytest.raises(AiHowError, match="^n: iperf3: unable to connect to server: Connection refused"):
        rate(refused)
    with pytest.raises(AiHowError, match=r"^n: `iperf3` said 'sh: iperf3: not found'"):
        rate(Result(("iperf3",), 127, "", "sh: iperf3: not found\n", node="n"))


def test_a_ring_grows_with_its_machines() -> None:
    assert set(ring(("a", "b", "c"))) == {Pair(x, y) for x in "abc" for y in "abc" if x != y}
    assert len(ring([f"n{i}" for i in range(200)])) == 400
    assert ring(("a", "b")) == (Pair("a", "b"), Pair("b", "a"))
    assert ring(("a",)) == ()


# INF-09


def resolved(config: ClusterConfig | None = None, **told: str) -> None:
    cluster = fake_cluster({}, config=config)
    outside = cluster.config.outside
    fact = read.resolves((*ALL, *(outside.names if outside else ())))
    well = "".join(f"{address} STREAM {name}\n{address} DGRAM\n" for name, address in ADDRESS.items())
    network.test_resolution(cluster, also(fact, other=well, **told))


def outside(**section: Any) -> ClusterConfig:
    return load_config("local").model_copy(update={"outside": Outside.model_validate(section)})


@pytest.mark.seen_to_fail("INF-09")
def test_names_that_are_not_resolved() -> None:
    resolved()
    with pytest.raises(AssertionError, match=r"^node02: resolves node01 to nothing, expected 10\.78\.0\.11"):
        resolved(node02="10.78.0.10 STREAM controller\n10.78.0.12 STREAM node02\n")
    with pytest.raises(AssertionError, match=r"^node01: resolves node01 to 127\.0\.1\.1, expected 10\.78\.0\.11"):
        resolved(node01="10.78.0.10 STREAM controller\n127.0.1.1 STREAM node01\n")
    with pytest.raises(
        AssertionError, match=r"^controller: does not resolve mirror\.example, which outside\.names decl"
    ):
        resolved(outside(names=["mirror.example"]))


# INF-17, INF-18

CLOUD = {"name": "cloud", "address": "10.99.0.10", "port": 6443}


@pytest.mark.seen_to_fail("INF-17")
def test_a_peer_that_is_not_as_declared() -> None:
    def reached(name: str, argv: list[str]) -> None:
        """All is well."""

    def refused(name: str, argv: list[str]) -> tuple[int, str, str]:
        return 1, "", "10.99.0.10: line 1: /dev/tcp/10.99.0.10/6443: No route to host"

    def check(broken: Callable[..., Any], *, reachable: bool) -> None:
        config = outside(peers=[{**CLOUD, "reachable": reachable}])
        wires = wired(broken)
        network.test_peers(Cluster(config, wires.nodes), Evidence())

    check(reached, reachable=True)
    check(refused, reachable=False)
    with pytest.raises(
        AssertionError, match=r"^controller: reaches cloud \(10\.99\.0\.10 port 6443\), declared to be is"
    ):
        check(reached, reachable=False)
    with pytest.raises(
        AssertionError, match=r"^controller: does not reach cloud .*: No route to host; declared reachable"
    ):
        check(refused, reachable=True)


@pytest.mark.seen_to_fail("INF-17")
def test_no_peer_is_no_pass(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="^local: no peer is declared; nothing was tried"):
        network.test_peers(cluster, Evidence())


@pytest.mark.seen_to_fail("INF-18")
def test_a_way_out_that_is_not_declared(cluster: Cluster) -> None:
    network.test_way_out(cluster, facts(), Evidence())
    route = json.dumps([{"dst": "default", "gateway": "10.78.0.1", "dev": "host0"}])
    with pytest.raises(
        AssertionError, match=r"^node02: has a default route via 10\.78\.0\.1, expected no way out: no ou"
    ):
        network.test_way_out(cluster, facts(node02={read.WAY_OUT: route}), Evidence())


@pytest.mark.seen_to_fail("INF-18")
def test_a_mirror_that_is_not_reached() -> None:
    def check(answer: Result | str) -> None:
        config = outside(mirror="http://mirror.example/debian/dists/trixie/InRelease")
        scripts = {"node01": {"python3": answer}, "*": {"python3": "b'Origin: Debian'\n"}}
        network.test_way_out(fake_cluster(scripts, config=config), facts(), Evidence())

    check("b'Origin: Debian'\n")
    trouble = "urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>"
    with pytest.raises(
        AssertionError, match=r"^node01: gets nothing from http://mirror\.example/\S+: urllib.*not known"
    ):
        check(Result((), 1, stderr=f"Traceback\n{trouble}\n"))
