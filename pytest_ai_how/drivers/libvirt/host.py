"""What this host must have before virtual machines can be made on it."""

from __future__ import annotations

import errno
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig, Network, NodeConfig
from pytest_ai_how.drivers.libvirt import api, names
from pytest_ai_how.drivers.libvirt.daemon import PRIVATE
from pytest_ai_how.drivers.libvirt.virtiofs import check_sources, virtiofsd
from pytest_ai_how.drivers.libvirt.xml import EMULATED_CPU, holds_storage
from pytest_ai_how.drivers.machines.network import check_network, host_links, host_routes
from pytest_ai_how.errors import HostError, ProvisionError
from pytest_ai_how.lease.state import cache_home, cluster_state, cookie
from pytest_ai_how.pci import check as check_devices

EMULATOR = "qemu-system-x86_64"
# Programs, and the Debian package of each.
_PROGRAMS: Mapping[str, str] = {EMULATOR: "qemu-system-x86", "qemu-img": "qemu-utils", "ip": "iproute2"}
# What only a private daemon needs.
_OWN: Mapping[str, str] = {
    "libvirtd": "libvirt-daemon libvirt-daemon-driver-qemu",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
}
# MiB. What a machine's disk grows by while it boots and jobs run: measured, 60 for a controller with MariaDB.
_DISK_EACH = 512
# What QEMU itself takes beside a machine's memory: measured, 60 to 90 MiB.
_OVERHEAD = 90
# Of libvirt's modes for CPUs, those that are this host's. Emulated, by its domain capabilities (9.0), the first is not
# to be had, and the second is the most that QEMU emulates, for which there is a word of its own: maximum.
_HOST_CPU = ("host-passthrough", "host-model")
_PAGES: Mapping[str, tuple[int, int]] = {"2M": (2, 2048), "1G": (1024, 1048576)}
# The kernel's limit on an interface's name is 15 characters; libvirt's on a domain's is the file name limit.
_NAME_LIMIT = 64


def host_lacks() -> str:
    """Why no virtual machine can be made here at all; empty when one can."""
    if platform.machine() != "x86_64":
        return f"needs an x86_64 machine, this is {platform.machine()}"
    if why := api.lacks_libvirt():
        return why
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"needs the program {missing[0]}" if missing else ""


def check_tools(daemon: str) -> None:
    """Refuse a host on which no virtual machine can be made with ``daemon``. Raises :class:`HostError`."""
    wanted = {**_PROGRAMS, **(_OWN if daemon == PRIVATE else {})}
    for program, package in wanted.items():
        if shutil.which(program) is None:
            cure = f"apt-get install --no-install-recommends {package}"
            raise HostError("localhost", f"no program {program}", expected=f"{program} in PATH", cure=cure)
    if why := host_lacks():
        raise HostError("localhost", f"driver libvirt {why}", cure=api.INSTALL)


def looks(config: ClusterConfig, daemon: str, no_kvm: Callable[[], str]) -> tuple[Callable[[], None], ...]:
    """All that is looked at before machines are made with ``daemon``; each raises what it refuses.

    ``no_kvm`` says why machines are emulated here; empty where KVM boots them.
    """
    found: list[Callable[[], None]] = [
        lambda: check_config(config),
        lambda: check_cpus(config, no_kvm),
        lambda: _check_network(config),
        *looks_without_tools(config),
        lambda: check_devices(config),
    ]
    if daemon != PRIVATE:
        found.append(lambda: _check_names(config, daemon))
        found.append(lambda: check_mounted_pages(config, Path("/proc/mounts").read_text()))
    return tuple(found)


def looks_without_tools(config: ClusterConfig) -> tuple[Callable[[], None], ...]:
    """What can be looked at on a host that has nothing of libvirt: memory, disks, pages."""
    state = cluster_state(config.name)
    existing, images = (
        next(path for path in (folder, *folder.parents) if path.exists()) for folder in (state, cache_home())
    )
    return (
        lambda: check_room(config, state, Path("/proc/meminfo").read_text(), shutil.disk_usage(existing).free),
        lambda: check_pages(config),
        lambda: check_disks(config, (existing, images)),
    )


def _check_network(config: ClusterConfig) -> None:
    if config.network:
        check_network(config.network, config.name, host_links(), host_routes())


def _check_names(config: ClusterConfig, daemon: str) -> None:
    with api.connected(daemon) as connection:
        check_names(config, connection)


def check_config(config: ClusterConfig) -> None:
    """Refuse a configuration that this driver can't make here.

    Raises :class:`ProvisionError` naming the machine or key, :class:`HostError` for what this host lacks.
    """
    network = config.network
    if network is None:
        raise ProvisionError(config.name, "no network", expected="network.subnet and network.bridge", cure="add them")
    if config.storage.kind == "existing":
        raise ProvisionError(
            config.name,
            "storage.kind existing, but these machines are made anew",
            expected="storage.kind host-directory, beegfs or none",
            cure="choose one of these, or driver: ssh",
        )
    if config.storage.kind == "host-directory" and os.geteuid() != 0:
        expected = "root, who makes files of the machines' accounts"
        cure = "run the same command as root, or choose storage.kind beegfs"
        raise HostError("localhost", "not root, for storage.kind host-directory", expected=expected, cure=cure)
    if _mounts(config) and virtiofsd() is None:
        cure = "apt-get install --no-install-recommends virtiofsd (Debian 12: qemu-system-common)"
        raise HostError("localhost", "no program virtiofsd", expected="it, to give directories to machines", cure=cure)
    for node in config.nodes:
        _check_node(config, node, network)
    check_sources(config.nodes)


def _mounts(config: ClusterConfig) -> bool:
    return config.storage.kind == "host-directory" or any(node.virtiofs for node in config.nodes)


def _check_node(config: ClusterConfig, node: NodeConfig, network: Network) -> None:
    if len(names.machine_name(config.name, node.name)) > _NAME_LIMIT:
        seen = f"cluster and machine name have {len(config.name + node.name)} characters together"
        raise ProvisionError(node.name, seen, expected=f"{_NAME_LIMIT - 7} at most", cure="choose shorter names")
    if node.address not in network.subnet or node.address == network.gateway:
        seen = f"address {node.address} is outside {network.subnet} or the bridge's own ({network.gateway})"
        raise ProvisionError(node.name, seen, expected="a free address of the subnet", cure="choose another address")
    if node.gpus and node.gpus.kind == "nvidia":
        seen = "gpus of kind nvidia can't be given to virtual machines as they are"
        raise ProvisionError(node.name, seen, expected="gpus.kind passthrough or simulated", cure="choose one of these")
    available = os.cpu_count() or 1
    if beyond := [cpu for cpu in node.pinning or () if cpu >= available]:
        seen = f"pinning: CPU {beyond[0]}, but this host has the CPUs 0 to {available - 1}"
        raise ProvisionError(node.name, seen, expected="CPUs of this host", cure="correct pinning")


def check_cpus(config: ClusterConfig, no_kvm: Callable[[], str]) -> None:
    """Refuse machines that are to have this host's CPU where they are emulated. Raises :class:`ProvisionError`.

    KVM is asked for only where a machine needs it: the first answer takes the boot of a kernel.
    """
    for node in config.nodes:
        if node.cpu_model in _HOST_CPU and (why := no_kvm()):
            raise ProvisionError(
                node.name,
                f"cpu_model: {node.cpu_model}, but machines are emulated here and can't have this host's CPU: {why}",
                expected="a host whose KVM boots machines, or a CPU that can be emulated",
                cure=f"name a model in the YAML, such as {EMULATED_CPU}, or leave cpu_model out",
            )


def check_room(config: ClusterConfig, state: Path, meminfo: str, disk_free: int) -> None:
    """Refuse a host with too little memory or disk. ``meminfo`` is /proc/meminfo (proc(5)), ``disk_free`` bytes.

    A machine's kernel fills its memory sooner or later, with its page cache if with nothing else.
    """
    starting = [node for node in config.nodes if node.auto_start]
    available = next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemAvailable:")) // 1024
    needed = sum(_OVERHEAD + (0 if node.hugepages else node.memory) for node in starting)
    if available < needed:
        raise HostError(
            "localhost",
            f"{available} MiB of memory available",
            expected=f"{needed} MiB for the machines of {config.name!r} that start",
            cure="end other programs, or give the nodes less memory in the YAML",
        )
    room = _DISK_EACH * len(config.nodes)
    if disk_free // 2**20 < room:
        raise HostError(
            str(state),
            f"{disk_free // 2**20} MiB of disk free",
            expected=f"{room} MiB for what {len(config.nodes)} machines write",
            cure="free some, or point XDG_STATE_HOME at another file system",
        )


def check_pages(config: ClusterConfig, sysfs: Path = Path("/sys/kernel/mm/hugepages")) -> None:
    """Refuse machines whose huge pages this host has not set aside (admin-guide/mm/hugetlbpage.rst)."""
    for size, (mib, kib) in _PAGES.items():
        starting = [node for node in config.nodes if node.hugepages == size and node.auto_start]
        needed = sum(node.memory // mib for node in starting)
        free = sysfs / f"hugepages-{kib}kB/free_hugepages"
        found = int(free.read_text()) if free.exists() else 0
        if needed > found:
            raise HostError(
                "localhost",
                f"{found} huge pages of {size} free",
                expected=f"{needed} for {', '.join(node.name for node in starting)}",
                cure=f"echo {needed} >{sysfs}/hugepages-{kib}kB/nr_hugepages, or leave hugepages out",
            )


def check_mounted_pages(config: ClusterConfig, mounts: str) -> None:
    """Refuse huge pages to machines of a daemon that runs where no hugetlbfs has them. ``mounts``: /proc/mounts.

    ``hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0`` (Linux 6.1; 1G is written 1024M)
    """
    found = [line.split() for line in mounts.splitlines()]
    sizes = {option for fields in found if fields[2] == "hugetlbfs" for option in fields[3].split(",")}
    for size, (mib, _) in _PAGES.items():
        wanting = [node.name for node in config.nodes if node.hugepages == size]
        if wanting and f"pagesize={mib}M" not in sizes:
            raise HostError(
                "localhost",
                f"no hugetlbfs of pages of {size} is mounted, for {', '.join(wanting)}",
                expected="one that was mounted before libvirtd started",
                cure=f"mount -t hugetlbfs -o pagesize={size} hugetlbfs /dev/hugepages; systemctl restart libvirtd",
            )


def check_disks(config: ClusterConfig, folders: Iterable[Path]) -> None:
    """Refuse machines that hold storage where their disks, in ``folders``, can't be written past this host's memory."""
    if not (holding := [node.name for node in config.nodes if holds_storage(config, node)]):
        return
    for folder in folders:
        if not does_direct_io(folder):
            raise HostError(
                str(folder),
                "its file system does no direct I/O (O_DIRECT)",
                expected=f"one that does, under the disks of {', '.join(holding)}, which hold BeeGFS's data",
                cure="point XDG_STATE_HOME and XDG_CACHE_HOME at another file system, such as ext4 or XFS",
            )


def does_direct_io(folder: Path) -> bool:
    """Whether files of ``folder`` can be opened past this host's memory (open(2), O_DIRECT: EINVAL where they can't).

    Where no nameless file can be made, it can't be told, and QEMU will say so.
    """
    for flags in (0, os.O_DIRECT):
        try:
            os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | flags))
        except OSError as error:
            return not flags or error.errno != errno.EINVAL
    return True


def check_names(config: ClusterConfig, connection: api.Connection) -> None:
    """Refuse to make what libvirt knows already, ours or not. Raises :class:`HostError` naming it."""
    mark = cookie(config.name)
    for node in config.nodes:
        found = api.find_domain(connection, names.machine_uuid(config.name, node.name))
        name = names.machine_name(config.name, node.name)
        _refuse_taken(config.name, "domain", found or _named(connection.lookupByName, name), mark)
    network = api.find_network(connection, names.network_uuid(config.name))
    named = network or _named(connection.networkLookupByName, names.network_name(config.name))
    _refuse_taken(config.name, "network", named, mark)


def _named(look_up: Callable[[str], api.Domain | api.Network], name: str) -> api.Domain | api.Network | None:
    try:
        return look_up(name)
    except Exception as error:
        if api.error_number(error) in (api.NO_DOMAIN, api.NO_NETWORK):
            return None
        raise


def _refuse_taken(cluster: str, kind: str, found: api.Domain | api.Network | None, mark: str) -> None:
    if found is None:
        return
    owner = names.owner_in(found.XMLDesc())
    if owner.partition("/")[0] == mark:
        raise HostError(
            "localhost",
            f"{kind} {found.name()} belongs to a cluster {cluster!r} that this XDG_STATE_HOME does not know",
            expected=f"no {kind} of that name",
            cure=f"if nobody uses it: pytest-ai-how reap --force {cluster}",
        )
    raise HostError(
        "localhost",
        f"{kind} {found.name()} exists in libvirt and is not ours",
        expected=f"no {kind} of that name",
        cure="choose another name for the cluster",
    )
