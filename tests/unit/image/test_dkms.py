"""A kernel module in an image fits the image's kernel, or there is no image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image import dkms
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.kernel import Kernel
from pytest_ai_how.progress import Silent
from pytest_ai_how.shell import Result

from .conftest import Write

RELEASE = "6.12.117+deb13-cloud-amd64"
OTHER = "6.12.90+deb13-cloud-amd64"
FLAGS = "SMP preempt mod_unload modversions"
STATUS = f"beegfs/7.4.7, {RELEASE}, x86_64: installed\n"
# Depends of Debian's packages, shortened.
DEPENDS = {
    f"linux-headers-{RELEASE}": "linux-base (>= 4.12~), linux-headers-6.12.117+deb13-common (= 6.12.117-1), "
    f"linux-image-{RELEASE} (= 6.12.117-1) | linux-image-{RELEASE}-unsigned (= 6.12.117-1), "
    "linux-kbuild-6.12.117+deb13, gcc-14\n",
    "linux-headers-6.12.117+deb13-common": "\n",
    "linux-kbuild-6.12.117+deb13": "libelf1t64 (>= 0.144)\n",
}
LOG = """\
DKMS (dkms-3.2.2) make.log for beegfs/7.4.7 for kernel 6.12.117+deb13-cloud-amd64 (x86_64)
make: Entering directory '/var/lib/dkms/beegfs/7.4.7/build/build'
  CC [M]  /var/lib/dkms/beegfs/7.4.7/build/source/filesystem/FhgfsOpsFile.o
/var/lib/dkms/beegfs/7.4.7/build/source/filesystem/FhgfsOpsFile.c:33:1: error: unknown type name 'page_cache'
make[3]: *** [scripts/Makefile.build:242: filesystem/FhgfsOpsFile.o] Error 1
make: Leaving directory '/var/lib/dkms/beegfs/7.4.7/build/build'
"""


class Inside:
    """Answers for the commands of a build: what dkms, modinfo and depmod would do in the root."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.vermagic = f"{RELEASE} {FLAGS}"
        self.status = STATUS
        self.symbols = ""
        self.breaks = ""
        self.file = f"usr/lib/modules/{RELEASE}/updates/dkms/beegfs.ko.xz"

    def run(self, argv: Sequence[str], *, root: Path | None = None, **_: Any) -> Result:
        argv, said = tuple(argv), ""
        self.ran.append(argv)
        if argv[0] == "cp":
            Path(argv[-1]).mkdir()
            for name in ("etc", "var/lib/dkms/beegfs/7.4.7"):
                (Path(argv[-1]) / name).mkdir(parents=True)
            (Path(argv[-1]) / "var/lib/dkms/beegfs/7.4.7/source").symlink_to("/usr/src/beegfs-7.4.7")
        elif argv[:2] == ("dkms", "build"):
            assert root
            self._build(root, Result(argv, 10, "Error! Bad return status for module build"))
        elif argv[:2] == ("dkms", "status"):
            said = self.status
        elif argv[:2] == ("dpkg-deb", "--field"):
            said = DEPENDS[Path(argv[2]).stem]
        elif argv[0] == "modinfo":
            said = f"{self.vermagic}\n"
        elif argv[0] == "depmod" and "--errsyms" in argv:
            said = self.symbols
        return Result(argv, 0, said)

    def _build(self, root: Path, failed: Result) -> None:
        tree = root / "var/lib/dkms/beegfs/7.4.7"
        if self.breaks:
            (tree / "build").mkdir()
            (tree / "build/make.log").write_text(self.breaks)
            raise CommandError(failed)
        for place in (root / self.file, tree / RELEASE / "x86_64/module/beegfs.ko.xz"):
            place.parent.mkdir(parents=True)
            place.write_bytes(b"the module")


@pytest.fixture
def inside() -> Inside:
    return Inside()


@pytest.fixture
def build(source: Source, write: Write, tmp_path: Path, inside: Inside) -> Callable[[], tuple[dkms.BuiltModule, ...]]:
    write("roles/top/role.yaml", "description: x\nneeds: [base]\ndkms: [beegfs]\n")
    return lambda: _built(source.define("node"), tmp_path, inside)


def _built(definition: Definition, folder: Path, inside: Inside) -> tuple[dkms.BuiltModule, ...]:
    class Packages:
        sandbox = inside

        def download(self, packages: Sequence[str]) -> list[Path]:
            return [folder / f"{name}.deb" for name in packages]

        def unpack(self, archives: Sequence[Path], place: Path) -> None:
            inside.ran.append(("unpack", place.name, *(archive.stem for archive in archives)))

        def install(self, root: Path, packages: Sequence[str]) -> None:
            assert (root / "etc/dkms/no-autoinstall").exists(), "a package would start a build itself"
            inside.ran.append(("install", root.name, *packages))

    (folder / "root/var/lib/dkms/beegfs/7.4.7").mkdir(parents=True)
    kernel = Kernel(RELEASE, {}, folder / "unpacked")
    root = folder / "root"
    return dkms.build_modules(definition, kernel, root, cast("Apt", Packages()), Silent())


def test_an_image_without_modules_builds_none(source: Source, tmp_path: Path, inside: Inside) -> None:
    assert _built(source.define("node"), tmp_path, inside) == ()
    assert inside.ran == []


def test_the_module_and_what_dkms_knows_get_into_the_image(
    build: Callable[[], tuple[dkms.BuiltModule, ...]], tmp_path: Path, inside: Inside
) -> None:
    assert build() == (dkms.BuiltModule("beegfs", "7.4.7", RELEASE, f"/{inside.file}"),)
    assert (tmp_path / "root" / inside.file).read_bytes() == b"the module"
    tree = tmp_path / "root/var/lib/dkms/beegfs/7.4.7"
    assert (tree / "source").is_symlink()
    assert (tree / RELEASE / "x86_64/module/beegfs.ko.xz").is_file()
    unpacked = [name for ran in inside.ran if ran[:2] == ("unpack", "dkms") for name in ran[2:]]
    assert unpacked == list(DEPENDS), "the kernel itself is not among them"
    assert ("install", "dkms", "gcc-14", "libelf1t64", "make") in inside.ran
    assert not (tmp_path / "dkms").exists(), "the compiler's root is left behind"
    assert inside.ran[-1] == ("dkms", "status", "-k", RELEASE)


@pytest.mark.seen_to_fail("STO-38")
def test_a_module_for_another_kernel_is_refused(build: Callable[[], object], inside: Inside) -> None:
    inside.vermagic = f"{OTHER} {FLAGS}"
    with pytest.raises(ImageError) as refused:
        build()
    assert str(refused.value).startswith(f"node image: module beegfs is built for {OTHER}")
    assert f"expected: for {RELEASE}, the image's kernel" in str(refused.value)


@pytest.mark.parametrize("vermagic", ["", "\n"])
def test_a_module_without_vermagic_is_refused(vermagic: str) -> None:
    with pytest.raises(ImageError, match="module beegfs is built for no kernel"):
        dkms.check_vermagic("vm-beegfs", "beegfs", vermagic, RELEASE)


def test_a_release_that_only_begins_alike_is_another() -> None:
    with pytest.raises(ImageError, match=r"built for 6\.12\.117\+deb13-cloud-amd64-rt"):
        dkms.check_vermagic("vm-beegfs", "beegfs", f"{RELEASE}-rt {FLAGS}", RELEASE)


def test_a_build_that_fails_says_why(build: Callable[[], object], inside: Inside) -> None:
    inside.breaks = LOG
    with pytest.raises(ImageError) as failed:
        build()
    text = str(failed.value)
    assert text.startswith(f"node image: module beegfs 7.4.7 does not build for {RELEASE}: ")
    assert "error: unknown type name 'page_cache' | make[3]: ***" in text
    assert "Entering directory" not in text


def test_symbols_that_the_kernel_lacks_are_told(build: Callable[[], object], inside: Inside) -> None:
    inside.symbols = (
        f"depmod: WARNING: /lib/modules/{RELEASE}/updates/dkms/beegfs.ko.xz needs unknown symbol kmem_cache_gone\n"
        f"depmod: WARNING: /lib/modules/{RELEASE}/updates/dkms/beegfs.ko.xz disagrees about version of symbol iput\n"
        f"depmod: WARNING: /lib/modules/{RELEASE}/kernel/fs/other.ko.xz needs unknown symbol elsewhere\n"
        "alias fs-beegfs beegfs\n"
    )
    with pytest.raises(ImageError) as failed:
        build()
    assert "needs unknown symbol kmem_cache_gone; disagrees about version of symbol iput" in str(failed.value)
    assert "elsewhere" not in str(failed.value)


@pytest.mark.parametrize(
    "status",
    [
        "",
        f"beegfs/7.4.7, {RELEASE}, x86_64: built\n",
        f"beegfs/7.4.7, {OTHER}, x86_64: installed\n",
        f"beegfs/7.4.6, {RELEASE}, x86_64: installed\n",
        f"beegfs/7.4.7, {RELEASE}, x86_64: installed (Differences between built and installed modules)\n",
    ],
)
def test_the_image_itself_must_say_that_it_is_installed(
    status: str, build: Callable[[], object], inside: Inside
) -> None:
    inside.status = status
    with pytest.raises(ImageError, match=r"`dkms status` says .*\n  expected: beegfs/7\.4\.7, 6\.12\.117"):
        build()


def test_a_build_that_leaves_no_file_is_told(build: Callable[[], object], inside: Inside) -> None:
    inside.file = "tmp/beegfs.ko"
    with pytest.raises(ImageError, match=r"dkms installed no file\n  expected: one beegfs\.ko for 6\.12\.117"):
        build()


def test_a_module_that_no_package_brought_is_told(
    build: Callable[[], object], tmp_path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)
    with pytest.raises(ImageError, match="no version of module beegfs is registered with DKMS"):
        build()


def test_the_last_lines_of_a_log_without_an_error_are_told() -> None:
    assert dkms.compiler_errors(["one", "", "killed"]) == ["one", "killed"]
