"""What a host holds of the kinds that a cluster is made of: to be the same before and after one.

Everything of these kinds is listed, marked or not, but for what is provably another cluster's: several may be up at
once, and come and go while we look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_ai_how.drivers.libvirt import api
from pytest_ai_how.drivers.libvirt.daemon import running_daemon
from pytest_ai_how.drivers.libvirt.names import owner_in
from pytest_ai_how.drivers.machines.network import host_links
from pytest_ai_how.lease.files import mounts
from pytest_ai_how.lease.kernel import hierarchies, marked_cgroups
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import PRODUCT, cookie, state_home

# A path in the state of a cluster, or in the cache: …/pytest-ai-how/<name>/…
_OURS = re.compile(rf"/{PRODUCT}/\.?(?P<name>[^/]+)")
_NSPAWN = Path("/run/systemd/nspawn")


def inventory(cluster: str) -> frozenset[str]:
    """The host's mounts, loop devices, network interfaces, control groups, what its libvirt knows, and the cluster's
    processes and files.
    """
    links = _interfaces(host_links(), cluster)
    return frozenset([*_paths(cluster), *links, *_groups(cluster), *_libvirt(cluster), *_marked(cluster)])


def difference(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """What is there that was not, and what is gone, in words; empty when nothing changed."""
    old, new = frozenset(before), frozenset(after)
    return [f"{what} was left behind" for what in sorted(new - old)] + [f"{what} is gone" for what in sorted(old - new)]


def of_another(path: str, cluster: str) -> bool:
    """Whether a path lies in the folder of another cluster, or of the images that all share."""
    found = _OURS.search(path)
    return found is not None and found["name"].split(".")[0] != cluster


def _paths(cluster: str) -> Iterator[str]:
    for mount in mounts():
        if not of_another(mount.target, cluster):
            yield f"mount {mount.target}"
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        behind = device.read_text().strip()
        if not of_another(behind, cluster):
            yield f"loop device on {behind}"


def _interfaces(links: Iterable[Mapping[str, Any]], cluster: str) -> Iterator[str]:
    """``links`` as `ip -json -details address` tells them (iproute2 6.1)."""
    found = list(links)
    others = {link["ifname"] for link in found if _of_another_alias(str(link.get("ifalias", "")), cluster)}
    # A veth's name is random, its bridge is not.
    yield from (f"interface {one['ifname']}" for one in found if not others & {one["ifname"], one.get("master")})


def _of_another_alias(alias: str, cluster: str) -> bool:
    return alias.startswith(f"{PRODUCT}:") and alias != cookie(cluster)


def _groups(cluster: str) -> Iterator[str]:
    for top in hierarchies():
        for group in top.iterdir():
            if group.is_dir() and not _of_another_alias(group.name, cluster):
                yield f"control group {group}"
    yield from (f"control group {path}" for path in marked_cgroups(cookie(cluster)))


def _libvirt(cluster: str) -> Iterator[str]:
    """What a daemon that runs on this host knows. One of a cluster's own is gone with its processes and files."""
    uri = "" if api.lacks_libvirt() else running_daemon()
    if not uri:
        return
    with api.connected(uri) as connection:
        found = [("domain", one) for one in connection.listAllDomains()]
        found += [("network", one) for one in api.listed(connection.listAllNetworks)]
        found += [("storage pool", one) for one in api.listed(connection.listAllStoragePools)]
        for kind, one in found:
            owner = owner_in(one.XMLDesc()).partition("/")[0]
            if not _of_another_alias(owner, cluster):
                yield f"{kind} {one.name()} in libvirt"


def _marked(cluster: str) -> Iterator[str]:
    yield from (f"process {one.pid} ({one.name})" for one in marked(cookie(cluster)))
    for path in _NSPAWN.rglob(f"*{cluster}*"):
        yield f"file {path}"
    home = state_home()
    for path in home.iterdir() if home.is_dir() else ():
        if path.name.lstrip(".").split(".")[0] == cluster:
            yield f"file {path}"
