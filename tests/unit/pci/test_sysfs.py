"""What is read from the kernel's tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_ai_how.pci.sysfs import Function, read_host
from tests.sysfs import CAPTURES, build


def test_a_real_capture(tmp_path: Path) -> None:
    host = build(tmp_path, "virtual_machine").read()
    assert (len(host.functions), host.iommu, host.vfio, host.holders) == (5, False, "absent", {})
    gpu = host.functions["0000:00:06.0"]
    assert gpu == Function("0000:00:06.0", "10de", "2335", "030200", driver="nvidia")
    assert (str(gpu), gpu.is_display, gpu.is_bridge) == ("0000:00:06.0 (10de:2335 3D controller)", True, False)
    assert host.functions["0000:00:04.0"].what == "class ffff"
    assert host.functions["0000:00:00.0"].is_bridge, "a host bridge has a header of type 0"
    assert host.group("") == ()


def test_groups_bridges_and_the_console(tmp_path: Path) -> None:
    host = build(tmp_path, "one_gpu").read()
    assert (host.iommu, host.vfio) == (True, "loadable")
    assert [(one.address, one.is_bridge) for one in host.group("1")] == [
        ("0000:00:01.0", True),
        ("0000:01:00.0", False),
        ("0000:01:00.1", False),
    ]
    assert not host.functions["0000:00:01.0"].endpoint
    assert [one.address for one in host.functions.values() if one.console] == ["0000:00:02.0"]
    assert host.functions["0000:01:00.1"].what == "audio device"
    assert host.functions["0000:01:00.1"].slot == host.functions["0000:01:00.0"].slot == "0000:01:00"


def test_bindings_and_overrides(tmp_path: Path) -> None:
    workstation = build(tmp_path / "a", "workstation").read()
    assert workstation.vfio == "loaded"
    gpu = workstation.functions["0000:01:00.0"]
    assert (gpu.driver, gpu.override, gpu.group) == ("vfio-pci", "vfio-pci", "14")
    assert workstation.functions["0000:07:00.0"].override == "", "(null) is none"
    other = build(tmp_path / "b", "console_on_the_gpu").read()
    assert [one.console for one in other.functions.values()] == ["", "boot VGA", "frame buffer", ""]
    assert other.functions["0000:08:00.0"].override == "pci-stub"
    assert build(tmp_path / "c", "shared_group").read().vfio == "loadable", "built in is as good as loadable"


def test_who_has_a_group_open(tmp_path: Path) -> None:
    tree = build(tmp_path, "workstation")
    tree.open_group(4242, "qemu-system-x86", "14")
    (tree.proc / "77").mkdir()  # a process whose descriptors can't be read
    (tree.proc / "self").mkdir()
    assert tree.read().holders == {"14": "qemu-system-x86 (pid 4242)"}


def test_who_has_files_of_one_function_open(tmp_path: Path) -> None:
    tree = build(tmp_path, "workstation")
    tree.nvidia("0000:07:00.0", 0)
    tree.device_file("0000:07:00.0", "drm", "card1")
    tree.device_file("0000:0a:00.0", "drm", "card0")
    tree.open_files(1200, "python3", "/dev/nvidia0", "/dev/dri/card1")
    tree.open_files(900, "Xorg", "/dev/dri/card0", "/dev/dri/card1")
    host = tree.read()
    assert host.users == {
        "0000:07:00.0": ("Xorg (pid 900)", "python3 (pid 1200)"),
        "0000:0a:00.0": ("Xorg (pid 900)",),
    }
    assert host.in_use_by(host.functions["0000:07:00.0"]) == "Xorg (pid 900), python3 (pid 1200)"
    assert host.in_use_by(host.functions["0000:07:00.1"]) == ""


def test_no_tree_is_an_empty_machine(tmp_path: Path) -> None:
    host = read_host(tmp_path / "none", proc=tmp_path, modules=tmp_path)
    assert (host.functions, host.iommu, host.vfio) == ({}, False, "absent")


def test_what_vanishes_while_it_is_read_is_not_there(tmp_path: Path) -> None:
    tree = build(tmp_path, "one_gpu")
    shutil.rmtree(tree.sysfs / "devices/pci0000:00/0000:00:01.0/0000:01:00.0")
    assert "0000:01:00.0" not in tree.read().functions
    assert "0000:01:00.1" in tree.read().functions


def test_this_machine_can_be_read() -> None:
    """Whatever it has; most machines have PCI functions, and reading them needs no root."""
    host = read_host()
    expected = {path.name for path in Path("/sys/bus/pci/devices").glob("*")}
    assert set(host.functions) == expected


@pytest.mark.parametrize("capture", sorted(path.stem for path in CAPTURES.glob("*.txt")))
def test_every_capture_says_what_it_is_and_can_be_built(capture: str, tmp_path: Path) -> None:
    text = (CAPTURES / f"{capture}.txt").read_text()
    assert text.startswith(("# Captured on ", "# Modelled on "))
    assert len(build(tmp_path, capture).read().functions) == text.count("real=")
