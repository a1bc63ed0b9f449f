"""Trees as the kernel shows them in /sys, built from captures in tests/data/sysfs.

Links and folders of /sys can't be kept in a wheel or an archive, so a capture is a text: a line a function, made by ::

    cd /sys/bus/pci/devices && for d in *; do
      echo "$d $(cat $d/vendor) $(cat $d/device) $(cat $d/class)" \\
        "drv=$(basename "$(readlink $d/driver)")" "ovr=$(cat $d/driver_override)" \\
        "grp=$(basename "$(readlink $d/iommu_group)")" "bv=$(cat $d/boot_vga)" "fb=$(ls $d/graphics)" \\
        "cfg=$(head -c 16 $d/config | od -An -tx1 | tr -d ' \\n')" "real=$(readlink $d)"
    done 2>/dev/null

``drivers``, ``modules`` and ``builtin`` begin lines that name drivers without a device, or quote modules.dep and
modules.builtin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.pci.sysfs import Host, read_host

CAPTURES = Path(__file__).parent / "data" / "sysfs"


@dataclass(frozen=True, slots=True)
class Tree:
    """The three folders that a machine is read from."""

    sysfs: Path
    proc: Path
    modules: Path

    def read(self) -> Host:
        """What is read from them."""
        return read_host(self.sysfs, proc=self.proc, modules=self.modules)

    def open_group(self, pid: int, comm: str, group: str) -> None:
        """Let a process have an IOMMU group open."""
        self.open_files(pid, comm, "/dev/vfio/vfio", f"/dev/vfio/{group}")

    def open_files(self, pid: int, comm: str, *files: str) -> None:
        """Let a process have files open."""
        descriptors = self.proc / str(pid) / "fd"
        descriptors.mkdir(parents=True)
        (self.proc / str(pid) / "comm").write_text(f"{comm}\n")
        (descriptors / "0").symlink_to("/dev/null")
        for number, file in enumerate(files, 31):
            (descriptors / str(number)).symlink_to(file)

    def device_file(self, address: str, folder: str, name: str) -> None:
        """Let a driver have made a file for a function: ``drm`` of ``card1``, ``vfio-dev`` of ``vfio0``."""
        (self.sysfs / "bus/pci/devices" / address / folder / name).mkdir(parents=True)

    def nvidia(self, address: str, minor: int) -> None:
        """Let NVIDIA's driver have the card, as it tells in /proc (its README, chapter on /proc; version 535)."""
        folder = self.proc / "driver/nvidia/gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   \t\t 121\nBus Type: \t PCIe\nDMA Size: \t 47 bits\n"
            f"Bus Location: \t {address}\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"
        )


def build(folder: Path, capture: str) -> Tree:
    """Build the tree of ``tests/data/sysfs/<capture>.txt`` in ``folder``."""
    tree = Tree(folder / "sys", folder / "proc", folder / "modules")
    for path in (tree.sysfs / "kernel/iommu_groups", tree.sysfs / "bus/pci/devices", tree.sysfs / "bus/pci/drivers"):
        path.mkdir(parents=True)
    tree.proc.mkdir()
    tree.modules.mkdir()
    for line in (CAPTURES / f"{capture}.txt").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "drivers":
            for name in rest.split():
                (tree.sysfs / "bus/pci/drivers" / name).mkdir(exist_ok=True)
        elif word in ("modules", "builtin"):
            name = "modules.dep" if word == "modules" else "modules.builtin"
            (tree.modules / name).write_text(f"{rest}\n")
        elif word != "#":
            _function(tree.sysfs, line)
    return tree


def _function(sysfs: Path, line: str) -> None:
    address, vendor, device, code, *pairs = line.split(" ")
    seen = dict(pair.split("=", 1) for pair in pairs)
    link = sysfs / "bus/pci/devices" / address
    link.symlink_to(seen["real"])
    path = Path(str(link.parent / seen["real"])).resolve()
    path.mkdir(parents=True)
    texts = {"vendor": vendor, "device": device, "class": code, "driver_override": seen["ovr"], "boot_vga": seen["bv"]}
    for name, text in texts.items():
        if text:
            (path / name).write_text(f"{text}\n")
    (path / "config").write_bytes(bytes.fromhex(seen["cfg"]).ljust(64, b"\0"))
    if seen["fb"]:
        (path / "graphics" / seen["fb"]).mkdir(parents=True)
    if seen["drv"]:
        driver = sysfs / "bus/pci/drivers" / seen["drv"]
        driver.mkdir(exist_ok=True)
        (path / "driver").symlink_to(driver)
    if seen["grp"]:
        group = sysfs / "kernel/iommu_groups" / seen["grp"]
        (group / "devices").mkdir(parents=True, exist_ok=True)
        (group / "devices" / address).symlink_to(path)
        (path / "iommu_group").symlink_to(group)
