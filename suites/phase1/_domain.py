"""What libvirt is to say of a virtual machine."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

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
    """A machine that KVM runs has this host's CPU, unless its model is configured; an emulated one can't have it."""
    cpu = domain.find("./cpu")
    mode = cpu.get("mode", "") if cpu is not None else ""
    if node.cpu_model:
        model = domain.findtext("./cpu/model") or mode
        if node.cpu_model not in (model, mode):
            yield f"{node.name}: its CPU is {model or 'not told'}, expected {node.cpu_model}"
    elif domain.get("type") == "kvm" and mode != "host-passthrough":
        yield f"{node.name}: its CPU is {mode or 'not told'}, expected host-passthrough"
