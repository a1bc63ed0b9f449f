"""Planning over captured trees: what is possible, and each reason why something is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.errors import HostError
from pytest_ai_how.pci import Claim, Host, plan
from tests.sysfs import build
from tests.unit.pci.samples import AUDIO_1, AUDIO_7, GPU_1, GPU_7, cluster, node


@pytest.fixture
def workstation(tmp_path: Path) -> Host:
    """Two cards, one bound to vfio-pci and one to nvidia."""
    return build(tmp_path, "workstation").read()


def said(*args: object) -> list[str]:
    return [str(one) for one in plan(*args).refusals]  # type: ignore[arg-type]  # as plan takes them


def test_the_reference_workstation_refuses_nothing(workstation: Host) -> None:
    found = plan(cluster(node("compute-01", GPU_1, AUDIO_1), node("compute-02", GPU_7, AUDIO_7)), workstation)
    assert found.refusals == ()
    found.demand()
    assert [str(one) for one in found.of("hpc", "compute-01")] == [
        "0000:01:00.0 10de:2805 gpu, bound to vfio-pci",
        "0000:01:00.1 10de:22bd audio, bound to vfio-pci",
    ]
    assert [str(one) for one in found.of("hpc", "compute-02")] == [
        "0000:07:00.0 10de:2504 gpu, taken from nvidia at the start and given back at the stop",
        "0000:07:00.1 10de:228e audio, taken from snd_hda_intel at the start and given back at the stop",
    ]
    assert found.of("hpc", "controller") == ()


def test_a_root_port_in_the_group_need_not_be_listed(tmp_path: Path) -> None:
    host = build(tmp_path, "one_gpu").read()
    assert {one.group for one in host.functions.values() if one.address.startswith(("0000:01", "0000:00:01"))} == {"1"}
    assert said(cluster(node("compute-01", GPU_1, AUDIO_1)), host) == []


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    host = build(tmp_path, "one_gpu").read()
    assert said(cluster(node("compute-02", GPU_7)), host) == [
        "compute-02: 0000:07:00.0 is not there, expected a PCI device 10de:2504; "
        "see what there is: pytest-ai-how inventory pci"
    ]


def test_a_device_that_sits_elsewhere(workstation: Host) -> None:
    moved = GPU_7.model_copy(update={"address": "0000:08:00.0"})
    assert said(cluster(node("compute-02", moved)), workstation) == [
        "compute-02: 0000:08:00.0 is not there, expected a PCI device 10de:2504; set address: 0000:07:00.0"
    ]


def test_other_ids_than_the_yaml_says(workstation: Host) -> None:
    other = GPU_1.model_copy(update={"device": "2789"})
    assert said(cluster(node("compute-01", other, AUDIO_1)), workstation) == [
        'compute-01: 0000:01:00.0 is 10de:2805, expected 10de:2789 as the YAML says; set device: "2805"'
    ]
    both = GPU_1.model_copy(update={"device": "164e", "vendor": "1002"})
    (line,) = said(cluster(node("compute-01", both, AUDIO_1)), workstation)
    assert line.endswith('; set vendor: "10de" and device: "2805"')


def test_other_kind_than_the_yaml_says(workstation: Host) -> None:
    audio = AUDIO_1.model_copy(update={"kind": "gpu"})
    gpu = GPU_1.model_copy(update={"kind": "other"})
    assert said(cluster(node("compute-01", gpu, audio)), workstation) == [
        "compute-01: 0000:01:00.0 is of class 030000 (VGA controller), expected kind other; set kind: gpu",
        "compute-01: 0000:01:00.1 is of class 040300 (audio device), expected kind gpu; "
        "set another kind, or the address of the GPU",
    ]


def test_a_group_that_is_not_listed_whole(tmp_path: Path) -> None:
    host = build(tmp_path, "shared_group").read()
    gpu = GPU_7.model_copy(update={"address": "0000:03:00.0"})
    assert said(cluster(node("compute-01", gpu)), host) == [
        f"compute-01: 0000:03:00.0 shares IOMMU group 15 with {member}, which is not listed, "
        f"expected the whole group listed; list {member[:12]} too, or put the card into another slot"
        for member in (
            "0000:03:00.1 (10de:228e audio device), bound to snd_hda_intel",
            "0000:04:00.0 (1b21:2142 USB controller), bound to xhci_hcd",
            "0000:05:00.0 (8086:15f3 Ethernet controller), bound to igc",
        )
    ]


def test_a_group_that_two_machines_share_is_whole_for_neither(workstation: Host) -> None:
    found = said(cluster(node("compute-01", GPU_1), node("compute-02", AUDIO_1)), workstation)
    assert [line.split(",")[0] for line in found] == [
        "compute-01: 0000:01:00.0 shares IOMMU group 14 with 0000:01:00.1 (10de:22bd audio device)",
        "compute-02: 0000:01:00.1 shares IOMMU group 14 with 0000:01:00.0 (10de:2805 VGA controller)",
    ]


def test_the_gpu_comes_first(workstation: Host) -> None:
    assert said(cluster(node("compute-01", AUDIO_1, GPU_1)), workstation) == [
        "compute-01: the GPU 0000:01:00.0 comes after 0000:01:00.1, expected the GPU first; change their order"
    ]
    assert said(cluster(node("compute-01", GPU_1, AUDIO_1, GPU_7, AUDIO_7)), workstation) == []


def test_a_bridge_can_not_be_had(tmp_path: Path) -> None:
    host = build(tmp_path, "one_gpu").read()
    bridge = GPU_1.model_copy(update={"address": "0000:00:01.0", "vendor": "8086", "device": "1901", "kind": "other"})
    assert said(cluster(node("compute-01", GPU_1, AUDIO_1, bridge)), host) == [
        "compute-01: 0000:00:01.0 (8086:1901 PCI bridge) is a bridge, "
        "expected an endpoint: vfio-pci takes no bridges; take it out of the devices"
    ]


def test_the_console_is_not_taken_unless_said(tmp_path: Path) -> None:
    host = build(tmp_path, "console_on_the_gpu").read()
    lines = said(cluster(node("compute-01", GPU_1), node("compute-02", GPU_7)), host)
    assert lines[0] == (
        "localhost: the kernel has no driver vfio-pci, expected it built in or as a module; "
        "install a kernel with CONFIG_VFIO_PCI, as distributions have it"
    )
    assert lines[1:] == [
        f"compute-0{number}: {address} shows this machine's console ({how}), "
        "expected a card that this machine can do without; "
        "make another card the primary one in the firmware, or say boot_vga: true to lose the console"
        for number, address, how in ((1, "0000:01:00.0", "boot VGA"), (2, "0000:07:00.0", "frame buffer"))
    ]
    willing = [device.model_copy(update={"boot_vga": True}) for device in (GPU_1, GPU_7)]
    assert said(cluster(node("compute-01", willing[0]), node("compute-02", willing[1])), host) == lines[:1]


def test_a_device_that_is_kept_for_another_driver_and_has_no_group(tmp_path: Path) -> None:
    host = build(tmp_path, "console_on_the_gpu").read()
    kept = GPU_7.model_copy(update={"address": "0000:08:00.0"})
    assert said(cluster(node("compute-03", kept)), host)[1:] == [
        "compute-03: 0000:08:00.0 is kept for the driver pci-stub (driver_override), expected none, or vfio-pci; "
        "write an empty line to /sys/bus/pci/devices/0000:08:00.0/driver_override",
        "compute-03: 0000:08:00.0 is in no IOMMU group, expected one; put the card into a slot behind the IOMMU",
    ]


def test_without_an_iommu_it_is_said_once(tmp_path: Path) -> None:
    host = build(tmp_path, "virtual_machine").read()
    gpu = GPU_1.model_copy(update={"address": "0000:00:06.0", "device": "2335"})
    assert said(cluster(node("compute-01", gpu), node("compute-02", GPU_7)), host) == [
        "localhost: the IOMMU is off: /sys/kernel/iommu_groups is empty, expected IOMMU groups; "
        "switch VT-d or AMD-Vi on in the firmware, and boot Intel machines with intel_iommu=on",
        "localhost: the kernel has no driver vfio-pci, expected it built in or as a module; "
        "install a kernel with CONFIG_VFIO_PCI, as distributions have it",
        "compute-02: 0000:07:00.0 is not there, expected a PCI device 10de:2504; "
        "see what there is: pytest-ai-how inventory pci",
    ]


def test_a_cluster_without_devices_asks_nothing_of_the_host() -> None:
    found = plan(cluster(node("compute-01")), Host({}, iommu=False, vfio="absent"))
    assert (found.assignments, found.refusals) == ((), ())


def test_one_owner_among_the_machines_that_start(workstation: Host) -> None:
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1))
    worker = node("gpu-worker-01", GPU_1, AUDIO_1)
    found = plan([hpc, cluster(worker, name="cloud")], workstation)
    assert [str(one) for one in found.refusals] == [
        f"gpu-worker-01: {address} is given to hpc/compute-01 too, which starts by itself as well, "
        "expected one owner among the machines that start by themselves; say auto_start: false on one of them"
        for address in ("0000:01:00.0", "0000:01:00.1")
    ]
    assert {one.cluster for one in found.refusals} == {"cloud"}


def test_a_machine_that_does_not_start_by_itself_holds_nothing(workstation: Host) -> None:
    worker = node("gpu-worker-01", GPU_1, AUDIO_1, auto_start=False)
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1))
    found = plan([cluster(worker, name="cloud"), hpc], workstation)
    assert found.refusals == ()
    assert found.shared == {
        "0000:01:00.0": ("hpc/compute-01", "cloud/gpu-worker-01"),
        "0000:01:00.1": ("hpc/compute-01", "cloud/gpu-worker-01"),
    }
    assert str(found.of("cloud", "gpu-worker-01")[0]) == "0000:01:00.0 10de:2805 gpu, not held: auto_start is false"
    assert plan(hpc, workstation).shared == {}


def test_what_another_machine_holds_is_refused_by_name(workstation: Host) -> None:
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1))
    claims = [Claim("0000:01:00.0", "cloud", "gpu-worker-01")]
    assert said(hpc, workstation, claims) == [
        "compute-01: 0000:01:00.0 is in use by machine gpu-worker-01 of cluster 'cloud', "
        "expected a device that no running machine holds; "
        "stop gpu-worker-01, or take its cluster down: pytest-ai-how down --cluster cloud"
    ]
    assert said(hpc, workstation, [Claim("0000:01:00.0", "hpc", "compute-01")]) == [], "its own claim"
    off = cluster(node("compute-01", GPU_1, AUDIO_1, auto_start=False))
    assert said(off, workstation, claims) == [], "a machine that is off wants nothing yet"


def test_what_a_process_of_somebody_else_holds_is_refused_by_name(tmp_path: Path) -> None:
    tree = build(tmp_path, "workstation")
    tree.open_group(4242, "qemu-system-x86", "20")
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1), node("compute-02", GPU_7, AUDIO_7))
    assert said(hpc, tree.read()) == [
        f"compute-02: 0000:07:00.{function} is in use by qemu-system-x86 (pid 4242), "
        "expected a device that no process holds; end that process, or give this machine another device"
        for function in (0, 1)
    ]
    mine = [Claim(device.address, "hpc", "compute-02") for device in (GPU_7, AUDIO_7)]
    assert said(hpc, tree.read(), mine) == [], "the process is the machine's own"


@pytest.mark.parametrize("file", ["/dev/nvidia1", "/dev/dri/card2", "/dev/dri/renderD130"])
def test_a_card_that_its_own_driver_serves_to_a_program_is_not_taken(tmp_path: Path, file: str) -> None:
    tree = build(tmp_path, "workstation")
    tree.nvidia("0000:07:00.0", 1)
    for name in ("card2", "renderD130"):
        tree.device_file("0000:07:00.0", "drm", name)
    tree.open_files(4242, "python3", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/dri/card0", file)
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1), node("compute-02", GPU_7, AUDIO_7))
    assert said(hpc, tree.read()) == [
        "compute-02: 0000:07:00.0 is in use by python3 (pid 4242), "
        "expected a device that no process holds; end that process, or give this machine another device"
    ]
    off = cluster(node("compute-02", GPU_7, AUDIO_7, auto_start=False))
    assert said(off, tree.read()) == [], "a machine that is off wants nothing yet"


def test_a_device_that_a_process_has_by_iommufd_is_not_taken(tmp_path: Path) -> None:
    tree = build(tmp_path, "workstation")
    tree.device_file("0000:01:00.0", "vfio-dev", "vfio0")
    tree.open_files(4242, "qemu-system-x86", "/dev/iommu", "/dev/vfio/devices/vfio0")
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1))
    assert said(hpc, tree.read()) == [
        "compute-01: 0000:01:00.0 is in use by qemu-system-x86 (pid 4242), "
        "expected a device that no process holds; end that process, or give this machine another device"
    ]
    mine = [Claim(device.address, "hpc", "compute-01") for device in (GPU_1, AUDIO_1)]
    assert said(hpc, tree.read(), mine) == [], "the process is the machine's own"


def test_of_many_programs_a_few_are_named(tmp_path: Path) -> None:
    tree = build(tmp_path, "workstation")
    tree.nvidia("0000:07:00.0", 0)
    for pid in range(900, 905):
        tree.open_files(pid, "python3", "/dev/nvidia0")
    [line] = said(cluster(node("compute-02", GPU_7, AUDIO_7)), tree.read())
    assert line == (
        "compute-02: 0000:07:00.0 is in use by python3 (pid 900), python3 (pid 901), python3 (pid 902) and 2 more, "
        "expected a device that no process holds; end these processes, or give this machine another device"
    )


def test_what_all_cards_share_says_nothing_of_one(tmp_path: Path) -> None:
    tree = build(tmp_path, "workstation")
    tree.nvidia("0000:07:00.0", 0)
    tree.open_files(4242, "nvtop", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/vfio/vfio", "/dev/nvidia1")
    assert said(cluster(node("compute-02", GPU_7, AUDIO_7)), tree.read()) == []


def test_all_reasons_are_one_error(workstation: Host) -> None:
    other = GPU_1.model_copy(update={"device": "2789"})
    with pytest.raises(HostError) as caught:
        plan(cluster(node("compute-01", other, AUDIO_1), node("compute-02", AUDIO_7, GPU_7)), workstation).demand()
    assert str(caught.value).splitlines() == [
        "localhost: 2 reasons why machines can't be given their PCI devices",
        '    compute-01: 0000:01:00.0 is 10de:2805, expected 10de:2789 as the YAML says; set device: "2805"',
        "    compute-02: the GPU 0000:07:00.0 comes after 0000:07:00.1, expected the GPU first; change their order",
    ]
    with pytest.raises(HostError) as caught:
        plan(cluster(node("compute-01", other, AUDIO_1)), workstation).demand()
    assert str(caught.value).splitlines() == [
        "compute-01: 0000:01:00.0 is 10de:2805",
        "  expected: 10de:2789 as the YAML says",
        '  do: set device: "2805"',
    ]
