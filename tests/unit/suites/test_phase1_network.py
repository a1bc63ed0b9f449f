"""The checks of names and paths go red on a network that is broken, and name the machine or the link."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.outside import Outside
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites._streams import rate
from suites.phase1 import _facts as read
from suites.phase1 import test_network as network
from suites.phase1._mesh import Pair
from suites.phase1._throughput import SPEEDS, ring
from tests.fakes import fake_cluster

from .phase1_fakes import ADDRESS, HOSTS, also, facts, measure
from .test_phase1_mesh import wired

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


# INF-08: what goes through a link


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
