"""What libvirt is to say of a virtual machine."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from pytest_ai_how.config.forms import CPU_MODES
from pytest_ai_how.config.models import NodeConfig


def wrong_features(node: NodeConfig, xml: str) -> Iterator[str]:
    """How a live definition differs from what our machines are to be (libvirt 9.0, domain XML)."""
    found = ElementTree.fromstring(xml)  # noqa: S314  libvirtd's own answer
    machine = found.find("./os/type")
    board = machine.get("machine", "") if machine is not None else ""
    if "q35" not in board:
        yield f"{node.name}: its board is {board or 'not told'}, expected q35"
    yield from _cpu(node, found)
    for what, path in (("disk", "./devices/disk[@device='disk']/target"), ("interface", "./devices/interface/model")):
        models = [one.get("bus") or one.get("type") or "" for one in found.findall(path)]
        if not models or set(models) != {"virtio"}:
            yield f"{node.name}: its {what} is {', '.join(models) or 'missing'}, expected virtio"
    if node.devices:
        hidden = found.find("./features/kvm/hidden")
        if hidden is None or hidden.get("state") != "on":
            yield f"{node.name}: KVM is not hidden from its GPU's driver, expected <kvm><hidden state='on'/></kvm>"
    shown = [tag for tag in ("graphics", "video") if found.find(f"./devices/{tag}") is not None]
    if shown:
        yield f"{node.name}: has {' and '.join(shown)}, expected none: nobody looks at it"


def _cpu(node: NodeConfig, domain: ElementTree.Element) -> Iterator[str]:
    """A machine that KVM runs has this host's CPU, unless another is configured; an emulated one can't have it."""
    cpu = domain.find("./cpu")
    mode = cpu.get("mode", "") if cpu is not None else ""
    model = domain.findtext("./cpu/model", "")
    wanted = node.cpu_model or ("host-passthrough" if domain.get("type") == "kvm" else "")
    # What host-model came to is a model in the definition of a machine that runs, compared with what QEMU made of it.
    came_to = wanted == "host-model" and mode == "custom" and cpu is not None and cpu.get("check") == "full"
    if wanted and wanted != (mode if wanted in CPU_MODES else model) and not came_to:
        yield f"{node.name}: its CPU is {f'{mode} {model}'.strip() or 'not told'}, expected {wanted}"
