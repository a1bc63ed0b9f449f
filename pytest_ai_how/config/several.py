"""Several clusters in one file: what surrounds them, and the rules between them.

::

    version: 1
    clusters:
      hpc: {network: …, nodes: …}       # as a cluster of its own, without version; the name is the key's by default
      cloud: {network: …, nodes: …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import Literal

from pydantic import Field

from pytest_ai_how.config.forms import Model, Name
from pytest_ai_how.config.plain import Plain, at, entries, subnet_of
from pytest_ai_how.marked import KeyPath, Mistake, shown

CLUSTERS = "clusters"


class ClustersFile(Model):
    """A file of several clusters."""

    version: Literal[1]
    clusters: dict[Name, dict[str, object]] = Field(min_length=1)


def entries_of(data: Plain) -> Iterator[tuple[str, Plain]]:
    """Each cluster of the file by its key, as the plain values of a file of its own."""
    clusters = data.get(CLUSTERS)
    for key, entry in clusters.items() if isinstance(clusters, Mapping) else ():
        if isinstance(entry, Mapping):
            yield str(key), {"name": key, **entry, "version": 1}


def misplaced(key: str, data: Plain) -> Iterator[Mistake]:
    """What belongs to the file as a whole."""
    if at(data, CLUSTERS, key, "version") is not None:
        yield Mistake((CLUSTERS, key, "version"), "unknown key; it stands once, at the top of the file")


def broken_between(clusters: Mapping[str, Plain]) -> Iterator[Mistake]:
    """Every rule between clusters that are to be there at once, and that the file breaks."""
    for key, field in (("name", "the name of cluster"), ("bridge", "the bridge of cluster")):
        yield from _repeated(clusters, key, field)
    yield from _overlaps(clusters)
    yield from _devices(clusters)


def _repeated(clusters: Mapping[str, Plain], key: str, thing: str) -> Iterator[Mistake]:
    path: KeyPath = ("network", key) if key == "bridge" else (key,)
    first: dict[str, str] = {}
    for cluster, data in clusters.items():
        value = at(data, *path)
        if isinstance(value, str) and first.setdefault(value, cluster) != cluster:
            yield Mistake((CLUSTERS, cluster, *path), f"{shown(value)} is {thing} {shown(first[value])} too")


def _overlaps(clusters: Mapping[str, Plain]) -> Iterator[Mistake]:
    before: list[tuple[str, IPv4Network]] = []
    for cluster, data in clusters.items():
        subnet = subnet_of(data)
        if subnet is None:
            continue
        for other, theirs in before:
            if subnet.overlaps(theirs):
                what = f"{subnet} overlaps {theirs} of cluster {shown(other)}"
                yield Mistake((CLUSTERS, cluster, "network", "subnet"), what)
        before.append((cluster, subnet))


def _devices(clusters: Mapping[str, Plain]) -> Iterator[Mistake]:
    """A slot holds one card, whichever cluster names it, and the card has one owner that starts by itself."""
    owners: dict[str, tuple[str, object]] = {}
    seen: dict[str, tuple[object, object, str]] = {}
    for cluster, where, node, device in _given(clusters):
        address = device.get("address")
        if not isinstance(address, str):
            continue
        vendor, model, first = seen.setdefault(address, (device.get("vendor"), device.get("device"), cluster))
        if (device.get("vendor"), device.get("device")) != (vendor, model):
            ids = f"{device.get('vendor')}:{device.get('device')}"
            what = f"{address} is {ids} here and {vendor}:{model} in cluster {shown(first)}; at most one is right"
            yield Mistake((*where, "device"), what, "pytest-ai-how inventory pci")
        if node.get("auto_start") is False:
            continue
        owner, name = owners.setdefault(address, (cluster, node.get("name")))
        if owner != cluster:
            what = f"{shown(address)} is given to {shown(name)} of cluster {shown(owner)}"
            what += "; one machine that starts by itself owns a device"
            yield Mistake((*where, "address"), what, "auto_start: false on the other")


def _given(clusters: Mapping[str, Plain]) -> Iterator[tuple[str, KeyPath, Plain, Plain]]:
    """Each device of each machine: its cluster, its path in the file, its machine."""
    for cluster, data in clusters.items():
        for path, node in entries(data, "nodes"):
            for inner, device in entries(node, "gpus", "devices"):
                yield cluster, (CLUSTERS, cluster, *path, *inner), node, device
