"""Packages that Debian lacks, from a vendor's repository and a mirror of one, and a kernel module that DKMS makes.

What stands for BeeGFS is a package of ours with a module of five lines: how packages are fetched, and how a module is
built for an image's kernel and proved to fit, is the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.config.storage import AptMirror, AptRepository, PackageSource
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.store import Image, Store
from pytest_ai_how.progress import Silent

from .repository import COMPONENT, SUITE, make_key, public_key, publish, served

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="images are built by root only"),
    pytest.mark.skipif(shutil.which("gpg") is None, reason="nothing signs a repository: apt-get install gpg"),
]

WORLD = {
    "roles/tiny/role.yaml": "description: x\npackages: [netbase, kmod, e2fsprogs]\n",
    "roles/kernel/role.yaml": (
        "description: x\nneeds: [tiny]\n"
        "kernel: {package: linux-image-cloud-amd64, busybox: busybox-static, modules: [virtio_blk]}\n"
    ),
    "roles/kernel/initramfs/init": "#!/bin/busybox sh\n",
    "roles/sample/role.yaml": "description: x\npackages: [sample-dkms]\ndkms: [sample]\n",
    "images/node.yaml": "description: tiny\nkind: tree\nroles: [tiny]\ndisk: 0\nexclude: [/usr/share/doc/*]\n",
    "images/vm.yaml": (
        "description: x\nkind: disk\nof: node\nroles: [kernel, sample]\norigin: beegfs\nsize: 2\ndisk: 0\n"
    ),
    "versions.yaml": "version: 1\nsuite: trixie\ncomponents: [main]\nepoch: 1700000000\n",
}
MODULE = """\
#include <linux/module.h>
static int __init sample_init(void) { return 0; }
static void __exit sample_exit(void) { }
module_init(sample_init);
module_exit(sample_exit);
MODULE_LICENSE("GPL");
"""
DKMS = """\
PACKAGE_NAME="sample"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="sample"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make KERNEL=$kernelver"
AUTOINSTALL="yes"
"""
BUILD = "obj-m := sample.o\nall:\n\tmake -C /lib/modules/$(KERNEL)/build M=$(CURDIR) modules\n"
#: As if the module had been made with the headers of another kernel.
OTHER_KERNEL = BUILD + "\tsed -i s/vermagic=6/vermagic=5/ sample.ko\n"
CONTROL = """\
Package: sample-dkms
Version: {version}
Architecture: all
Maintainer: x <x@example.org>
Depends: dkms
Description: x
"""


def package(folder: Path, version: str, makefile: str) -> Path:
    """A package with the source of a module, which it tells DKMS about."""
    tree = folder / version
    source = tree / "usr/src/sample-1.0"
    (tree / "DEBIAN").mkdir(parents=True)
    source.mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL.format(version=version))
    (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nexec dkms add -m sample -v 1.0\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    for name, text in (("sample.c", MODULE), ("dkms.conf", DKMS), ("Makefile", makefile)):
        (source / name).write_text(text)
    target = folder / f"sample-dkms_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, target], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images' definitions, and the vendor's key."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, text in WORLD.items():
        (folder / "world" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "world" / name).write_text(text)
    make_key(folder / "vendor")
    make_key(folder / "stranger")
    publish(folder / "right", [package(folder, "1.0", BUILD)], folder / "vendor")
    publish(folder / "wrong", [package(folder, "2.0", OTHER_KERNEL)], folder / "vendor")
    publish(folder / "empty", [], folder / "vendor")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Store:
    """A store with the tree in it."""
    store = Store(tmp_path_factory.mktemp("store") / "images")
    Builder(Source(place / "world", place / "world/versions.yaml"), store).ensure(["node"], Silent())
    return store


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with served(place) as found:
        yield found


def built(place: Path, store: Store, origin: PackageSource) -> Image:
    builder = Builder(Source(place / "world", place / "world/versions.yaml"), store, origin=origin)
    return builder.ensure(["vm"], Silent())["vm"]


def mirror(url: str, key: Path) -> PackageSource:
    return PackageSource(mirror=AptMirror(url=url, suite=SUITE, components=(COMPONENT,), key=str(key)))


def repository(url: str, key: Path) -> PackageSource:
    return PackageSource(repository=AptRepository(line=f"deb {url} {SUITE} {COMPONENT}", key=str(key)))


def test_a_mirror_gives_a_module_that_fits_the_images_kernel(place: Path, store: Store, url: str) -> None:
    image = built(place, store, mirror(f"{url}/right", place / "right/key.asc"))
    assert image.manifest["packages"]["sample-dkms"] == "1.0"
    [module] = image.manifest["modules"]
    assert (module["name"], module["version"], module["release"]) == ("sample", "1.0", image.manifest["kernel"])
    assert image.manifest["recipe"]["origin"]["line"] == f"deb {url}/right {SUITE} {COMPONENT}"


@pytest.mark.seen_to_fail("STO-38")
def test_a_module_for_another_kernel_is_no_image(place: Path, store: Store, url: str) -> None:
    with pytest.raises(ImageError) as failed:
        built(place, store, repository(f"{url}/wrong", place / "wrong/key.asc"))
    said = str(failed.value)
    assert said.startswith("vm image: module sample is built for 5."), said
    assert "the image's kernel" in said
    assert len(list(store.folder.glob("vm-*"))) <= 1, "what failed is no image; the other is of the test above"


def test_a_repository_that_somebody_else_signed_is_not_trusted(place: Path, store: Store, url: str) -> None:
    key = public_key(place / "stranger", place / "stranger.asc")
    with pytest.raises(ImageError) as failed:
        built(place, store, repository(f"{url}/right", key))
    assert str(failed.value).startswith(f"{key}: does not vouch for what {url}/right gave: "), str(failed.value)


def test_a_repository_without_the_packages_is_named(place: Path, store: Store, url: str) -> None:
    with pytest.raises(ImageError) as failed:
        built(place, store, mirror(f"{url}/empty", place / "empty/key.asc"))
    said = str(failed.value)
    assert said.startswith(f"vm image: neither {url}/empty nor the mirror "), said
    assert "sample-dkms" in said.splitlines()[0]


def test_a_mirror_that_does_not_answer_is_named(place: Path, store: Store) -> None:
    with served(place) as gone:
        pass
    with pytest.raises(ImageError) as failed:
        built(place, store, mirror(f"{gone}/right", place / "right/key.asc"))
    said = str(failed.value)
    assert said.startswith(f"{gone}/right: did not give what the vm image needs: "), said
    assert "storage.beegfs.packages" in said
