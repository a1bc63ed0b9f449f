"""The disk of virtual machines is built for real, and its kernel and initramfs are started by an emulated machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.libvirt import kvm
from pytest_ai_how.drivers.libvirt.build import accounts_of
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image import cpio, ensure_image, image_digest
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.disk import ACCOUNTS, DISK, INITRD, KERNEL, disk_facts, kernels_inside
from pytest_ai_how.image.kernel import release_of
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Image, Store, mounts_below, processes_using, verify
from pytest_ai_how.progress import Silent
from tests.integration.conftest import small_disk
from tests.integration.test_images import Heard, names, processes_naming

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="images are built by root only")

# A tree of ten packages with a kernel: half a minute.
WORLD = {
    "roles/tiny/role.yaml": "description: x\npackages: [netbase, kmod, e2fsprogs]\n",
    "roles/tiny/files/etc/motd": "hello\n",
    "roles/kernel/role.yaml": (
        "description: x\nneeds: [tiny]\npackages: [jq]\n"
        "kernel: {package: linux-image-cloud-amd64, busybox: busybox-static, modules: [virtio_blk, virtio_net]}\n"
    ),
    "roles/kernel/files/etc/vm": "a machine of its own\n",
    "roles/kernel/initramfs/init": "#!/bin/busybox sh\n",
    "images/node.yaml": "description: tiny\nkind: tree\nroles: [tiny]\ndisk: 0\nexclude: [/usr/share/doc/*]\n",
    "images/vm.yaml": "description: x\nkind: disk\nof: node\nroles: [kernel]\nsize: 1\ndisk: 0\n",
    "versions.yaml": (
        "version: 1\nsuite: trixie\ncomponents: [main]\nepoch: 1700000000\npackages: {jq: {series: '1.7'}}\n"
    ),
}
RUN = """
import sys
from pathlib import Path
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.store import Store
from pytest_ai_how.progress import PlainLines
world, store = map(Path, sys.argv[1:])
Builder(Source(world, world / "versions.yaml"), Store(store)).ensure(["vm"], PlainLines(sys.stdout))
"""
# Emulated, the kernel says the marker after 4 s on an idle machine.
_EMULATED = 120.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name, text in WORLD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Iterator[Store]:
    """A store with the tree in it."""
    store = Store(tmp_path_factory.mktemp("store") / "images")
    builder(world, store).ensure(["node"], Silent())
    yield store
    assert mounts_below(store.folder) == []


@pytest.fixture(scope="module")
def built(world: Path, store: Store) -> Image:
    return builder(world, store).ensure(["vm"], Silent())["vm"]


def builder(world: Path, store: Store) -> Builder:
    return Builder(Source(world, world / "versions.yaml"), store)


def inside(disk: Path, raw: Path, path: str) -> str:
    """A file of the disk's file system, read by e2fsprogs, which mounts nothing."""
    if not raw.exists():
        subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    done = subprocess.run(["debugfs", "-R", f"cat {path}", raw], check=True, capture_output=True, text=True)
    return done.stdout


def test_a_disk_holds_its_tree_what_it_adds_and_the_modules_of_its_kernel(built: Image, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    assert inside(built.path / DISK, raw, "/etc/motd") == "hello\n"
    assert inside(built.path / DISK, raw, "/etc/vm") == "a machine of its own\n"
    release = built.manifest["kernel"]
    assert "kernel/drivers/net/virtio_net.ko" in inside(
        built.path / DISK, raw, f"/usr/lib/modules/{release}/modules.dep"
    )
    # jq was installed on top, with what it depends on and the tree lacked; the tree itself has neither.
    assert inside(built.path / DISK, raw, "/var/lib/dpkg/info/jq.list").splitlines()[0] == "/."
    assert set(built.manifest["packages"]) >= {"netbase", "jq", "libjq1", "busybox-static", "linux-image-cloud-amd64"}
    assert inside(built.path / DISK, raw, "/usr/sbin/policy-rc.d") == ""


def test_who_is_not_root_may_read_what_machines_start_from(built: Image, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ACCOUNTS:
        assert (built.path / name).read_text() == inside(built.path / DISK, raw, f"/{name}")
    assert accounts_of(built.path, lambda: pytest.fail("asked for the node image"), None) == built.path
    modes = {path.name: path.stat().st_mode & 0o777 for path in built.folder.rglob("*")}
    assert modes == {
        "manifest.json": 0o644,
        **dict.fromkeys(("machine", "etc"), 0o755),
        **dict.fromkeys((DISK, KERNEL, INITRD, "passwd", "group", "shadow"), 0o444),
    }


def test_the_tree_that_a_disk_was_made_of_is_as_it_was(built: Image, world: Path, store: Store) -> None:
    node = store.find("node", builder(world, store).digest("node"))
    assert node is not None
    verify(node)
    assert not (node.path / "etc/vm").exists()
    assert list((node.path / "usr/lib").glob("modules/*")) == []


def test_a_disk_is_sound_and_its_kernel_is_the_one_that_it_says(built: Image, tmp_path: Path) -> None:
    with Sandbox() as sandbox:
        facts = disk_facts(built.path / DISK, sandbox)
        assert kernels_inside(built.path / DISK, tmp_path, sandbox) == (built.manifest["kernel"],)
    assert facts.clean
    assert (facts.format, facts.virtual_size) == ("qcow2", 2**30)
    assert 0 < facts.actual_size < 2**30
    assert release_of(built.path / KERNEL) == built.manifest["kernel"]
    verify(built)


def test_a_changed_disk_is_built_anew(world: Path, store: Store, built: Image) -> None:
    disk = built.path / DISK
    disk.chmod(0o644)
    with disk.open("r+b") as file:
        file.truncate(disk.stat().st_size - 65536)
    heard = Heard()
    again = builder(world, store).ensure(["vm"], heard)["vm"]
    assert f"vm image: {built.folder}: was changed after it was built; it is built anew" in heard.lines
    verify(again)
    assert again.manifest["tree"] == built.manifest["tree"]


def test_a_disk_that_a_process_has_open_is_in_use(built: Image) -> None:
    with (built.path / DISK).open("rb"):
        assert os.getpid() in processes_using(built.folder)
    assert os.getpid() not in processes_using(built.folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_build_leaves_nothing_that_looks_like_an_image(
    world: Path, store: Store, number: signal.Signals
) -> None:
    for image in store.folder.glob("vm-*"):
        subprocess.run(["rm", "-r", image], check=True)
    argv = [sys.executable, "-c", RUN, str(world), str(store.folder)]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert run.stdout is not None
        assert next((line for line in run.stdout if "writing the disk" in line), "")
        run.send_signal(number)
        assert run.wait(60) != 0
    wait_for(lambda: not processes_naming(store.folder), within=20, what=f"free of processes naming {store.folder}")
    store.clean_stale_builds()
    assert [name for name in names(store) if "vm" in name] == [".lock-vm"]


def test_a_full_disk_is_named_and_nothing_is_left(world: Path, store: Store, tmp_path: Path) -> None:
    with small_disk(tmp_path, 420) as place:
        full = Store(place / "images")
        full.folder.mkdir()
        subprocess.run(["cp", "--archive", *store.folder.glob("node-*"), full.folder], check=True)
        with pytest.raises(ImageError, match="the disk filled up during the build of the vm image"):
            builder(world, full).ensure(["vm"], Silent())
        assert [name for name in names(full) if "vm" in name] == [".lock-vm"]


def emulated(folder: Path, seed: bytes, *options: str) -> str:
    """What a machine says that starts with the image's kernel and initramfs until it switches itself off."""
    image = ensure_image("vm", Silent()).path
    initrd, console = folder / "initrd", folder / "console"
    initrd.write_bytes((image / INITRD).read_bytes() + seed)
    argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-m", "512"]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{console}"]
    argv += ["-kernel", str(image / KERNEL), "-initrd", str(initrd), *options]
    done = subprocess.run(argv, timeout=_EMULATED, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return console.read_text(errors="replace")


def disk(folder: Path) -> list[str]:
    base, layer = ensure_image("vm", Silent()).path / DISK, folder / "layer"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", layer], check=True)
    return ["-drive", f"if=virtio,file={layer},format=qcow2,cache=unsafe"]


def test_the_kernel_of_the_image_runs(tmp_path: Path) -> None:
    said = emulated(tmp_path, b"", "-append", "console=ttyS0 quiet panic=-1 ai_how.probe")
    assert kvm.MARKER in said
    assert kvm.judge_boot(kvm.Outcome(said, "", 0)) == ""


def test_a_machine_without_a_disk_says_so_and_is_off(tmp_path: Path) -> None:
    said = emulated(tmp_path, b"", "-append", "console=ttyS0 quiet panic=-1")
    assert "ai-how: cannot boot: there is no disk /dev/vda" in said


def test_a_machines_own_files_are_there_when_init_starts(tmp_path: Path) -> None:
    # In place of systemd: tells what it finds, with owners and modes, and switches the machine off.
    init = (
        "#!/bin/bash\nPATH=/usr/sbin:/usr/bin\nstat -c 'found %a %u %g %n' /etc/new/file /etc/new /etc /etc/munge\n"
        'read -r line </etc/new/file; echo "line $line"; ls /seed /newroot; readlink /etc/link; ls /sys\n'
        "mount -t sysfs sysfs /sys; ls /sys/class/net; mount -t proc proc /proc; echo o >/proc/sysrq-trigger; read -r\n"
    )
    seed = cpio.archive(
        {
            "/seed/etc/new": cpio.Entry(0o40750, uid=1, gid=2),
            "/seed/etc/new/file": cpio.file(b"of its own\n", 0o640, 3, 4),
            "/seed/etc/link": cpio.Entry(0o120777, b"new/file"),
            "/seed/etc/munge/munge.key": cpio.file(b"key", 0o400),
            # what sbin is a link to
            "/seed/usr/sbin/init": cpio.file(init.encode(), 0o755),
        }
    )
    said = emulated(
        tmp_path,
        seed,
        *disk(tmp_path),
        *("-nic", "user,model=virtio-net-pci,restrict=on"),
        *("-append", "console=ttyS0 quiet panic=-1 net.ifnames=0"),
    )
    lines = said.splitlines()
    assert "found 640 3 4 /etc/new/file" in lines
    assert "found 750 1 2 /etc/new" in lines
    assert "found 755 0 0 /etc" in lines
    # The image's own folder is as the image has it: the archive makes it for root, 0755.
    assert any(line.startswith("found 700 ") and line.endswith(" /etc/munge") and " 0 0 " not in line for line in lines)
    assert "line of its own" in lines
    assert "new/file" in lines
    assert "host0  lo" in lines


def test_a_seed_that_would_go_through_a_link_is_refused(tmp_path: Path) -> None:
    seed = cpio.archive({"/seed/bin/tool": cpio.file(b"x", 0o755)})
    said = emulated(tmp_path, seed, *disk(tmp_path), "-append", "console=ttyS0 quiet panic=-1")
    assert "ai-how: cannot boot: the seed has a folder /bin, which is a link in the image" in said


def test_kvm_works_or_is_said_not_to_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ensure_image("vm", Silent()).path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    why = kvm.no_kvm(lambda: image)
    if not kvm.DEVICE.exists():
        assert why.startswith("there is no /dev/kvm")
    elif why:
        assert why.startswith("/dev/kvm opens, but") or "account" in why or "does not open" in why
    # The answer is kept; asking again starts nothing and needs no image.
    assert kvm.no_kvm(lambda: pytest.fail("asked for a kernel again")) == why
    assert processes_naming(Path("ai-how-kvm-")) == []


def test_the_shipped_image_is_what_its_recipe_says() -> None:
    image = ensure_image("vm", Silent())
    verify(image)
    assert image.digest == image_digest("vm")
    assert image.manifest["packages"]["slurmd"] == ensure_image("node", Silent()).manifest["packages"]["slurmd"]
    assert image.manifest["disk"]["corruptions"] == 0
