"""What phase 1 reads of GPUs: from the PCI bus, the kernel and the driver."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.facts import Fact
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence

from ._facts import lines

#: NVIDIA's number among the vendors of PCI devices.
NVIDIA = "10de"


@dataclass(frozen=True, slots=True)
class Card:
    """A display or 3D controller on the PCI bus, and the driver that has it (none: ``""``)."""

    address: str
    ids: str
    driver: str

    @property
    def nvidia(self) -> bool:
        """Whether NVIDIA made it."""
        return self.ids.startswith(f"{NVIDIA}:")


@dataclass(frozen=True, slots=True)
class Told:
    """A GPU as nvidia-smi tells it."""

    name: str
    bus: str
    driver: str
    mib: int


def cards(text: str) -> tuple[Card, ...]:
    r"""Read what :data:`CARDS` prints of sysfs (Linux 6.12).

    >>> cards("0000:00:06.0 0x10de 0x2330 nvidia\n0000:00:01.0 0x1234 0x1111 \n")[0]
    Card(address='0000:00:06.0', ids='10de:2330', driver='nvidia')
    """
    rows = (line.split() for line in text.splitlines())
    return tuple(
        Card(row[0], ":".join(word.removeprefix("0x") for word in row[1:3]), row[3] if row[3:] else "") for row in rows
    )


def told(text: str) -> tuple[Told, ...]:
    """Read :data:`SMI` (driver 580.159.04).

    >>> told("0, NVIDIA H100 80GB HBM3, 00000000:00:06.0, 580.159.04, 81559")
    (Told(name='NVIDIA H100 80GB HBM3', bus='00000000:00:06.0', driver='580.159.04', mib=81559),)
    """
    rows = (line.split(", ") for line in text.splitlines() if line.strip())
    return tuple(Told(name, bus, driver, int(mib)) for _, name, bus, driver, mib in rows)


def modules(text: str) -> frozenset[str]:
    """The names in /proc/modules (proc_modules(5))."""
    return frozenset(line.split()[0] for line in text.splitlines())


def xids(log: Iterable[str]) -> list[str]:
    """The lines in which NVIDIA's driver tells of an error of a GPU.

    >>> xids(["[ 99.1] node01 kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=812, GPU has fallen off the bus."])
    ['[ 99.1] node01 kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=812, GPU has fallen off the bus.']
    """
    return [line for line in log if re.search(r"NVRM: Xid \(", line)]


def installed_for(status: Iterable[str], kernel: str) -> list[str]:
    """The modules of NVIDIA that DKMS (3.2) has installed for a kernel.

    >>> installed_for(["nvidia/550.163.01, 6.12.48+deb13-amd64, x86_64: installed"], "6.12.48+deb13-amd64")
    ['nvidia/550.163.01']
    """
    found = (re.match(r"(nvidia[^,]*), ([^,]+), [^:]+: installed\b", line) for line in status)
    return [one[1] for one in found if one and one[2] == kernel]


def with_gpus(cluster: Cluster) -> tuple[Node, ...]:
    """The machines that are to have GPUs that compute."""
    return tuple(node for node in cluster.nodes if planned(node.config))


def planned(node: NodeConfig) -> tuple[str, ...]:
    """What a machine's GPUs are to be: ``vendor:device`` of those that it is given, else the vendor alone."""
    if not node.gpus or node.gpus.kind == "simulated":
        return ()
    given = tuple(device.ids for device in node.devices if device.kind == "gpu")
    return given or (f"{NVIDIA}:",) * node.gpus.count


def gemm() -> str:
    """The text of the program that multiplies on each GPU."""
    return (Path(__file__).parent / "payloads" / "gemm.py").read_text(encoding="utf-8")


@contextmanager
def loading(node: Node, seconds: int, evidence: Evidence) -> Iterator[None]:
    """Keep each GPU of a machine busy, for the time of the block. Should nobody end it, it ends after ``seconds``.

    What it said is attached. Raises :class:`AssertionError` where it was not there any more when the block ended.
    """
    unit = "ai-how-gpu-load"
    program = f"/run/{unit}.py"
    # The program counts its seconds after each GPU has a context; the limit of systemd holds should it hang.
    limits = ("--collect", f"--property=RuntimeMaxSec={2 * seconds}")
    try:
        node.write(program, gemm())
        node.run("systemd-run", f"--unit={unit}", *limits, "python3", program, str(seconds))
        yield
        state = node.run("systemctl", "is-active", unit, check=False)
        evidence.result(state)
        assert state.stdout.strip() == "active", (
            f"{node.name}: the load on its GPUs ended before it was ended ({state.stdout.strip() or 'unknown'}); "
            f"read `journalctl -u {unit}` there"
        )
    finally:
        node.run("systemctl", "stop", unit, check=False)
        said = node.run("journalctl", f"--unit={unit}", "--boot", "--lines=20", "--no-pager", check=False)
        evidence.result(said, f"{node.name}: load on its GPUs")
        node.run("rm", "-f", "--", program, check=False)


_LOOK = """
for card in /sys/bus/pci/devices/*; do
    read -r class <"$card/class" || continue
    case $class in 0x03*) ;; *) continue ;; esac
    driver=$(readlink "$card/driver")
    echo "${card##*/} $(cat "$card/vendor") $(cat "$card/device") ${driver##*/}"
done
"""
CARDS = Fact("its GPUs on the PCI bus", ("sh", "-c", _LOOK), cards)
SMI = Fact(
    "what nvidia-smi says",
    ("nvidia-smi", "--query-gpu=index,name,pci.bus_id,driver_version,memory.total", "--format=csv,noheader,nounits"),
    told,
)
LOADED = Fact("the modules of its kernel", ("cat", "/proc/modules"), modules)
DKMS = Fact("what DKMS has built", ("dkms", "status"), lines)
