"""Names, marks and numbers of what is made for a cluster: the same each time, so that they can be found again."""

from __future__ import annotations

import uuid
from xml.etree import ElementTree

from pytest_ai_how.lease.state import PRODUCT, cookie

# The namespace of our element in libvirt's metadata; it names, nothing is fetched from it.
NAMESPACE = f"urn:{PRODUCT}:1"
_ROOT = uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE)


def machine_name(cluster: str, node: str) -> str:
    """A machine's name on this host: unique among clusters."""
    return f"aihow-{cluster}-{node}"


def network_name(cluster: str) -> str:
    """The name of the cluster's network in libvirt."""
    return f"aihow-{cluster}"


def machine_uuid(cluster: str, node: str) -> str:
    """A machine's uuid: stable, since libvirt is slow to meet a new one."""
    return str(uuid.uuid5(_ROOT, f"machine/{cluster}/{node}"))


def network_uuid(cluster: str) -> str:
    """The uuid of the cluster's network."""
    return str(uuid.uuid5(_ROOT, f"network/{cluster}"))


def machine_mark(cluster: str, node: str) -> str:
    """What qemu's arguments carry: the cluster's cookie and the machine."""
    return f"{cookie(cluster)}/{node}"


def daemon_mark(cluster: str) -> str:
    """What the private daemon's arguments and environment carry. No machine is called like it: it holds a dot."""
    return f"{cookie(cluster)}/libvirt.d"


def mac_address(cluster: str, node: str) -> str:
    """A machine's MAC address, in QEMU's own range 52:54:00."""
    low = uuid.uuid5(_ROOT, f"mac/{cluster}/{node}").bytes[:3]
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in low)


def tap_name(cluster: str, node: str) -> str:
    """The host's end of a machine's network interface: 15 characters at most (IFNAMSIZ - 1)."""
    return f"aht{uuid.uuid5(_ROOT, f'tap/{cluster}/{node}').hex[:10]}"


def owner_in(xml: str) -> str:
    """The cookie in the metadata of a domain or network as libvirt tells it; empty when it is not ours."""
    found = ElementTree.fromstring(xml).find(f"./metadata/{{{NAMESPACE}}}owner")  # noqa: S314  libvirtd's own answer
    return (found.get("mark") or "") if found is not None else ""
