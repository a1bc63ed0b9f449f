"""What this machine must have before a cluster of systemd-nspawn machines can be made on it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig, Network
from pytest_ai_how.drivers.nspawn.gpus import check_gpus
from pytest_ai_how.errors import HostError, ProvisionError

# Programs, and the Debian package of each.
_PROGRAMS: Mapping[str, str] = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "mount": "mount",
    "setsid": "util-linux",
    "unshare": "util-linux",
}
# Nodes share this machine's page cache and hardly ever use all that they may: measured, a controller with MariaDB takes
# 350 MiB and an idle compute node 60 MiB. So half of what the YAML gives them must be there, not all of it.
_MEMORY_SHARE = 0.5
# What nodes and jobs write, with the images' copies on shared storage (small 40 MiB, torch 300 MiB).
_DISK_MIB = 2048
# sethostname(2) and systemd-nspawn's machine names hold 64 characters; "aihow-<cluster>-<node>".
_NAME_LIMIT = 64


def check_tools() -> None:
    """Refuse a machine on which systemd-nspawn can't work at all: no root, a program or overlayfs missing."""
    if os.geteuid() != 0:
        expected = "root, to make machines with systemd-nspawn"
        raise HostError("localhost", "not root", expected=expected, cure="run the same command as root")
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            cure = f"apt-get install --no-install-recommends {package}"
            raise HostError("localhost", f"no program {program}", expected=f"{program} in PATH", cure=cure)
    check_machine_id(Path("/etc/machine-id"))
    filesystems = Path("/proc/filesystems").read_text().split()
    if "overlay" not in filesystems and not _module_exists("overlay"):
        raise HostError("localhost", "the kernel has no overlay file system", cure="modprobe overlay")


def check_machine_id(path: Path) -> None:
    """Refuse a host without a machine ID: systemd-nspawn makes the addresses of interfaces of it (machine-id(5))."""
    if not path.exists() or not re.fullmatch(r"[0-9a-f]{32}", path.read_text().strip()):
        expected = "the 32 hexadecimal digits of a machine ID, of which systemd-nspawn makes network addresses"
        raise HostError(str(path), "holds no machine ID", expected=expected, cure="systemd-machine-id-setup")


def _module_exists(name: str) -> bool:
    modules = Path("/lib/modules") / os.uname().release
    return any(modules.glob(f"kernel/fs/*/{name}.ko*"))


def check_config(config: ClusterConfig) -> Network:
    """Refuse a configuration that this driver can't make; return its network.

    Raises :class:`ProvisionError` naming the machine or key.
    """
    network = config.network
    if network is None:
        raise ProvisionError(config.name, "no network", expected="network.subnet and network.bridge", cure="add them")
    if config.storage.kind not in {"host-directory", "none"}:
        raise ProvisionError(
            config.name,
            f"storage.kind {config.storage.kind} can't be made here: systemd-nspawn machines share this host's kernel",
            expected="storage.kind host-directory or none",
            cure="choose one of these, or the libvirt driver",
        )
    available = os.cpu_count() or 1
    for node in config.nodes:
        if len(f"aihow-{config.name}-{node.name}") > _NAME_LIMIT:
            seen = f"cluster and machine name have {len(config.name + node.name)} characters together"
            raise ProvisionError(node.name, seen, expected=f"{_NAME_LIMIT - 7} at most", cure="choose shorter names")
        if node.cpus > available and "compute" in node.roles:
            seen = f"cpus: {node.cpus}, but this machine has {available}"
            raise ProvisionError(node.name, seen, expected="no more CPUs than there are", cure=f"set cpus: {available}")
        if node.gpus and node.gpus.kind == "passthrough":
            seen = "gpus of kind passthrough can't be given to systemd-nspawn machines"
            cure = "use the libvirt driver, or kind nvidia for GPUs that this host's driver has"
            raise ProvisionError(node.name, seen, expected="gpus.kind simulated or nvidia", cure=cure)
        if node.address not in network.subnet or node.address == network.gateway:
            seen = f"address {node.address} is outside {network.subnet} or the bridge's own ({network.gateway})"
            expected = "a free address of the subnet"
            raise ProvisionError(node.name, seen, expected=expected, cure="choose another address")
    check_gpus(config)
    return network


def check_room(config: ClusterConfig, state: Path, meminfo: str, disk_free: int) -> None:
    """Refuse a machine with too little memory or disk. ``meminfo`` is /proc/meminfo (proc(5)), ``disk_free`` bytes."""
    available = next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemAvailable:")) // 1024
    wanted = sum(node.memory for node in config.nodes)
    needed = int(wanted * _MEMORY_SHARE)
    if available < needed:
        raise HostError(
            "localhost",
            f"{available} MiB of memory available",
            expected=f"{needed} MiB, half of the {wanted} MiB that the machines of {config.name!r} may use",
            cure="end other programs, or give the nodes less memory in the YAML",
        )
    if disk_free // 2**20 < _DISK_MIB:
        raise HostError(
            str(state),
            f"{disk_free // 2**20} MiB of disk free",
            expected=f"{_DISK_MIB} MiB for what nodes and jobs write",
            cure="free some, or point XDG_STATE_HOME at another file system",
        )


def userns_absent(proc: Path = Path("/proc")) -> dict[str, str]:
    """Why unprivileged users can't run containers here, by capability: Apptainer needs user namespaces.

    ``user.max_user_namespaces`` is user_namespaces(7); the other two are Debian's and Ubuntu's own switches.
    """
    for switch, closed, cure in (
        ("user/max_user_namespaces", "0", "a number above 0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        path = proc / "sys" / switch
        if path.exists() and path.read_text().strip() == closed:
            key = switch.replace("/", ".")
            return {"apptainer": f"this host forbids unprivileged user namespaces: {key} is {closed}, wants {cure}"}
    return {}
