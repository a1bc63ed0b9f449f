"""What phase 1 reads of machines, and how it is understood. Each parser shows what it parses, with its version."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any

from pytest_ai_how.facts import Fact


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of a machine, as ``ip -json address`` tells it; loopback is none."""

    name: str
    mtu: int
    up: bool
    addresses: tuple[IPv4Interface, ...]
    #: Those of the addresses that are lent for a time, by a server of DHCP.
    leased: tuple[IPv4Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class Space:
    """A file system: bytes, and inodes (none: it counts none)."""

    size: int
    free: int
    inodes: int = 0
    free_inodes: int = 0

    @property
    def percent(self) -> float:
        """How much is free, in percent: of bytes or of inodes, whichever is less."""
        inodes = [100 * self.free_inodes / self.inodes] if self.inodes else []
        return min([100 * self.free / self.size, *inodes]) if self.size else 0.0


def interfaces(text: str) -> tuple[Interface, ...]:
    """Read ``ip -json address`` (iproute2 6.15).

    >>> interfaces('''[{"ifname": "host0", "flags": ["BROADCAST", "UP", "LOWER_UP"], "mtu": 1500,
    ...   "addr_info": [{"family": "inet", "local": "10.78.0.11", "prefixlen": 24}]}]''')[0].addresses
    (IPv4Interface('10.78.0.11/24'),)
    """
    return tuple(
        Interface(
            link["ifname"],
            int(link["mtu"]),
            {"UP", "LOWER_UP"} <= set(link["flags"]),
            tuple(_address(one) for one in link.get("addr_info", ()) if one["family"] == "inet"),
            # "dynamic": true stands beside an address that the kernel takes away when its time is over.
            tuple(_address(one) for one in link.get("addr_info", ()) if one["family"] == "inet" and one.get("dynamic")),
        )
        for link in json.loads(text)
        if "LOOPBACK" not in link["flags"]
    )


def _address(told: Mapping[str, Any]) -> IPv4Interface:
    return IPv4Interface(f"{told['local']}/{told['prefixlen']}")


def hosts(text: str) -> dict[str, tuple[str, ...]]:
    r"""The addresses of each name in /etc/hosts, in the order of the file.

    >>> hosts("127.0.0.1 localhost  # itself\n10.78.0.11 node01 gpu1\n127.0.1.1 node01\n")["node01"]
    ('10.78.0.11', '127.0.1.1')
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            found[name] = (*found.get(name, ()), address)
    return found


def assignments(text: str) -> dict[str, str]:
    r"""Read os-release(5).

    >>> assignments('ID=debian\nVERSION_ID="13"\n')
    {'ID': 'debian', 'VERSION_ID': '13'}
    """
    lines = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, _, value in lines}


def memory(text: str) -> float:
    r"""The MiB of ``MemTotal`` in /proc/meminfo (proc_meminfo(5)).

    >>> memory("MemTotal:        1003264 kB\nMemFree:          706724 kB\n")
    979.75
    """
    [kib] = re.findall(r"^MemTotal:\s+(\d+) kB$", text, re.MULTILINE)
    return int(kib) / 1024


def root_disk(text: str) -> float:
    """The GiB of the disk that holds ``/``, of ``lsblk --json --bytes --output NAME,TYPE,SIZE,MOUNTPOINTS`` (2.41).

    >>> root_disk('''{"blockdevices": [{"name": "vda", "type": "disk", "size": 10737418240, "mountpoints": ["/"]},
    ...   {"name": "vdb", "type": "disk", "size": 1073741824, "mountpoints": [null]}]}''')
    10.0
    """

    def holds(device: Mapping[str, Any]) -> bool:
        return "/" in device.get("mountpoints", ()) or any(map(holds, device.get("children", ())))

    [disk] = [device for device in json.loads(text)["blockdevices"] if holds(device)]
    return int(disk["size"]) / 2**30


def packages(text: str) -> dict[str, str]:
    r"""The version of each package that is installed, of ``dpkg-query --show`` in the form of :data:`PACKAGES` (1.22).

    >>> packages("fio\t3.39-1\tinstalled\nold\t1.0\tconfig-files\n")
    {'fio': '3.39-1'}
    """
    rows = (line.split("\t") for line in text.splitlines())
    return {name.partition(":")[0]: version for name, version, state in rows if state == "installed"}


def units(text: str) -> tuple[str, ...]:
    """The names in ``systemctl list-units --output=json`` (systemd 257).

    >>> units('[{"unit": "fan.service", "load": "loaded", "active": "failed", "sub": "failed", "description": "Fan"}]')
    ('fan.service',)
    """
    return tuple(one["unit"] for one in json.loads(text or "[]"))


def space(text: str) -> dict[str, Space]:
    r"""Read ``df --block-size=1 --output=target,size,avail,itotal,iavail`` (coreutils 9.7), by mount point.

    >>> space("Mounted on 1B-blocks Avail Inodes IFree\n/ 1000 250 - -\n")["/"].percent
    25.0
    """
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[0]: Space(*(int(word) if word.isdigit() else 0 for word in row[1:])) for row in rows}


def settings(text: str) -> dict[str, tuple[str, ...]]:
    r"""Read ``sshd -T`` or ``ssh -G`` (OpenSSH 10.0): the values of each keyword, which is in lower case.

    >>> settings("port 22\npasswordauthentication no\nhostkey /a\nhostkey /b\n")["hostkey"]
    ('/a', '/b')
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        found[key] = (*found.get(key, ()), value)
    if "port" not in found:
        raise ValueError("no port is told")
    return found


def names(text: str) -> tuple[str, ...]:
    """One name a line."""
    return tuple(text.split())


def lines(text: str) -> tuple[str, ...]:
    """The lines that say something. None at all is an error: what says nothing was not read."""
    found = tuple(line for line in text.splitlines() if line.strip())
    if not found:
        raise ValueError("it is empty")
    return found


def state(text: str) -> str:
    r"""The state of systemd. It says nothing, when it is asked to wait and the jobs of the boot don't end.

    >>> state("degraded\n"), state("")
    ('degraded', 'still starting')
    """
    return text.strip() or "still starting"


def as_root(*argv: str) -> tuple[str, ...]:
    """A command that only root can run, for who may be somebody with sudo."""
    return ("sh", "-c", 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi', "sh", *argv)


def resolves(wanted: Iterable[str]) -> Fact[dict[str, tuple[str, ...]]]:
    """What a machine's resolver says of names: their IPv4 addresses. A name that has none is left out."""
    return Fact("what it resolves names to", ("getent", "ahostsv4", *wanted), resolved, frozenset({0, 2}))


def resolved(text: str) -> dict[str, tuple[str, ...]]:
    """Read ``getent ahostsv4`` (glibc 2.41): the name stands behind the first address of each only.

    >>> resolved('''10.78.0.11      STREAM node01
    ... 10.78.0.11      DGRAM
    ... 10.78.0.12      STREAM node02
    ... 10.78.0.13      STREAM
    ... ''')
    {'node01': ('10.78.0.11',), 'node02': ('10.78.0.12', '10.78.0.13')}
    """
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for line in text.splitlines():
        address, _, *named = line.split()
        name = named[0] if named else name
        if address not in found.get(name, ()):
            found[name] = (*found.get(name, ()), address)
    return found


HOSTNAME = Fact("its host name", ("uname", "-n"), str.strip)
HOSTS = Fact("its /etc/hosts", ("cat", "/etc/hosts"), hosts)
INTERFACES = Fact("its network interfaces", ("ip", "-json", "address"), interfaces)
WAY_OUT = Fact(
    "its default routes", ("ip", "-json", "-4", "route", "show", "default"), lambda text: json.loads(text or "[]")
)
CPUS = Fact("its CPUs", ("nproc", "--all"), int)
MEMORY = Fact("its memory", ("cat", "/proc/meminfo"), memory)
DISK = Fact("its disks", ("lsblk", "--json", "--bytes", "--output", "NAME,TYPE,SIZE,MOUNTPOINTS"), root_disk)
SYSTEM = Fact("its operating system", ("cat", "/etc/os-release"), assignments)
KERNEL = Fact("its kernel", ("uname", "-r"), str.strip)
# ls exits with 2 where the folder is not there: DKMS is not installed.
MODULES = Fact("modules that DKMS builds", ("ls", "/var/lib/dkms"), names, frozenset({0, 2}))
PACKAGES = Fact(
    "its packages",
    ("dpkg-query", "--show", "--showformat=${Package}\\t${Version}\\t${db:Status-Status}\\n"),
    packages,
)
# Its exit status is 1 for every state but running, and 124 where the first jobs of the boot had not ended in time:
# bring-up waits for the cluster's services, and a busy machine may start others for some seconds more.
STATE = Fact(
    "what systemd says",
    ("timeout", "--kill-after=1", "15", "systemctl", "is-system-running", "--wait"),
    state,
    frozenset({0, 1, 124}),
)
FAILED = Fact("failed units", ("systemctl", "list-units", "--failed", "--output=json"), units)
SPACE = Fact("free space", ("df", "--block-size=1", "--output=target,size,avail,itotal,iavail", "/", "/var/log"), space)
# The journal keeps what has left the kernel's own buffer; where nobody keeps one, that buffer is all there is.
_KERNEL_LOG = (
    'said=$(journalctl --dmesg --boot --output=short-monotonic 2>/dev/null) && [ -n "$said" ] '
    "|| said=$(dmesg) || exit; printf '%s\\n' \"$said\""
)
KERNEL_LOG = Fact("the kernel's log", as_root("sh", "-c", _KERNEL_LOG), lines)
SSHD = Fact("what sshd goes by", as_root("/usr/sbin/sshd", "-T"), settings)
