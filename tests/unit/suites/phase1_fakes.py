"""What machines tell phase 1 when all is well, and a way to change it for some of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.facts import Fact, Readings
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.shell import Result
from suites.phase1 import _facts as read
from suites.phase1._throughput import SPEEDS

ADDRESS = {"controller": "10.78.0.10", "node01": "10.78.0.11", "node02": "10.78.0.12"}
HOSTS = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in ADDRESS.items())
#: `sshd -T` of OpenSSH 10.0 on a machine of ours, the keywords that matter here.
SSHD = """\
port 22
permitrootlogin without-password
pubkeyauthentication yes
passwordauthentication no
kbdinteractiveauthentication no
permitemptypasswords no
"""
#: `ss -Hlntup` of iproute2 6.15 on machines of ours.
SSH = 'tcp LISTEN 0      128    0.0.0.0:22   0.0.0.0:* users:(("sshd",pid=41,fd=6))\n'
SOCKETS = {
    "controller": SSH
    + 'tcp LISTEN 0      4096   0.0.0.0:6819 0.0.0.0:* users:(("slurmdbd",pid=51,fd=11))\n'
    + 'tcp LISTEN 0      4096   0.0.0.0:6817 0.0.0.0:* users:(("slurmctld",pid=92,fd=7))\n',
    "node01": SSH + 'tcp LISTEN 0      4096   0.0.0.0:6818 0.0.0.0:* users:(("slurmd",pid=57,fd=5))\n',
    "node02": SSH + 'tcp LISTEN 0      4096   0.0.0.0:6818 0.0.0.0:* users:(("slurmd",pid=58,fd=5))\n',
}


def links(address: str = "", *, mtu: int = 1500, flags: tuple[str, ...] = ("UP", "LOWER_UP")) -> str:
    """`ip -json address` of iproute2 6.15: loopback, and one interface with an address in 10.78.0.0/24."""
    info = [{"family": "inet", "local": address, "prefixlen": 24}] if address else []
    lo = {"ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536, "addr_info": []}
    return json.dumps([lo, {"ifname": "host0", "flags": list(flags), "mtu": mtu, "addr_info": info}])


def disk(gib: int) -> str:
    """`lsblk --json` of util-linux 2.41 in a virtual machine."""
    vda = {"name": "vda", "type": "disk", "size": gib * 2**30, "mountpoints": ["/"]}
    return json.dumps({"blockdevices": [vda]})


WELL: Mapping[Fact[Any], str | Callable[[str], str]] = {
    read.HOSTNAME: lambda name: f"{name}\n",
    read.HOSTS: HOSTS,
    read.INTERFACES: lambda name: links(ADDRESS[name]),
    read.WAY_OUT: "[]",
    read.CPUS: "2",
    read.MEMORY: lambda name: f"MemTotal: {2000000 if name == 'controller' else 1000000} kB\n",
    read.DISK: disk(10),
    read.SYSTEM: 'ID=debian\nVERSION_CODENAME=trixie\nVERSION_ID="13"\n',
    read.KERNEL: "6.12.48+deb13-cloud-amd64\n",
    read.MODULES: "",
    read.PACKAGES: "fio\t3.39-1\tinstalled\n",
    read.STATE: "running",
    read.FAILED: "[]",
    read.SPACE: "Mounted on 1B-blocks Avail Inodes IFree\n/ 1000 250 100 90\n/var/log 1000 300 100 80\n",
    read.KERNEL_LOG: "[    0.000000] controller kernel: Linux version 6.12.48+deb13-cloud-amd64\n",
    read.SSHD: SSHD,
    SPEEDS: "",
}


def facts(evidence: Evidence | None = None, **changed: Mapping[Fact[Any], str | Result]) -> Facts:
    """What machines tell: all is well but for what ``changed`` says of some, by name."""
    answers = {
        name: {fact: told(name) if callable(told) else told for fact, told in WELL.items()}
        | dict(changed.get(name, {}))
        for name in ADDRESS
    }
    return Facts(Readings.told(answers), evidence or Evidence())


def also(fact: Fact[Any], *, other: str, **told: str) -> Facts:
    """The same with a fact that is made for one cluster: what some machines say of it, and all the others."""
    names = dict.fromkeys(ADDRESS, other) | told
    return facts(**{name: {fact: said} for name, said in names.items()})


def measure() -> Measurements:
    """Judging by the limits that ship."""
    return Measurements(load_limits("local"))


@dataclasses.dataclass
class FakeBringup:
    """What a check asks a bring-up for."""

    driver: Driver
    known: Cluster
    services: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> ClusterConfig:
        return self.known.config

    def cluster(self) -> Cluster:
        return self.known

    def ready_all(self, names: object) -> Mapping[str, object]:
        return self.services


def bringup(driver: object, cluster: Cluster, **services: object) -> Bringup:
    """A bring-up with this driver, whose cluster is up."""
    return FakeBringup(driver, cluster, services)  # type: ignore[arg-type, return-value]
