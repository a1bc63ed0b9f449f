"""What this host does with a network beside carrying it: handing out addresses of it, and translating them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Any

from pytest_ai_how.config.models import Network

#: What asks this host: its UDP sockets, and the rules of its kernel's packet filter, those of iptables-nft among them.
SOCKETS = ("ss", "-H", "-l", "-n", "-u", "-p")
RULES = ("nft", "--json", "list", "ruleset")
#: The port that servers of DHCP hear at (RFC 2131, 4.1).
_DHCP = 67
# Statements of nft that translate (libnftables-json(5)), and the targets of iptables that do.
_TRANSLATES = frozenset({"masquerade", "snat", "dnat", "redirect"})
_TARGETS = frozenset({"MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP"})


def asked(argv: tuple[str, ...]) -> tuple[str, str]:
    """What a program of this host says, and if it says nothing, why not: it is not installed, or it failed."""
    if shutil.which(argv[0]) is None:
        return "", f"this host has no program {argv[0]}"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout, "") if done.returncode == 0 else ("", done.stderr.strip() or f"exit status {done.returncode}")


def dhcp_servers(network: Network, sockets: str) -> list[str]:
    """The sockets at which DHCP is served on the network's bridge, from ``ss -H -l -n -u -p`` (iproute2 6.1).

    ::

        UNCONN 0 0 0.0.0.0%virbr0:67 0.0.0.0:* users:(("dnsmasq",pid=812,fd=3))
    """
    places = {f"{where}:{_DHCP}" for where in (f"0.0.0.0%{network.bridge}", f"*%{network.bridge}", network.gateway)}
    rows = (line.split() for line in sockets.splitlines())
    return [" ".join(row[3:4] + row[5:]) for row in rows if len(row) > 3 and row[3] in places]


def translations(network: Network, ruleset: str) -> list[str]:
    """The rules that translate addresses of the network by name: of ``nft --json list ruleset`` (nftables 1.0.6).

    ::

        {"nftables": [{"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                       "right": {"prefix": {"addr": "10.78.0.0", "len": 24}}}}, {"masquerade": null}]}}]}

    A rule for all that leaves by another interface is none of the network's: no machine has a way there.
    """
    rules = [entry["rule"] for entry in json.loads(ruleset)["nftables"] if "rule" in entry]
    return [
        f"{rule['family']} {rule['table']} {rule['chain']}: {json.dumps(rule['expr'])}"
        for rule in rules
        if _translates(rule.get("expr", ())) and _concerns(network, rule["expr"])
    ]


def _translates(statements: Iterable[Mapping[str, Any]]) -> bool:
    return any(_TRANSLATES & one.keys() or (one.get("xt") or {}).get("name") in _TARGETS for one in statements)


def _concerns(network: Network, statements: Iterable[Mapping[str, Any]]) -> bool:
    return any(_names(network, one) for one in statements)


def _names(network: Network, statement: Mapping[str, Any]) -> bool:
    """Whether a statement is about packets of the network, or translates to an address of it."""
    match = statement.get("match", {})
    left, right = match.get("left", {}), match.get("right") if match.get("op") == "==" else None
    if left.get("meta", {}).get("key") in {"iifname", "oifname"}:
        return network.bridge in _members(right)
    addresses = [right] if left.get("payload", {}).get("field") in {"saddr", "daddr"} else []
    addresses += [(statement.get(kind) or {}).get("addr") for kind in ("snat", "dnat")]
    return any(part.overlaps(network.subnet) for value in addresses for part in _networks(value))


def _members(value: Any) -> list[Any]:
    return list(value["set"]) if isinstance(value, dict) and "set" in value else [value]


def _networks(value: Any) -> Iterator[IPv4Network]:
    """The IPv4 networks that a value of nft stands for: an address, a prefix, a range, or a set of these."""
    for one in _members(value):
        try:
            if isinstance(one, dict) and "prefix" in one:
                yield IPv4Network(f"{one['prefix']['addr']}/{one['prefix']['len']}", strict=False)
            elif isinstance(one, dict) and "range" in one:
                yield from summarize_address_range(*map(IPv4Address, one["range"]))
            elif isinstance(one, str):
                yield IPv4Network(one)
        except ValueError:  # IPv6, or the name of a set
            continue
