"""Which PCI functions go to which machines, and every reason why that can't be done on this host.

Nothing is bound or unbound here: at the start of a machine libvirt takes each function from its driver for vfio-pci,
and gives it back at the stop (``<hostdev managed='yes'>``). What is judged is whether that would work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_ai_how.config.models import ClusterConfig, NodeConfig, PciDevice
from pytest_ai_how.errors import HostError
from pytest_ai_how.pci.claims import Claim
from pytest_ai_how.pci.sysfs import VFIO, Function, Host

HOST = "localhost"
# Drivers that vfio lets stand beside its own in a group (vfio_dev_driver_allowed, Linux 6.12).
_BESIDE = ("", VFIO, "pci-stub")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One device of the YAML, and the function of this host that it names, when there is one.

    ``starts`` is the machine's ``auto_start``: one that does not start by itself holds nothing.
    """

    cluster: str
    machine: str
    device: PciDevice
    function: Function | None
    starts: bool

    @property
    def owner(self) -> str:
        """``cluster/machine``."""
        return f"{self.cluster}/{self.machine}"

    def __str__(self) -> str:
        said = f"{self.device.address} {self.device.ids} {self.device.kind}"
        if not self.starts:
            said += ", not held: auto_start is false"
        elif self.function is None:
            said += ", not there"
        elif self.function.driver in ("", VFIO):
            said += f", {'bound to vfio-pci' if self.function.driver else 'free'}"
        else:
            said += f", taken from {self.function.driver} at the start and given back at the stop"
        return said


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something can't be done: the machine, what was seen, what was expected, what to do."""

    cluster: str
    machine: str
    seen: str
    expected: str
    cure: str

    def __str__(self) -> str:
        return f"{self.machine}: {self.seen}, expected {self.expected}; {self.cure}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be given to whom, in the order of the file, and why it can't be; possible when nothing refuses."""

    assignments: tuple[Assignment, ...]
    refusals: tuple[Refusal, ...]

    def of(self, cluster: str, machine: str) -> tuple[Assignment, ...]:
        """The devices of one machine."""
        return tuple(one for one in self.assignments if (one.cluster, one.machine) == (cluster, machine))

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """The owners (``cluster/machine``, those that start first) of each address that has several."""
        owners: dict[str, list[Assignment]] = {}
        for one in self.assignments:
            owners.setdefault(one.device.address, []).append(one)
        return {
            address: tuple(one.owner for one in sorted(found, key=lambda one: not one.starts))
            for address, found in owners.items()
            if len({one.owner for one in found}) > 1
        }

    @property
    def error(self) -> HostError | None:
        """Every refusal as one error."""
        if not self.refusals:
            return None
        first = self.refusals[0]
        if len(self.refusals) == 1:
            return HostError(first.machine, first.seen, expected=first.expected, cure=first.cure)
        lines = "".join(f"\n    {one}" for one in self.refusals)
        return HostError(HOST, f"{len(self.refusals)} reasons why machines can't be given their PCI devices{lines}")

    def demand(self) -> None:
        """Raise :attr:`error`, when there is one."""
        if self.error is not None:
            raise self.error


def plan(configs: ClusterConfig | Sequence[ClusterConfig], host: Host, claims: Iterable[Claim] = ()) -> Plan:
    """Plan the devices of one cluster, or of several that are to be there at once, on ``host``.

    ``claims`` is what machines hold already (:func:`pytest_ai_how.pci.claims.held`).
    """
    clusters = [configs] if isinstance(configs, ClusterConfig) else list(configs)
    nodes = [(config, node) for config in clusters for node in config.nodes if node.devices]
    assignments = tuple(
        Assignment(config.name, node.name, device, host.functions.get(device.address), node.auto_start)
        for config, node in nodes
        for device in node.devices
    )
    held = {claim.address: claim for claim in claims}
    found = [*_host(clusters, host), *(one for config, node in nodes for one in _node(config, node, host, held))]
    return Plan(assignments, (*found, *_owners(assignments)))


def _host(clusters: Sequence[ClusterConfig], host: Host) -> Iterator[Refusal]:
    """What the host as a whole lacks, said once."""
    names = [config.name for config in clusters if any(node.devices for node in config.nodes)]
    if not names:
        return
    if not host.iommu:
        yield Refusal(
            names[0], HOST, "the IOMMU is off: /sys/kernel/iommu_groups is empty", "IOMMU groups",
            "switch VT-d or AMD-Vi on in the firmware, and boot Intel machines with intel_iommu=on",
        )  # fmt: skip
    if host.vfio == "absent":
        yield Refusal(
            names[0], HOST, "the kernel has no driver vfio-pci", "it built in or as a module",
            "install a kernel with CONFIG_VFIO_PCI, as distributions have it",
        )  # fmt: skip


def _node(config: ClusterConfig, node: NodeConfig, host: Host, held: dict[str, Claim]) -> Iterator[Refusal]:
    """What is wrong with the devices of one machine; where one is not what the YAML says, nothing more of it."""

    def refuse(seen: str, expected: str, cure: str) -> Refusal:
        return Refusal(config.name, node.name, seen, expected, cure)

    sound: list[tuple[PciDevice, Function]] = []
    for device in node.devices:
        function = host.functions.get(device.address)
        if function is None:
            yield refuse(f"{device.address} is not there", f"a PCI device {device.ids}", _elsewhere(device, host))
        elif wrong := _identity(device, function):
            yield refuse(*wrong)
        else:
            sound.append((device, function))
    for device, function in sound:
        for wrong in _bindable(device, function, host):
            yield refuse(*wrong)
        if node.auto_start and (wrong := _in_use(config.name, node.name, function, host, held)):
            yield refuse(*wrong)
    for wrong in _groups(node, [function for _, function in sound], host):
        yield refuse(*wrong)
    for wrong in _order([function for _, function in sound]):
        yield refuse(*wrong)


_Wrong = tuple[str, str, str]


def _elsewhere(device: PciDevice, host: Host) -> str:
    """Where a device with these IDs is, if anywhere."""
    same = [one.address for one in host.functions.values() if one.ids == device.ids]
    return f"set address: {' or '.join(same)}" if same else "see what there is: pytest-ai-how inventory pci"


def _identity(device: PciDevice, function: Function) -> _Wrong | None:
    if device.ids != function.ids:
        right = {"vendor": function.vendor, "device": function.device}
        wanted = {"vendor": device.vendor, "device": device.device}
        cure = " and ".join(f'{key}: "{value}"' for key, value in right.items() if value != wanted[key])
        return f"{device.address} is {function.ids}", f"{device.ids} as the YAML says", f"set {cure}"
    if (device.kind == "gpu") != function.is_display:
        cure = "set kind: gpu" if function.is_display else "set another kind, or the address of the GPU"
        return f"{device.address} is of class {function.code} ({function.what})", f"kind {device.kind}", cure
    return None


def _bindable(device: PciDevice, function: Function, host: Host) -> Iterator[_Wrong]:
    """Whether vfio-pci may have it."""
    address = device.address
    if function.is_bridge:
        yield f"{function} is a bridge", "an endpoint: vfio-pci takes no bridges", "take it out of the devices"
    if function.console and not device.boot_vga:
        seen = f"{address} shows this machine's console ({function.console})"
        cure = "make another card the primary one in the firmware, or say boot_vga: true to lose the console"
        yield seen, "a card that this machine can do without", cure
    if function.override not in ("", VFIO):
        seen = f"{address} is kept for the driver {function.override} (driver_override)"
        yield seen, "none, or vfio-pci", f"write an empty line to /sys/bus/pci/devices/{address}/driver_override"
    if host.iommu and not function.group:
        yield f"{address} is in no IOMMU group", "one", "put the card into a slot behind the IOMMU"


def _in_use(cluster: str, machine: str, function: Function, host: Host, held: dict[str, Claim]) -> _Wrong | None:
    """Whether another has it: a machine of ours by its claim; any other, or a program, by the files it has open."""
    claim = held.get(function.address)
    if claim and (claim.cluster, claim.machine) == (cluster, machine):
        return None
    if claim:
        return f"{function.address} is in use by {claim}", "a device that no running machine holds", claim.cure
    if users := host.used_by(function):
        which = "that process" if len(users) == 1 else "these processes"
        cure = f"end {which}, or give this machine another device"
        return f"{function.address} is in use by {host.in_use_by(function)}", "a device that no process holds", cure
    return None


def _groups(node: NodeConfig, functions: Sequence[Function], host: Host) -> Iterator[_Wrong]:
    """A group goes to one machine as a whole, but for bridges: its functions can reach each other's memory."""
    listed = {device.address for device in node.devices}
    for number in dict.fromkeys(function.group for function in functions):
        first = next(function for function in functions if function.group == number)
        for member in host.group(number):
            if member.address in listed or member.is_bridge:
                continue
            bound = f", bound to {member.driver}" if member.driver not in _BESIDE else ""
            seen = f"{first.address} shares IOMMU group {number} with {member}{bound}, which is not listed"
            cure = f"list {member.address} too, or put the card into another slot"
            yield seen, "the whole group listed", cure


def _order(functions: Sequence[Function]) -> Iterator[_Wrong]:
    """A card's GPU function comes before its others, by what the functions are, not by what the YAML calls them."""
    for index, function in enumerate(functions):
        before = [one.address for one in functions[:index] if one.slot == function.slot and not one.is_display]
        if function.is_display and before:
            yield f"the GPU {function.address} comes after {before[0]}", "the GPU first", "change their order"


def _owners(assignments: Sequence[Assignment]) -> Iterator[Refusal]:
    """A device has one owner among the machines that start by themselves, in all clusters together."""
    owners: dict[str, Assignment] = {}
    for one in assignments:
        if not one.starts:
            continue
        first = owners.setdefault(one.device.address, one)
        if first.owner != one.owner:
            seen = f"{one.device.address} is given to {first.owner} too, which starts by itself as well"
            expected = "one owner among the machines that start by themselves"
            yield Refusal(one.cluster, one.machine, seen, expected, "say auto_start: false on one of them")
