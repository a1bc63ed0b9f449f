"""The cluster's own bridge on this machine, and what may stand in its way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from pytest_ai_how.config.models import Network
from pytest_ai_how.errors import HostError, ProvisionError
from pytest_ai_how.lease.state import PRODUCT, cookie


def host_links() -> list[Mapping[str, Any]]:
    """All network interfaces as iproute2 tells them (``ip -json -details address``, iproute2 6.1)."""
    return _ip_json("-details", "address")


def host_routes() -> list[Mapping[str, Any]]:
    """All IPv4 routes (``ip -json -4 route show table all``, iproute2 6.1)."""
    return _ip_json("-4", "route", "show", "table", "all")


def check_network(
    network: Network, cluster: str, links: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse a bridge name or a subnet that is in use. Raises :class:`HostError` naming what uses it."""
    for link in links:
        if link.get("ifname") == network.bridge:
            raise _bridge_taken(network.bridge, cluster, link.get("ifalias", ""))
    for route in routes:
        destination = route.get("dst", "default")
        if destination == "default" or route.get("type") in {"local", "broadcast"}:
            continue
        if IPv4Network(destination, strict=False).overlaps(network.subnet):
            through = f"via {route['gateway']} " if "gateway" in route else ""
            raise HostError(
                "localhost",
                f"subnet {network.subnet} is in use: route {destination} {through}dev {route.get('dev', '?')}",
                expected="a subnet that no route of this machine overlaps",
                cure="choose another network.subnet (and the nodes' addresses in it)",
            )
    if taken := _addressed(network, links):
        raise taken


def _addressed(network: Network, links: Iterable[Mapping[str, Any]]) -> HostError | None:
    """What is to be said of an address in the subnet on another interface than the bridge; None where there is none."""
    for link in links:
        for address in link.get("addr_info", ()):
            if (
                link.get("ifname") != network.bridge
                and address.get("family") == "inet"
                and IPv4Network(address["local"]).overlaps(network.subnet)
            ):
                return HostError(
                    "localhost",
                    f"subnet {network.subnet} is in use: {link['ifname']} has the address {address['local']}",
                    expected="a subnet that no interface of this machine has an address in",
                    cure="choose another network.subnet (and the nodes' addresses in it)",
                )
    return None


def _bridge_taken(bridge: str, cluster: str, found: str) -> HostError:
    if found == cookie(cluster):
        return HostError(
            "localhost",
            f"bridge {bridge} belongs to a cluster {cluster!r} that this XDG_STATE_HOME does not know",
            expected="no interface of that name",
            cure=f"if nobody uses it: pytest-ai-how reap --force {cluster}",
        )
    ours = found.startswith(f"{PRODUCT}:")
    owner = f"cluster {found.removeprefix(f'{PRODUCT}:')!r}" if ours else "something else"
    return HostError(
        "localhost",
        f"interface {bridge} exists and belongs to {owner}",
        expected="no interface of that name",
        cure="choose another network.bridge",
    )


def make_bridge(network: Network, cluster: str) -> None:
    """Make the bridge with the subnet's first address. No forwarding, no translation: nothing leaves this machine.

    Raises :class:`HostError` when another cluster took the subnet since it was looked at: this host would reach the
    machines of one of the two by the addresses of both.
    """
    name = network.bridge
    commands = (
        f"link add name {name} mtu {network.mtu} type bridge",
        f"link set dev {name} alias {cookie(cluster)}",
        f"link set dev {name} addrgenmode none",
        f"address add {network.gateway}/{network.subnet.prefixlen} dev {name}",
        f"link set dev {name} up",
    )
    made = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False)
    if made.returncode:
        raise ProvisionError(
            "localhost",
            f"bridge {name} could not be made: {made.stderr.strip()}",
            expected=f"a bridge with address {network.gateway}/{network.subnet.prefixlen}",
            cure="see which interface or address is in the way: ip address",
        )
    # Who takes a subnet shows it before looking, so of two that take it at once, one sees the other, or each does.
    if taken := _addressed(network, host_links()):
        raise taken


def _ip_json(*argv: str) -> list[Mapping[str, Any]]:
    told = subprocess.run(["ip", "-json", *argv], capture_output=True, text=True, check=False)
    if told.returncode:
        raise HostError("localhost", f"`ip -json {' '.join(argv)}` failed: {told.stderr.strip()}")
    found: list[Mapping[str, Any]] = json.loads(told.stdout or "[]")
    return found
