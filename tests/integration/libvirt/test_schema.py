"""Definitions for KVM, which this host may lack, as libvirt's own schema and parser take them: in this process, by its
driver ``test``, which makes nothing (https://libvirt.org/drvtest.html)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.libvirt import api, reality
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.libvirt.xml import DomainXml, Files, Filesystem, Hypervisor, Label
from pytest_ai_how.drivers.machines.reality import planned

from .sample import config

pytestmark = pytest.mark.skipif(bool(api.lacks_libvirt()), reason=f"driver libvirt {api.lacks_libvirt()}")

FILES = Files(Path("/i/vmlinuz"), Path("/m/initrd"), Path("/m/disk.qcow2"), Path("/m/console.log"))
KVM = Hypervisor(
    Path("/usr/bin/qemu-system-x86_64"),
    kvm=True,
    virtiofsd=Path("/usr/libexec/virtiofsd"),
    labels=(Label("dac", "+0:+0"),),
)
GPU = {"address": "0000:01:00.0", "vendor": "10de", "device": "2805"}
# virDomainDefineFlags: VALIDATE, against the schema.
_VALIDATE = 1


@pytest.fixture
def libvirt() -> Iterator[api.Connection]:
    with api.connected("test:///default") as connection:
        yield connection


def tuned(word: str | None) -> ClusterConfig:
    """A cluster whose second machine has all that a machine can be given of its host."""
    given: dict[str, Any] = {
        "cpus": 2,
        "pinning": (6, 4),
        "hugepages": "1G",
        "cpu_model": word,
        "gpus": {"kind": "passthrough", "count": 1, "devices": (GPU,)},
    }
    made = config("ahxml", "10.95.0")
    node = type(made.nodes[1]).model_validate({**made.nodes[1].model_dump(), **given})
    return made.model_copy(update={"nodes": (made.nodes[0], node)})


@pytest.mark.parametrize("kvm", [True, False])
@pytest.mark.parametrize("word", ["host-passthrough", "host-model", "maximum", "EPYC-Rome", None])
def test_libvirt_reads_what_is_planned(
    libvirt: api.Connection, monkeypatch: pytest.MonkeyPatch, word: str | None, kvm: bool
) -> None:
    cluster = tuned(word)
    machine = Machine(cluster, cluster.nodes[1], Path("/m"))
    xml = DomainXml(cluster, replace(KVM, kvm=kvm)).of(machine.node, FILES, (Filesystem("data", Path("/srv/data")),))
    # The driver has machines of its own type only.
    domain = libvirt.defineXMLFlags(
        xml.replace(f"<domain type='{'kvm' if kvm else 'qemu'}'", "<domain type='test'"), _VALIDATE
    )
    monkeypatch.setattr(reality, "virtual_size", lambda node, disk: machine.node.disk * 2**30)
    shape, plan = reality.shape(machine, domain), planned(cluster, machine.node)
    wire = {"bridge", "mtu"}  # of a machine that runs
    assert {part: value for part, value in shape.parts.items() if part not in wire} == {
        part: plan[part] for part in shape.parts if part not in wire
    }
    assert ("cpu_model" in shape.parts) == (word is not None)
    cpu = ElementTree.fromstring(domain.XMLDesc()).find("cpu")
    assert cpu is not None
    assert cpu.get("mode") == {"EPYC-Rome": "custom", None: "host-passthrough" if kvm else "custom"}.get(word, word)


def test_disks_with_storage_are_valid_too(libvirt: api.Connection) -> None:
    beegfs = {"kind": "beegfs", "beegfs": {"generation": "8", "packages": {"folder": "/p"}}}
    nodes = [{**node.model_dump(), "roles": ("compute", "storage")} for node in config("ahxml", "10.95.0").nodes[1:]]
    nodes.append({"name": "controller", "roles": ("controller",), "address": "10.95.0.10"})
    cluster = config("ahxml", "10.95.0", storage=beegfs, nodes=nodes)
    for node in cluster.nodes:
        xml = DomainXml(cluster, KVM).of(node, FILES, ()).replace("<domain type='kvm'", "<domain type='test'")
        domain = libvirt.defineXMLFlags(xml, _VALIDATE)
        driver = ElementTree.fromstring(domain.XMLDesc()).find("./devices/disk/driver")
        assert driver is not None
        assert driver.get("cache") == "none"
