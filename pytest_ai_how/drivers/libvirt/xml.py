"""What libvirt is told about machines and the network: XML from ``provisioning/templates/libvirt``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pytest_ai_how.assets import asset
from pytest_ai_how.config.forms import CPU_MODES
from pytest_ai_how.config.models import ClusterConfig, NodeConfig, PciDevice
from pytest_ai_how.drivers.libvirt import names
from pytest_ai_how.lease.state import cookie

# An emulated CPU: the oldest that Debian's PyTorch and NumPy use their vector code on (SSE4.2), with little beyond it
# to emulate. Guests with newer ones boot more slowly.
EMULATED_CPU = "Nehalem"
# systemd.show_status: a boot that says little is a fifth faster on an emulated serial line.
_CMDLINE = (
    *("console=ttyS0", "root=/dev/vda", "rw", "net.ifnames=0", "loglevel=4", "systemd.show_status=0"),
    *("mitigations=off", "nokaslr"),
)
# With several CPUs each change of the kernel's code stops them all, which emulated ones do slowly: the others come with
# the services (role kernel, ai-how-cpus.conf). Without this list systemd compiles and loads a security module by BPF.
# QEMU translates a program anew for each address that it lies at: with random ones a page of the C library had its
# translation for every process that there ever was (1.7 million in half an hour; without them 0.13 million after eight
# minutes), and a machine that was rebooted then walked through those at each byte that its kernel was unpacked over:
# some bytes a second, and it had not begun to boot after ten minutes (7.2.22).
_EMULATED = ("maxcpus=1", "lsm=capability", "norandmaps")
#: MiB of translated code that an emulator keeps; it would take 1024.
TRANSLATED = 256


@dataclass(frozen=True, slots=True)
class Files:
    """What a machine boots, and its own files on this host."""

    kernel: Path
    initrd: Path
    disk: Path
    console: Path


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A directory of this host that a machine may mount by its tag."""

    tag: str
    source: Path


@dataclass(frozen=True, slots=True)
class Label:
    """How a security driver of libvirt is to treat the machine: by the label ``text``, or not at all."""

    model: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """What this host runs machines with. ``kvm`` is whether KVM booted one, ``board`` the machine type of QEMU."""

    emulator: Path
    kvm: bool
    virtiofsd: Path | None = None
    labels: tuple[Label, ...] = ()
    board: str = "q35"


def board_of(version: str) -> str:
    """The machine type to use, by the first line of ``qemu-system-x86_64 --version``.

    QEMU 7.2 lays a random seed behind a kernel that it boots itself and writes it anew at a reset, when the kernel lies
    there: a machine that is rebooted from inside hangs. The board of 7.1 has no seed.

    >>> board_of("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)")
    'pc-q35-7.1'
    >>> board_of("QEMU emulator version 10.0.7 (Debian 1:10.0.7+ds-0+deb13u1)")
    'q35'
    """
    return "pc-q35-7.1" if re.search(r"\bversion 7\.2\.", version) else "q35"


@dataclass(frozen=True, slots=True)
class DomainXml:
    """Renders the domains of one cluster."""

    config: ClusterConfig
    hypervisor: Hypervisor

    def of(self, node: NodeConfig, files: Files, filesystems: Sequence[Filesystem]) -> str:
        """The domain of ``node``, everything in it escaped."""
        cluster, network = self.config.name, self.config.network
        return _template("domain.xml.j2").render(
            name=names.machine_name(cluster, node.name),
            uuid=names.machine_uuid(cluster, node.name),
            namespace=names.NAMESPACE,
            mark=names.machine_mark(cluster, node.name),
            node=node,
            kvm=self.hypervisor.kvm,
            board=self.hypervisor.board,
            cpu=node.cpu_model or ("host-passthrough" if self.hypervisor.kvm else EMULATED_CPU),
            cpu_modes=CPU_MODES,
            translated=TRANSLATED,
            emulator=self.hypervisor.emulator,
            virtiofsd=self.hypervisor.virtiofsd,
            labels=self.hypervisor.labels,
            disk_cache="none" if holds_storage(self.config, node) else "unsafe",
            files=files,
            filesystems=filesystems,
            hostdevs=[pci_address(device) for device in node.devices],
            mac=names.mac_address(cluster, node.name),
            tap=names.tap_name(cluster, node.name),
            network_name=names.network_name(cluster),
            mtu=network.mtu if network else 1500,
            cmdline=" ".join(self._cmdline(node)),
        )

    def _cmdline(self, node: NodeConfig) -> Iterator[str]:
        yield from _CMDLINE
        if not self.hypervisor.kvm:
            yield from _EMULATED
        if node.devices:
            yield "ai_how.coldplug"
        yield from (f"ai_how.role={role}" for role in node.roles)


def holds_storage(config: ClusterConfig, node: NodeConfig) -> bool:
    """Whether data of the shared file system lies on the machine's disk: BeeGFS's targets, or its metadata."""
    return config.storage.kind == "beegfs" and bool({"controller", "storage"} & set(node.roles))


def network_xml(config: ClusterConfig, *, own_bridge: bool) -> str:
    """The cluster's network: over a bridge that we made, or one that libvirt is to make with the bridge's address."""
    return _template("network.xml.j2").render(
        name=names.network_name(config.name),
        uuid=names.network_uuid(config.name),
        namespace=names.NAMESPACE,
        mark=cookie(config.name),
        network=config.network,
        own_bridge=own_bridge,
    )


# PciAddress of the configuration: 0000:01:00.0, domain, bus, slot, function.
_PCI = re.compile(r"(?P<domain>[0-9a-f]{4}):(?P<bus>[0-9a-f]{2}):(?P<slot>[0-9a-f]{2})\.(?P<function>[0-7])")


def pci_address(device: PciDevice) -> Mapping[str, str]:
    """The four parts of a device's address, as libvirt wants them."""
    found = _PCI.fullmatch(device.address)
    assert found is not None, "checked by the model"
    return found.groupdict()


def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(asset("provisioning/templates/libvirt")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    return environment.get_template(name)
