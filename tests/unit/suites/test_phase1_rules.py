"""What this host does with a network is read rightly, and told when it is not configured (INF-03)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import Network
from suites.phase1 import _rules as rules

#: nftables 1.0.6 on the rules that libvirt writes for a network with NAT, those of a router, and a forwarded port.
RULESET = (Path(__file__).parents[2] / "data/network/ruleset.json").read_text()
#: iproute2 6.1 beside libvirt's dnsmasq, which hears on one bridge, and a daemon that hears on all.
SOCKETS = """\
UNCONN 0 0 0.0.0.0%virbr0:67 0.0.0.0:* users:(("dnsmasq",pid=812,fd=3))
UNCONN 0 0 0.0.0.0%aihow-local:67 0.0.0.0:* users:(("dnsmasq",pid=901,fd=3))
UNCONN 0 0 0.0.0.0:68 0.0.0.0:* users:(("dhclient",pid=400,fd=6))
UNCONN 0 0 10.78.0.1:53 0.0.0.0:* users:(("dnsmasq",pid=901,fd=5))
UNCONN 0 0 [::]:547 [::]:*
"""


def network(subnet: str = "", bridge: str = "") -> Network:
    found = load_config("local", environ={}).network
    assert found
    return Network(subnet=subnet or str(found.subnet), bridge=bridge or found.bridge)


def test_dhcp_on_the_bridge_is_told() -> None:
    assert rules.dhcp_servers(network(), SOCKETS) == ['0.0.0.0%aihow-local:67 users:(("dnsmasq",pid=901,fd=3))']
    assert rules.dhcp_servers(network(bridge="aihow-other"), SOCKETS) == []
    assert rules.dhcp_servers(network(bridge="aihow-other"), "UNCONN 0 0 10.78.0.1:67 0.0.0.0:*\n") == ["10.78.0.1:67"]
    assert rules.dhcp_servers(network(), "") == []


def test_rules_that_name_the_network_are_told_and_no_others() -> None:
    found = rules.translations(network(), RULESET)
    assert [one.partition(": ")[0] for one in found] == [
        "ip libvirt_network guest_nat",
        "ip nat POSTROUTING",
        "ip nat PREROUTING",
    ]
    assert "masquerade" in found[0]
    assert '"right": "aihow-local"' in found[1]
    assert '{"dnat": {"addr": "10.78.0.10", "port": 22}}' in found[2]
    # Of docker's network, and of all that leaves by eth0, are none of ours.
    assert rules.translations(network("10.99.0.0/24", "aihow-other"), RULESET) == []
    assert len(rules.translations(network("172.17.5.0/24", "aihow-other"), RULESET)) == 1
    assert rules.translations(network(), '{"nftables": []}') == []


def rule(*statements: Mapping[str, Any]) -> str:
    told = {"family": "ip", "table": "t", "chain": "c", "handle": 1, "expr": list(statements)}
    return json.dumps({"nftables": [{"rule": told}]})


def source(right: Any, op: str = "==", field: str = "saddr") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"payload": {"protocol": "ip", "field": field}}, "right": right}}


@pytest.mark.parametrize(
    ("ruleset", "ours"),
    [
        (rule(source("10.78.0.11"), {"masquerade": None}), True),
        (rule(source({"range": ["10.77.0.0", "10.78.0.5"]}), {"masquerade": None}), True),
        (
            rule(source({"set": ["192.0.2.1", {"prefix": {"addr": "10.78.0.0", "len": 16}}]}), {"masquerade": None}),
            True,
        ),
        # As iptables-nft writes it.
        (rule(source("10.78.0.11"), {"xt": {"type": "target", "name": "MASQUERADE"}}), True),
        (rule(source("10.78.0.11"), {"xt": {"type": "target", "name": "LOG"}}), False),
        (rule(source("10.78.0.11"), {"accept": None}), False),
        (rule(source("10.78.0.0", op="!="), {"masquerade": None}), False),
        (rule(source("192.0.2.1"), {"masquerade": None}), False),
        (rule(source("@allowed"), source("fe80::1"), {"masquerade": None}), False),
        (rule({"dnat": {"addr": {"range": ["10.78.0.10", "10.78.0.12"]}}}), True),
        (rule({"masquerade": None}), False),
        (rule(source("10.78.0.11"), {"dnat": None}), True),
        (rule(), False),
    ],
)
def test_what_a_rule_names(ruleset: str, *, ours: bool) -> None:
    assert bool(rules.translations(network(), ruleset)) is ours


def test_a_program_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rules.asked(("no-such-program",)) == ("", "this host has no program no-such-program")
    assert rules.asked(("sh", "-c", "echo no >&2; exit 3")) == ("", "no")
    assert rules.asked(("sh", "-c", "exit 3")) == ("", "exit status 3")
    assert rules.asked(("echo", "yes")) == ("yes\n", "")


def test_the_sockets_of_this_host_are_read_as_they_are() -> None:
    told = subprocess.run(rules.SOCKETS, capture_output=True, text=True, check=True).stdout
    assert all(len(line.split()) >= 5 for line in told.splitlines())
