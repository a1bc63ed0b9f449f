"""The machines are those of the YAML, and as it says: what they are made of, where they are, and on which network."""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig, Network
from pytest_ai_how.drivers.machines.network import host_links
from pytest_ai_how.drivers.machines.reality import Reality, planned
from pytest_ai_how.drivers.protocol import Defines, Power
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements

from . import _rules as rules
from ._domain import wrong_features
from ._facts import CPUS, DISK, HOSTNAME, INTERFACES, MEMORY, WAY_OUT
from ._host import pinned, running, wrong_bridge


@pytest.mark.check("PRV-21")
@pytest.mark.requires("owned")
@pytest.mark.reads(HOSTNAME, INTERFACES)
def test_one_inventory(cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """The YAML, the machines that this host runs, what they call themselves and whom we trust are the same set."""
    planned_ones = {node.name: node.address for node in cluster.nodes}
    found = running(cluster.name)
    evidence.attach("the machines that this host runs", json.dumps(found, indent=1))
    missing, more = sorted(planned_ones.keys() - found.keys()), sorted(found.keys() - planned_ones.keys())
    assert not missing, f"{missing[0]}: the YAML has it, and this host runs no such machine"
    assert not more, f"{more[0]}: process {found[more[0]]} of this host runs it, and the YAML has no such node"
    told, addresses = facts(HOSTNAME), addresses_of(facts)
    for node in cluster.nodes:
        assert told[node.name] == node.name, f"{node.name}: calls itself {told[node.name]!r}, expected {node.name!r}"
        assert node.address in addresses[node.name], (
            f"{node.name}: has {', '.join(addresses[node.name]) or 'no address'}, expected {node.address}"
        )
    for node in cluster.nodes:
        keys = pinned(node.transport)
        evidence.attach(f"{node.name}: host keys that we trust", "\n".join(sorted(keys)) or "none")
        assert keys.get(node.address, "") == keys.get(node.name, "none"), (
            f"{node.name}: the host key that we trust it by is not that of {node.address}"
        )


@pytest.mark.check("INF-01")
@pytest.mark.reads(HOSTNAME)
def test_machines_run(bringup: Bringup, cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """Every machine that starts by itself runs and answers, with what whoever runs it was told to give it."""
    driver, wrong = bringup.driver, []
    facts(HOSTNAME)
    for node in cluster.nodes:
        if isinstance(driver, Power):
            state = driver.state(cluster.config, node.name)
            evidence.attach(f"{node.name}: state", state)
            assert state == "running", f"{node.name}: is {state}, expected running"
        if isinstance(driver, Reality):
            plan, shape = planned(cluster.config, node.config), driver.shape(cluster.config, node.name)
            given = {part: shape.parts[part] for part in ("cpus", "memory", "disk") if part in shape.parts}
            evidence.attach(f"{node.name}: given", json.dumps({**given, "not told": dict(shape.untold)}, indent=1))
            wrong += [
                f"{node.name}: was given {part} {is_}, configured {plan[part]}"
                for part, is_ in given.items()
                if is_ != plan[part]
            ]
    assert not wrong, "; ".join(wrong)


@pytest.mark.check("INF-01")
@pytest.mark.requires("hardware.own")
@pytest.mark.reads(CPUS, MEMORY)
def test_machines_see_what_is_configured(cluster: Cluster, facts: Facts, measure: Measurements) -> None:
    """Each machine itself has the CPUs that are configured, and the memory but for what its kernel keeps."""
    cpus, memory = facts(CPUS), facts(MEMORY)
    for node in cluster.nodes:
        assert cpus[node.name] == node.config.cpus, (
            f"{node.name}: has {cpus[node.name]} CPUs, configured {node.config.cpus}"
        )
        measure("node.memory_seen", 100 * memory[node.name] / node.config.memory, "%", node=node.name)


@pytest.mark.check("INF-01")
@pytest.mark.requires("hardware.own", "owned")
@pytest.mark.reads(DISK)
def test_disks_are_as_configured(cluster: Cluster, facts: Facts) -> None:
    """The disk with the root of each machine is as large as configured: the YAML says so of machines that we make."""
    for name, size in facts(DISK).items():
        wanted = cluster[name].config.disk
        assert size == wanted, f"{name}: the disk with its root has {size:g} GiB, configured {wanted} GiB"


@pytest.mark.check("INF-02")
@pytest.mark.requires("hypervisor")
def test_domains(bringup: Bringup, cluster: Cluster, evidence: Evidence) -> None:
    """Every virtual machine is a q35 with virtio and this host's CPU; one with a GPU hides KVM; none has graphics."""
    driver = bringup.driver
    if not isinstance(driver, Defines):
        raise AiHowError(cluster.name, f"driver {driver.name} has no definitions", expected="libvirt")
    for node in cluster.nodes:
        xml = driver.definition(cluster.config, node.name)
        evidence.attach(f"{node.name}: its definition", xml, "text/xml")
        wrong = list(wrong_features(node.config, xml))
        assert not wrong, "; ".join(wrong)


@pytest.mark.check("INF-03")
@pytest.mark.requires("network.own")
@pytest.mark.reads(INTERFACES, WAY_OUT)
def test_network(cluster_config: ClusterConfig, cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """The bridge of the cluster is up with its address, every machine is on it, and nothing leads out of it.

    No translation and no DHCP are configured: this host serves no DHCP on the bridge, no machine has an address that is
    lent, no rule of this host translates addresses of the network, and no machine has a way out.
    """
    network = cluster_config.network
    assert network, f"{cluster_config.name}: no network is configured; nothing was compared"
    links = [dict(link) for link in host_links()]
    evidence.attach(
        f"localhost: {network.bridge}", json.dumps([one for one in links if one["ifname"] == network.bridge])
    )
    wrong = wrong_bridge(network, links)
    assert not wrong, wrong
    only_carried(network, evidence)
    found, ways = facts(INTERFACES), facts(WAY_OUT)
    for node in cluster.nodes:
        [*here] = [
            one for one in found[node.name] for address in one.addresses if address.network == network.subnet and one.up
        ]
        assert here, f"{node.name}: no interface of it is up with an address in {network.subnet}"
        assert here[0].mtu == network.mtu, (
            f"{node.name}: the MTU of {here[0].name} is {here[0].mtu}, configured {network.mtu}"
        )
        lent = [str(address) for one in here for address in one.leased if address.network == network.subnet]
        assert not lent, (
            f"{node.name}: {lent[0]} is lent for a time, expected a static address; do: stop the DHCP server"
        )
        assert not ways[node.name], (
            f"{node.name}: has a default route via {ways[node.name][0].get('gateway', 'nobody')}, expected no way out"
        )


def only_carried(network: Network, evidence: Evidence) -> None:
    """See that this host serves no DHCP on the network's bridge, and translates none of its addresses."""
    sockets, why = rules.asked(rules.SOCKETS)
    evidence.attach("localhost: UDP sockets", sockets or why or "none")
    assert not why, f"localhost: `{' '.join(rules.SOCKETS)}` says nothing: {why}; expected its UDP sockets"
    served = rules.dhcp_servers(network, sockets)
    assert not served, (
        f"localhost: DHCP is served on {network.bridge} by {served[0]}, expected nobody: no DHCP is configured"
    )
    ruleset, why = rules.asked(rules.RULES)
    evidence.attach("localhost: rules of its packet filter", ruleset or why or "none")
    assert ruleset, (
        f"localhost: `{' '.join(rules.RULES)}` says nothing: {why or 'no output'}; expected its rules; "
        "do: apt-get install nftables, or run as root"
    )
    translated = rules.translations(network, ruleset)
    assert not translated, (
        f"localhost: translates {network.subnet} by rule {translated[0]}, expected none: no NAT is configured"
    )


@pytest.mark.check("INF-04")
@pytest.mark.requires("network")
@pytest.mark.reads(INTERFACES)
def test_addresses(cluster: Cluster, facts: Facts) -> None:
    """Each machine holds the address that is configured for it, and nobody else's."""
    found = addresses_of(facts)
    owners = {node.address: node.name for node in cluster.nodes}
    for node in cluster.nodes:
        assert node.address in found[node.name], (
            f"{node.name}: has {', '.join(found[node.name]) or 'no address'}, configured {node.address}"
        )
        taken = [address for address in found[node.name] if owners.get(address, node.name) != node.name]
        assert not taken, f"{node.name}: has {taken[0]}, which is the address of {owners[taken[0]]}"


def addresses_of(facts: Facts) -> dict[str, tuple[str, ...]]:
    """The IPv4 addresses of each machine, loopback left out."""
    return {
        name: tuple(str(address.ip) for one in here for address in one.addresses)
        for name, here in facts(INTERFACES).items()
    }
