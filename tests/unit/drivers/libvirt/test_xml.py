"""What libvirt is told, read back as data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.storage import Storage
from pytest_ai_how.drivers.libvirt import names
from pytest_ai_how.drivers.libvirt.xml import (
    EMULATED_CPU,
    TRANSLATED,
    DomainXml,
    Files,
    Filesystem,
    Hypervisor,
    Label,
    board_of,
    network_xml,
)
from tests.unit.drivers.sample import LOCAL

FILES = Files(Path("/i/vmlinuz"), Path("/m/initrd"), Path("/m/disk.qcow2"), Path("/m/console.log"))
EMULATED = Hypervisor(Path("/usr/bin/qemu"), kvm=False, virtiofsd=Path("/usr/libexec/virtiofsd"))
KVM = Hypervisor(Path("/usr/bin/qemu"), kvm=True)
GPU = {"address": "0000:01:00.0", "vendor": "10de", "device": "2805"}
SOUND = {"address": "0000:01:00.1", "vendor": "10de", "device": "22bd", "kind": "audio"}


def config(index: int = 1, **changes: Any) -> ClusterConfig:
    """The sample as virtual machines, with keys of one node replaced."""
    nodes = [dict(node) for node in LOCAL["nodes"]]
    nodes[index] |= changes
    return ClusterConfig.model_validate(LOCAL | {"driver": "libvirt", "nodes": nodes})


def domain(
    hypervisor: Hypervisor = EMULATED, filesystems: tuple[Filesystem, ...] = (), **changes: Any
) -> ElementTree.Element:
    cluster = config(**changes)
    return ElementTree.fromstring(DomainXml(cluster, hypervisor).of(cluster.nodes[1], FILES, filesystems))


def test_a_machine_boots_the_kernel_directly_from_its_own_disk() -> None:
    found = domain()
    assert found.get("type") == "qemu"
    assert found.findtext("name") == "aihow-lab-node01"
    assert (found.findtext("./os/kernel"), found.findtext("./os/initrd")) == ("/i/vmlinuz", "/m/initrd")
    assert (found.findtext("./os/cmdline") or "").split()[-1] == "ai_how.role=compute"
    assert "console=ttyS0" in (found.findtext("./os/cmdline") or "").split()
    source, driver = found.find("./devices/disk/source"), found.find("./devices/disk/driver")
    assert source is not None
    assert driver is not None
    assert (source.get("file"), driver.get("type")) == ("/m/disk.qcow2", "qcow2")
    console = found.find("./devices/serial[@type='file']/source")
    assert console is not None
    assert (console.get("path"), console.get("append")) == ("/m/console.log", "on")


@pytest.mark.parametrize(
    ("kind", "roles", "cache"),
    [
        ("beegfs", ["controller"], "none"),
        ("beegfs", ["storage"], "none"),
        ("beegfs", ["compute", "storage"], "none"),
        ("beegfs", ["compute"], "unsafe"),
        ("host-directory", ["compute", "storage"], "unsafe"),
        ("none", ["controller"], "unsafe"),
    ],
)
def test_what_storage_writes_reaches_the_disk(kind: str, roles: list[str], cache: str) -> None:
    beegfs = {"generation": "8", "packages": {"folder": "/p"}} if kind == "beegfs" else None
    storage = Storage.model_validate({"kind": kind, "beegfs": beegfs})
    cluster = config().model_copy(update={"storage": storage})
    node = cluster.nodes[1].model_copy(update={"roles": tuple(roles)})
    driver = ElementTree.fromstring(DomainXml(cluster, KVM).of(node, FILES, ())).find("./devices/disk/driver")
    assert driver is not None
    assert (driver.get("cache"), driver.get("io"), driver.get("discard")) == (cache, None, "unmap")


def test_emulated_machines_boot_on_one_cpu_and_those_with_devices_look_for_their_drivers() -> None:
    def words(hypervisor: Hypervisor, **changes: Any) -> list[str]:
        return (domain(hypervisor, **changes).findtext("./os/cmdline") or "").split()

    with_devices = {"gpus": {"kind": "passthrough", "count": 1, "devices": [GPU, SOUND]}}
    assert {"maxcpus=1", "lsm=capability", "norandmaps"} <= set(words(EMULATED))
    assert not {"maxcpus=1", "lsm=capability", "norandmaps", "ai_how.coldplug"} & set(words(KVM))
    assert "ai_how.coldplug" not in words(EMULATED)
    assert "ai_how.coldplug" in words(KVM, **with_devices)


def test_an_emulator_keeps_no_gigabyte_of_translated_code() -> None:
    cache = domain(EMULATED).find("./features/tcg/tb-cache")
    assert cache is not None
    assert (cache.text, cache.get("unit")) == (str(TRANSLATED), "MiB")
    assert domain(KVM).find("./features/tcg") is None


def test_memory_and_cpus_are_those_of_the_yaml() -> None:
    found = domain(memory=2000, cpus=3)
    assert found.findtext("memory") == "2000"
    assert found.find("memory[@unit='MiB']") is not None
    assert found.findtext("vcpu") == "3"
    assert found.find("./cpu/topology[@cores='3']") is not None


def test_the_mark_is_in_the_metadata_and_on_qemus_command_line() -> None:
    found = domain()
    assert names.owner_in(ElementTree.tostring(found, encoding="unicode")) == "pytest-ai-how:lab/node01"
    assert found.findtext("./sysinfo[@type='fwcfg']/entry") == "pytest-ai-how:lab/node01"


def test_another_cluster_is_another_in_all_that_must_differ() -> None:
    def of(cluster: str, node: str) -> tuple[str, ...]:
        tell = (names.machine_uuid, names.mac_address, names.tap_name, names.machine_name, names.machine_mark)
        return tuple(one(cluster, node) for one in tell)

    here = of("lab", "node01")
    assert here == of("lab", "node01")
    for other in (of("lab2", "node01"), of("lab", "node02")):
        assert not set(here) & set(other)
    assert len(names.tap_name("a" * 32, "b" * 32)) <= 15
    assert here[1].startswith("52:54:00:")


@pytest.mark.parametrize(
    ("hypervisor", "word", "mode", "model", "check"),
    [
        (EMULATED, None, "custom", EMULATED_CPU, "none"),
        (KVM, None, "host-passthrough", None, "none"),
        (KVM, "host-passthrough", "host-passthrough", None, "none"),
        (KVM, "host-model", "host-model", None, "partial"),
        (KVM, "maximum", "maximum", None, "none"),
        (KVM, "Cascadelake-Server", "custom", "Cascadelake-Server", "partial"),
        (EMULATED, "Westmere", "custom", "Westmere", "none"),
        (EMULATED, "maximum", "maximum", None, "none"),
    ],
)
def test_the_cpu_is_the_hosts_where_kvm_boots_or_the_one_that_is_configured(
    hypervisor: Hypervisor, word: str | None, mode: str, model: str | None, check: str
) -> None:
    found = domain(hypervisor, cpu_model=word, cpus=3)
    cpu = found.find("cpu")
    assert found.get("type") == ("kvm" if hypervisor.kvm else "qemu")
    assert cpu is not None
    assert (cpu.get("mode"), cpu.findtext("model"), cpu.get("check")) == (mode, model, check)
    assert cpu.find("topology[@cores='3']") is not None


def test_the_workstation_is_given_its_own_cpu() -> None:
    cluster = load_config("workstation/hpc", environ={})
    rendered = [DomainXml(cluster, KVM).of(node, FILES, ()) for node in cluster.nodes]
    cpus = [ElementTree.fromstring(xml).find("cpu") for xml in rendered]
    modes = {(cpu.get("mode"), cpu.findtext("model")) for cpu in cpus if cpu is not None}
    assert (len(rendered), modes) == (len(cluster.nodes), {("host-passthrough", None)})


def test_pinning_and_huge_pages() -> None:
    found = domain(KVM, cpus=2, pinning=[4, 6], hugepages="2M")
    pins = [(pin.get("vcpu"), pin.get("cpuset")) for pin in found.findall("./cputune/vcpupin")]
    assert pins == [("0", "4"), ("1", "6")]
    page = found.find("./memoryBacking/hugepages/page")
    assert page is not None
    assert (page.get("size"), page.get("unit")) == ("2", "M")
    bare = domain()
    assert bare.find("cputune") is None
    assert bare.find("memoryBacking") is None


def test_directories_need_shared_memory_and_are_escaped() -> None:
    found = domain(filesystems=(Filesystem("data", Path("/srv/a'b<c>&d")),))
    assert found.find("./memoryBacking/source[@type='memfd']") is not None
    assert found.find("./memoryBacking/access[@mode='shared']") is not None
    filesystem = found.find("./devices/filesystem")
    assert filesystem is not None
    assert [part.attrib for part in filesystem] == [
        {"type": "virtiofs", "queue": "1024"},
        {"path": "/usr/libexec/virtiofsd"},
        {"dir": "/srv/a'b<c>&d"},
        {"dir": "data"},
    ]


def test_pci_functions_keep_their_order_and_hide_kvm() -> None:
    gpus = {"kind": "passthrough", "count": 1, "devices": [GPU, SOUND]}
    found = domain(KVM, gpus=gpus)
    devices = found.findall("./devices/hostdev[@type='pci']")
    assert [device.get("managed") for device in devices] == ["yes", "yes"]
    assert [device.find("./source/address").attrib for device in devices] == [  # type: ignore[union-attr]  # in each
        {"domain": "0x0000", "bus": "0x01", "slot": "0x00", "function": "0x0"},
        {"domain": "0x0000", "bus": "0x01", "slot": "0x00", "function": "0x1"},
    ]
    assert all(device.find("rom[@bar='on']") is not None for device in devices)
    assert found.find("./features/kvm/hidden[@state='on']") is not None
    assert domain(KVM).find("./features/kvm") is None


def test_labels_are_for_a_daemon_that_is_not_ours() -> None:
    assert domain().find("seclabel") is None
    labels = (Label("dac", "+0:+0"), Label("apparmor"))
    found = domain(Hypervisor(Path("/usr/bin/qemu"), kvm=False, labels=labels)).findall("seclabel")
    assert [(one.get("model"), one.get("type"), one.findtext("label")) for one in found] == [
        ("dac", "static", "+0:+0"),
        ("apparmor", "none", None),
    ]


def test_the_network_only_names_a_bridge_of_ours() -> None:
    found = ElementTree.fromstring(network_xml(config(), own_bridge=True))
    assert names.owner_in(network_xml(config(), own_bridge=True)) == "pytest-ai-how:lab"
    assert found.find("./forward[@mode='bridge']") is not None
    assert found.find("./bridge[@name='aihow-lab']") is not None
    assert found.find("ip") is None


def test_without_root_libvirt_makes_a_bridge_that_leads_nowhere() -> None:
    found = ElementTree.fromstring(network_xml(config(), own_bridge=False))
    assert found.find("forward") is None
    assert found.find("./ip[@address='10.99.0.1'][@prefix='24']") is not None
    assert found.find("./dns[@enable='no']") is not None
    assert found.find("./ip/dhcp") is None


def test_what_carries_no_mark_is_not_ours() -> None:
    assert names.owner_in("<domain><name>aihow-lab-node01</name></domain>") == ""
    assert (
        names.owner_in("<domain><metadata><owner xmlns='urn:other' mark='pytest-ai-how:lab'/></metadata></domain>")
        == ""
    )


@pytest.mark.parametrize(
    ("version", "board"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "pc-q35-7.1"),
        ("QEMU emulator version 10.0.7 (Debian 1:10.0.7+ds-0+deb13u1)", "q35"),
        ("", "q35"),
    ],
)
def test_a_board_on_which_machines_come_back_from_a_reboot(version: str, board: str) -> None:
    assert board_of(version) == board
    made = domain(hypervisor=replace(EMULATED, board=board_of(version)))
    assert made.find("os/type").get("machine") == board  # type: ignore[union-attr]
