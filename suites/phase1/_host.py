"""What this host tells of the machines that it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from pytest_ai_how.config.models import Network
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.transport.protocol import Transport


def running(cluster: str, proc: Path = Path("/proc")) -> dict[str, int]:
    """The machines of a cluster that the kernel runs, whoever started them: a process of each, by the machine's name.

    What boots a machine has the cluster's mark and the machine's name among its arguments.
    """
    mark = re.compile(re.escape(cookie(cluster).encode()) + rb"/([a-z][a-z0-9-]*)(?![a-z0-9.-])")
    found: dict[str, int] = {}
    for path in sorted(proc.glob("[0-9]*/cmdline")):
        try:
            words = path.read_bytes()
        except OSError:  # it ended while we looked
            continue
        if seen := mark.search(words):
            found.setdefault(seen[1].decode(), int(path.parent.name))
    return dict(sorted(found.items()))


def pinned(transport: Transport) -> dict[str, str]:
    """The host keys that a connection trusts, by name and address: known_hosts(5). Empty where it is not ssh."""
    path = getattr(transport, "known_hosts", None)
    rows = (line.split() for line in Path(path).read_text().splitlines()) if path else ()
    return {name: f"{row[1]} {row[2]}" for row in rows if len(row) > 2 for name in row[0].split(",")}


def wrong_bridge(network: Network, links: Iterable[dict[str, Any]]) -> str:
    """What is wrong with a cluster's network on this host; empty when it is as configured.

    ``links`` as ``ip -json -details address`` tells them (iproute2 6.1).
    """
    found = [link for link in links if link.get("ifname") == network.bridge]
    if not found:
        return f"{network.bridge}: this host has no such interface"
    [link] = found
    wanted = IPv4Interface(f"{network.gateway}/{network.subnet.prefixlen}")
    addresses = [
        IPv4Interface(f"{one['local']}/{one['prefixlen']}") for one in link["addr_info"] if one["family"] == "inet"
    ]
    if link.get("linkinfo", {}).get("info_kind") != "bridge":
        return f"{network.bridge}: is no bridge"
    if "UP" not in link["flags"]:
        return f"{network.bridge}: is down, expected up; do: ip link set dev {network.bridge} up"
    if addresses != [wanted]:
        return f"{network.bridge}: has {', '.join(map(str, addresses)) or 'no address'}, expected {wanted}"
    return "" if link["mtu"] == network.mtu else f"{network.bridge}: its MTU is {link['mtu']}, expected {network.mtu}"
