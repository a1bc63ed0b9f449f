"""The checks of machines go red on machines that are not as the YAML says, and name them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.drivers.machines.reality import Shape, planned
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from suites.phase1 import _facts as read
from suites.phase1 import _host
from suites.phase1 import test_machines as machines
from suites.phase1._domain import wrong_features
from tests.fakes import Switchboard, fake_cluster

from .phase1_fakes import ADDRESS, bringup, disk, facts, links, measure

NAMES = tuple(ADDRESS)


@pytest.fixture
def cluster() -> Cluster:
    return fake_cluster({})


# PRV-21


@pytest.mark.seen_to_fail("PRV-21")
def test_machines_that_are_not_in_the_file(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(found: Mapping[str, int], **changed: Any) -> None:
        monkeypatch.setattr(machines, "running", lambda cluster: dict(found))
        machines.test_one_inventory(cluster, facts(**changed), Evidence())

    all_of_them = {name: 100 + at for at, name in enumerate(NAMES)}
    with pytest.raises(AssertionError, match=r"^node02: the YAML has it, and this host runs no such machine"):
        check({name: pid for name, pid in all_of_them.items() if name != "node02"})
    with pytest.raises(AssertionError, match=r"^node09: process 7 of this host runs it, and the YAML has no such node"):
        check({**all_of_them, "node09": 7})
    with pytest.raises(AssertionError, match=r"^node01: calls itself 'debian', expected 'node01'"):
        check(all_of_them, node01={read.HOSTNAME: "debian"})
    with pytest.raises(AssertionError, match=r"^node01: has 10\.78\.0\.99, expected 10\.78\.0\.11"):
        check(all_of_them, node01={read.INTERFACES: links("10.78.0.99")})
    with pytest.raises(AssertionError, match=r"^controller: the host key that we trust it by is not that of 10\.78"):
        check(all_of_them)  # a pretended machine has no host key that could be trusted


def test_host_keys_are_pinned_by_name_and_address(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("node01,10.78.0.11 ssh-ed25519 AAAA\n\nnode02 ssh-ed25519 BBBB\n")
    transport: Any = SimpleNamespace(known_hosts=known)
    assert _host.pinned(transport) == {
        "node01": "ssh-ed25519 AAAA",
        "10.78.0.11": "ssh-ed25519 AAAA",
        "node02": "ssh-ed25519 BBBB",
    }


def test_running_machines_are_those_with_the_mark(tmp_path: Path) -> None:
    for pid, words in {
        7: f"systemd-nspawn\0--setenv=AI_HOW={cookie('lab')}/node01\0",
        8: f"qemu-system-x86_64\0-fw_cfg\0name=mark,string={cookie('lab')}/node02\0",
        9: f"libvirtd\0{cookie('lab')}/libvirt.d\0",
        10: f"systemd-nspawn\0--setenv=AI_HOW={cookie('lab2')}/node03\0",
    }.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_text(words)
    assert _host.running("lab", tmp_path) == {"node01": 7, "node02": 8}


# INF-01


class Made(Switchboard):
    """Machines as whoever runs them tells them."""

    def __init__(self, changed: Mapping[str, str] | None = None, **states: Any) -> None:
        super().__init__(dict.fromkeys(NAMES, "running") | states)
        self.changed = dict(changed or {})

    def shape(self, config: ClusterConfig, node: str) -> Shape:
        [one] = [each for each in config.nodes if each.name == node]
        parts = planned(config, one) | (self.changed if node == "node02" else {})
        return Shape(parts)

    def files(self, config: ClusterConfig, node: str) -> tuple[()]:
        return ()


@pytest.mark.seen_to_fail("INF-01")
def test_a_machine_that_is_off_or_was_given_less(cluster: Cluster) -> None:
    def check(driver: Made) -> None:
        machines.test_machines_run(bringup(driver, cluster), cluster, facts(), Evidence())

    check(Made())
    with pytest.raises(AssertionError, match=r"^node01: is off, expected running"):
        check(Made(node01="off"))
    with pytest.raises(AssertionError, match=r"^node02: was given memory 512 MiB, configured 1024 MiB"):
        check(Made({"memory": "512 MiB"}))


@pytest.mark.seen_to_fail("INF-01")
def test_a_machine_that_sees_less(cluster: Cluster) -> None:
    machines.test_machines_see_what_is_configured(cluster, facts(), measure())
    with pytest.raises(AssertionError, match=r"^node01: has 1 CPUs, configured 2"):
        machines.test_machines_see_what_is_configured(cluster, facts(node01={read.CPUS: "1"}), measure())
    with pytest.raises(LimitExceeded, match=r"^node02: node\.memory_seen is 47\.6.* %, expected at least 90 %"):
        machines.test_machines_see_what_is_configured(
            cluster, facts(node02={read.MEMORY: "MemTotal: 500000 kB\n"}), measure()
        )


@pytest.mark.seen_to_fail("INF-01")
def test_a_disk_that_did_not_grow(cluster: Cluster) -> None:
    machines.test_disks_are_as_configured(cluster, facts())
    with pytest.raises(AssertionError, match=r"^node02: the disk with its root has 4 GiB, configured 10 GiB"):
        machines.test_disks_are_as_configured(cluster, facts(node02={read.DISK: disk(4)}))


# INF-02

#: The parts that count of `virsh dumpxml` (libvirt 9.0) of a machine of ours that KVM runs.
DOMAIN = """\
<domain type='kvm' id='1'>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <features><acpi/><kvm><hidden state='on'/></kvm></features>
  <cpu mode='host-passthrough' check='none' migratable='on'/>
  <devices>
    <disk type='file' device='disk'><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><model type='virtio'/></interface>
  </devices>
</domain>
"""


@pytest.mark.seen_to_fail("INF-02")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("pc-q35-7.2", "pc-i440fx-7.2", "its board is pc-i440fx-7.2, expected q35"),
        ("host-passthrough", "host-model", "its CPU is host-model, expected host-passthrough"),
        ("bus='virtio'", "bus='sata'", "its disk is sata, expected virtio"),
        ("type='virtio'", "type='e1000e'", "its interface is e1000e, expected virtio"),
        ("<devices>", "<devices><graphics type='vnc'/>", "has graphics, expected none: nobody looks at it"),
    ],
)
def test_a_domain_with_other_features(cluster: Cluster, old: str, new: str, says: str) -> None:
    class Libvirt(Switchboard):
        def definition(self, config: ClusterConfig, node: str) -> str:
            return DOMAIN.replace(old, new) if node == "node02" else DOMAIN

    assert old in DOMAIN
    with pytest.raises(AssertionError, match=rf"^node02: {says}"):
        machines.test_domains(bringup(Libvirt({}), cluster), cluster, Evidence())


@pytest.mark.seen_to_fail("INF-02")
def test_a_gpu_whose_driver_sees_kvm() -> None:
    [*nodes] = load_config("workstation/hpc").nodes
    [node] = [one for one in nodes if one.devices][:1]
    assert not list(wrong_features(node, DOMAIN))
    [said] = wrong_features(node, DOMAIN.replace("<kvm><hidden state='on'/></kvm>", ""))
    assert said.startswith(f"{node.name}: KVM is not hidden from its GPU's driver")


def test_an_emulated_machine_has_the_cpu_that_it_can_have(cluster: Cluster) -> None:
    emulated = DOMAIN.replace("'kvm'", "'qemu'").replace("mode='host-passthrough'", "mode='custom'")
    assert not list(wrong_features(cluster["node01"].config, emulated))
    chosen: NodeConfig = cluster["node01"].config.model_copy(update={"cpu_model": "EPYC"})
    assert list(wrong_features(chosen, emulated)) == ["node01: its CPU is custom, expected EPYC"]


PASSED = "<cpu mode='host-passthrough' check='none' migratable='on'/>"
#: What libvirt 9.0 makes of host-model, and of a model by its name, in the definition of a machine that runs.
NAMED = "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC-Rome</model></cpu>"


@pytest.mark.seen_to_fail("INF-02")
@pytest.mark.parametrize(
    ("configured", "cpu", "says"),
    [
        ("host-passthrough", PASSED, None),
        ("host-passthrough", NAMED, "custom EPYC-Rome"),
        ("host-model", NAMED, None),
        ("host-model", PASSED, "host-passthrough"),
        ("host-model", NAMED.replace("full", "none"), "custom EPYC-Rome"),
        ("maximum", "<cpu mode='maximum' check='none' migratable='on'/>", None),
        ("maximum", NAMED, "custom EPYC-Rome"),
        ("EPYC-Rome", NAMED, None),
        ("EPYC", NAMED, "custom EPYC-Rome"),
        ("EPYC-Rome", PASSED, "host-passthrough"),
        # A model of this name would be another thing than the mode.
        ("host-passthrough", NAMED.replace("EPYC-Rome", "host-passthrough"), "custom host-passthrough"),
        ("EPYC", "", "not told"),
    ],
)
def test_a_machine_has_the_cpu_that_is_configured(
    cluster: Cluster, configured: str, cpu: str, says: str | None
) -> None:
    assert PASSED in DOMAIN
    node: NodeConfig = cluster["node01"].config.model_copy(update={"cpu_model": configured})
    expected = [f"node01: its CPU is {says}, expected {configured}"] if says else []
    assert list(wrong_features(node, DOMAIN.replace(PASSED, cpu))) == expected


def test_a_driver_without_domains_is_no_verdict(cluster: Cluster) -> None:
    with pytest.raises(AiHowError, match="has no definitions"):
        machines.test_domains(bringup(Switchboard({}), cluster), cluster, Evidence())


# INF-03, INF-04

BRIDGE: dict[str, Any] = {
    "ifname": "aihow-local",
    "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
    "mtu": 1500,
    "linkinfo": {"info_kind": "bridge"},
    "addr_info": [{"family": "inet", "local": "10.78.0.1", "prefixlen": 24}],
}
NAT = [
    {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "aihow-local"}},
    {"masquerade": None},
]


@pytest.mark.seen_to_fail("INF-03")
def test_a_network_that_is_not_as_configured(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"ss": ("", ""), "nft": ('{"nftables": []}', "")}
    monkeypatch.setattr(machines.rules, "asked", lambda argv: said[argv[0]])

    def check(bridge: Mapping[str, Any] = BRIDGE, **changed: Any) -> None:
        monkeypatch.setattr(machines, "host_links", lambda: [bridge])
        machines.test_network(cluster.config, cluster, facts(**changed), Evidence())

    check()
    other = [{"family": "inet", "local": "10.78.0.1", "prefixlen": 16}]
    for bridge, says in (
        ({**BRIDGE, "ifname": "br0"}, "aihow-local: this host has no such interface"),
        ({**BRIDGE, "linkinfo": {}}, "aihow-local: is no bridge"),
        ({**BRIDGE, "flags": ["BROADCAST"]}, "aihow-local: is down, expected up; do: ip link set dev aihow-local up"),
        ({**BRIDGE, "addr_info": other}, r"aihow-local: has 10\.78\.0\.1/16, expected 10\.78\.0\.1/24"),
        ({**BRIDGE, "mtu": 9000}, "aihow-local: its MTU is 9000, expected 1500"),
    ):
        with pytest.raises(AssertionError, match=rf"^{says}"):
            check(bridge)
    with pytest.raises(AssertionError, match=r"^node02: no interface of it is up with an address in 10\.78\.0\.0/24"):
        check(node02={read.INTERFACES: links(ADDRESS["node02"], flags=("BROADCAST",))})
    with pytest.raises(AssertionError, match=r"^node01: the MTU of host0 is 1280, configured 1500"):
        check(node01={read.INTERFACES: links(ADDRESS["node01"], mtu=1280)})
    with pytest.raises(AssertionError, match=r"^node01: has a default route via 10\.78\.0\.1, expected no way out"):
        check(node01={read.WAY_OUT: json.dumps([{"dst": "default", "gateway": "10.78.0.1", "dev": "host0"}])})
    lent = json.loads(links(ADDRESS["node02"]))
    lent[1]["addr_info"][0]["dynamic"] = True
    with pytest.raises(
        AssertionError, match=r"^node02: 10\.78\.0\.12/24 is lent for a time, expected a static address"
    ):
        check(node02={read.INTERFACES: json.dumps(lent)})


@pytest.mark.seen_to_fail("INF-03")
def test_a_network_that_this_host_does_more_than_carry(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    dhcp = 'UNCONN 0 0 0.0.0.0%aihow-local:67 0.0.0.0:* users:(("dnsmasq",pid=901,fd=3))\n'
    nat = json.dumps({"nftables": [{"rule": {"family": "ip", "table": "nat", "chain": "out", "expr": NAT}}]})

    def check(sockets: tuple[str, str], ruleset: tuple[str, str]) -> str:
        said, evidence = {"ss": sockets, "nft": ruleset}, Evidence()
        monkeypatch.setattr(machines, "host_links", lambda: [BRIDGE])
        monkeypatch.setattr(machines.rules, "asked", lambda argv: said[argv[0]])
        machines.test_network(cluster.config, cluster, facts(), evidence)
        return next(item.content for item in evidence.items if "packet filter" in item.name)

    assert check(("", ""), ('{"nftables": []}', "")) == '{"nftables": []}'
    with pytest.raises(
        AssertionError, match=r"^localhost: DHCP is served on aihow-local by 0\.0\.0\.0%aihow-local:67 users"
    ):
        check((dhcp, ""), ("", ""))
    with pytest.raises(
        AssertionError, match=r"^localhost: translates 10\.78\.0\.0/24 by rule ip nat out: .*masquerade"
    ):
        check(("", ""), (nat, ""))
    with pytest.raises(
        AssertionError, match=r"^localhost: `ss .*` says nothing: this host has no program ss; expected"
    ):
        check(("", "this host has no program ss"), ("", ""))
    for why in ("this host has no program nft", "Operation not permitted (you must be root)", ""):
        says = (
            f"localhost: `nft --json list ruleset` says nothing: {why or 'no output'}; expected its rules; "
            "do: apt-get install nftables, or run as root"
        )
        with pytest.raises(AssertionError, match=f"^{re.escape(says)}"):
            check(("", ""), ("", why))


@pytest.mark.seen_to_fail("INF-04")
def test_addresses_that_are_not_as_configured(cluster: Cluster) -> None:
    machines.test_addresses(cluster, facts())
    with pytest.raises(AssertionError, match=r"^node02: has no address, configured 10\.78\.0\.12"):
        machines.test_addresses(cluster, facts(node02={read.INTERFACES: links()}))
    both = json.loads(links(ADDRESS["node02"]))
    both[1]["addr_info"].append({"family": "inet", "local": ADDRESS["node01"], "prefixlen": 24})
    with pytest.raises(AssertionError, match=r"^node02: has 10\.78\.0\.11, which is the address of node01"):
        machines.test_addresses(cluster, facts(node02={read.INTERFACES: json.dumps(both)}))


def test_every_fact_is_asked_for_by_its_own_name() -> None:
    known = [one for one in vars(read).values() if isinstance(one, read.Fact)]
    assert len({one.name for one in known}) == len(known) > 15
