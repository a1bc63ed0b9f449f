"""Every machine knows every other by name, and reaches it; and nothing else but what is declared."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import LimitExceeded, Measurements

from ._facts import HOSTNAME, HOSTS, INTERFACES, WAY_OUT, Interface, resolves
from ._mesh import Mesh, told
from ._outside import fetching, wrong_peer
from ._ports import declared, required
from ._throughput import SPEEDS, carried, ring


@pytest.mark.check("INF-07")
@pytest.mark.requires("network")
@pytest.mark.reads(HOSTNAME, HOSTS)
def test_names(cluster: Cluster, facts: Facts) -> None:
    """Each machine calls itself as the YAML does, and no two /etc/hosts say different things of a machine."""
    names, files = facts(HOSTNAME), facts(HOSTS)
    for node in cluster.nodes:
        assert names[node.name] == node.name, (
            f"{node.name}: calls itself {names[node.name]!r}, expected {node.name!r} as Slurm and the YAML call it"
        )
    first = next(iter(files))
    for name, file in files.items():
        for node in cluster.nodes:
            seen = file.get(node.name, ())
            wrong = [address for address in seen if address != node.address]
            assert not wrong, (
                f"{name}: /etc/hosts has {wrong[0]} for {node.name}, expected {node.address} alone; change it there"
            )
            assert bool(seen) == bool(files[first].get(node.name)), (
                f"{name}: /etc/hosts {'has' if seen else 'does not have'} {node.name}, that of {first} "
                f"{'does not' if seen else 'does'}; expected the same everywhere"
            )


@pytest.mark.check("INF-08")
@pytest.mark.requires("machines.several")
@pytest.mark.reads(INTERFACES)
def test_mesh(cluster: Cluster, facts: Facts, evidence: Evidence, measure: Measurements) -> None:
    """From every machine to every other: no echo is lost, declared TCP ports open, full packets come through whole.

    What fails is looked at twice, and who is in all that failed is named first.
    """
    ports = declared(cluster.config)
    doors = {node.name: required(ports, node.config) for node in cluster.nodes}
    found = facts(INTERFACES)
    mtu = {node.name: mtu_of(found[node.name], node.address) for node in cluster.nodes}
    mesh = Mesh(cluster, doors, mtu, evidence)
    assert mesh.pairs, f"{cluster.name}: has one machine; there is no link to put to the test"
    seen = mesh.look()
    assert len(seen) == len(mesh.pairs), f"{cluster.name}: {len(seen)} of {len(mesh.pairs)} links were looked at"
    for one in seen:
        if not one.silent:  # of a pair that nobody looked at there is no figure
            with suppress(LimitExceeded):  # the first is not to blame for all that lose: who is in all of them is told
                measure("network.loss", one.pings.lost, "%", node=str(one.pair), samples=one.pings.sent)
    most = measure.limits.maximum("network.loss", "%")
    wrong = told(seen, mesh.again(one for one in seen if one.faults(most)), most)
    assert not wrong, wrong


def mtu_of(interfaces: tuple[Interface, ...], address: str) -> int:
    """The MTU of the interface that has an address; that of IPv4's smallest link (RFC 791) where none has it."""
    return next((one.mtu for one in interfaces if address in {str(each.ip) for each in one.addresses}), 68)


@pytest.mark.check("INF-08")
@pytest.mark.requires("network.throughput", "machines.several")
@pytest.mark.exclusive
def test_throughput(cluster: Cluster, facts: Facts, evidence: Evidence, measure: Measurements) -> None:
    """Each machine sends to its neighbours, and hears from them, a good part of what the path can carry.

    The ceiling of a path is measured in the same run.
    """
    links = ring(cluster.all.names)
    assert links, f"{cluster.name}: has one machine; there is no link to put to the test"
    cards = facts(SPEEDS)
    for path in carried(cluster, links, cards, evidence):
        measure.ceiling("network.path", path.ceiling, "MiB/s", node=str(path.link))
        measure("network.throughput", path.carried, "MiB/s", node=str(path.link))


@pytest.mark.check("INF-09")
@pytest.mark.requires("network")
def test_resolution(cluster: Cluster, facts: Facts) -> None:
    """Every machine resolves the name of every machine to its address, and the external names that are declared."""
    outside = cluster.config.outside
    external = outside.names if outside else ()
    for name, found in facts(resolves((*cluster.all.names, *external))).items():
        for node in cluster.nodes:
            seen = ", ".join(found.get(node.name, ())) or "nothing"
            assert seen == node.address, f"{name}: resolves {node.name} to {seen}, expected {node.address}"
        lost = [one for one in external if not found.get(one)]
        assert not lost, f"{name}: does not resolve {lost[0]}, which outside.names declares"


@pytest.mark.check("INF-17")
@pytest.mark.requires("cloud")
def test_peers(cluster: Cluster, evidence: Evidence) -> None:
    """From every machine each declared service outside is reached, or is not, as the YAML says."""
    outside = cluster.config.outside
    peers = outside.peers if outside else ()
    assert peers, f"{cluster.name}: no peer is declared; nothing was tried"
    for peer in peers:
        for name, wrong in cluster.all.map(partial(wrong_peer, peer=peer, evidence=evidence)).items():
            assert not wrong, f"{name}: {wrong}"


@pytest.mark.check("INF-18")
@pytest.mark.requires("outside")
@pytest.mark.reads(WAY_OUT)
def test_way_out(cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """With a mirror declared every machine gets a file from it; with none, no machine has a way out."""
    mirror = cluster.config.outside.mirror if cluster.config.outside else None
    if mirror is None:
        for name, ways in facts(WAY_OUT).items():
            assert not ways, (
                f"{name}: has a default route via {ways[0].get('gateway', 'nobody')}, expected no way out: no "
                "outside.mirror is declared"
            )
        return
    for name, done in cluster.all.map(lambda node: fetching(node, mirror)).items():
        evidence.result(done)
        said = (done.stderr.strip() or "no reason was given").splitlines()[-1]
        assert done.ok, f"{name}: gets nothing from {mirror}: {said}; expected what outside.mirror declares"
        assert done.stdout.strip(), f"{name}: got an empty answer from {mirror}"
