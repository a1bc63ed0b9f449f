"""What ``pytest-ai-how inventory pci`` says of captured machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pytest_ai_how.cli import inventory
from pytest_ai_how.cli.parser import main
from pytest_ai_how.config.models import Gpus
from pytest_ai_how.pci import Host
from pytest_ai_how.pci.inventory import as_data, as_yaml, shown, table
from tests.sysfs import CAPTURES, build
from tests.unit.pci.samples import AUDIO_1, AUDIO_7, GPU_1, GPU_7


def host(folder: Path, capture: str) -> Host:
    return build(folder, capture).read()


def test_table_of_a_desktop(tmp_path: Path) -> None:
    desktop = host(tmp_path, "one_gpu")
    assert table(desktop, shown(desktop)) == [
        "IOMMU on; driver vfio-pci loadable",
        "ADDRESS       IDS        WHAT            DRIVER         GROUP",
        "0000:00:01.0  8086:1901  PCI bridge      pcieport       1      bridge: not given to machines",
        "0000:00:02.0  8086:3e98  VGA controller  i915           2      boot VGA",
        "0000:01:00.0  10de:2805  VGA controller  nouveau        1",
        "0000:01:00.1  10de:22bd  audio device    snd_hda_intel  1",
    ]
    assert len(shown(desktop, everything=True)) == len(desktop.functions) == 6


def test_table_shows_who_holds_and_what_is_kept(tmp_path: Path) -> None:
    tree = build(tmp_path / "a", "workstation")
    tree.open_group(4242, "qemu-system-x86", "14")
    lines = table(tree.read(), shown(tree.read()))
    assert [line for line in lines if line.endswith("held by qemu-system-x86 (pid 4242)")] == lines[2:4]
    used = build(tmp_path / "c", "workstation")
    used.nvidia("0000:07:00.0", 0)
    used.open_files(4243, "python3", "/dev/nvidia0")
    assert [line.split()[0] for line in table(used.read(), shown(used.read())) if "python3 (pid 4243)" in line] == [
        "0000:07:00.0"
    ]
    by_address = {one["address"]: one for one in as_data(used.read(), shown(used.read()))["functions"]}
    assert by_address["0000:07:00.0"]["held_by"] == "python3 (pid 4243)"
    kept = host(tmp_path / "b", "console_on_the_gpu").functions["0000:08:00.0"]
    nvidia = Host({kept.address: kept}, iommu=True, vfio="loaded")
    assert table(nvidia, shown(nvidia))[-1].startswith("0000:08:00.0  10de:2504  VGA controller  pci-stub")


def test_a_machine_without_gpus(tmp_path: Path) -> None:
    bare = Host({}, iommu=False, vfio="absent")
    off = "IOMMU off: no device can be given to a machine; driver vfio-pci absent"
    assert table(bare, shown(bare)) == [off, "no GPU"]
    assert as_yaml(bare) == ["# no GPU"]
    assert as_data(bare, shown(bare))["functions"] == []


def test_data(tmp_path: Path) -> None:
    desktop = host(tmp_path, "one_gpu")
    data = json.loads(json.dumps(as_data(desktop, shown(desktop))))
    assert (data["iommu"], data["vfio_pci"]) == (True, "loadable")
    assert data["functions"][2] == {
        "address": "0000:01:00.0",
        "vendor": "10de",
        "device": "2805",
        "class": "030000",
        "what": "VGA controller",
        "driver": "nouveau",
        "driver_override": None,
        "iommu_group": 1,
        "console": None,
        "bridge": False,
        "held_by": None,
    }


def test_the_section_can_be_pasted(tmp_path: Path) -> None:
    """What is printed is what the configuration takes, and what planning wants: whole groups, each GPU first."""
    text = "\n".join(as_yaml(host(tmp_path, "workstation")))
    sections = [yaml.safe_load(f"gpus:{part}")["gpus"] for part in text.split("gpus:")[1:]]
    first, second, console = [Gpus.model_validate_json(json.dumps(section), strict=True) for section in sections]
    assert (first.kind, first.count, first.type, first.devices) == ("passthrough", 1, "nvidia", (GPU_1, AUDIO_1))
    assert second.devices == (GPU_7, AUDIO_7)
    assert console.devices[0].boot_vga is False
    assert "# shows this machine's console: boot VGA" in text
    assert "# 0000:01:00.0 (10de:2805 VGA controller), IOMMU group 14" in text


def test_the_section_of_a_shared_group_lists_it_whole(tmp_path: Path) -> None:
    (section,) = [
        yaml.safe_load(f"gpus:{part}")["gpus"]
        for part in "\n".join(as_yaml(host(tmp_path, "shared_group"))).split("gpus:")[1:]
    ]
    assert [(one["address"], one["kind"]) for one in section["devices"]] == [
        ("0000:03:00.0", "gpu"),
        ("0000:03:00.1", "audio"),
        ("0000:04:00.0", "usb"),
        ("0000:05:00.0", "network"),
    ]


@pytest.mark.parametrize("capture", sorted(path.stem for path in CAPTURES.glob("*.txt")))
@pytest.mark.parametrize("option", ["", "--all", "--json", "--yaml"])
def test_the_command(
    capture: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = host(tmp_path, capture)
    monkeypatch.setattr(inventory, "read_host", lambda: found)
    assert main(["inventory", "pci", *([option] if option else [])]) == 0
    said = capsys.readouterr().out
    for function in found.functions.values():
        if function.is_display or option == "--all":
            assert function.address in said
    if option == "--json":
        assert json.loads(said)["iommu"] == found.iommu
