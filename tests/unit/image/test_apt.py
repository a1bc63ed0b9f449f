"""What apt is told, and where an image's packages come from (samples: apt 2.6.1)."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.config.storage import AptMirror, AptRepository, PackageSource
from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.origin import Elsewhere, debs, elsewhere, identity
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.shell import Result

MIRROR = "http://mirror.example.org/debian"
DEPENDS = "linux-image\n  Depends: linux-image-6.12.117+deb13-cloud-amd64\n"


class Recorded(Sandbox):
    """A sandbox that runs nothing, keeps what it was told and answers by program."""

    def __init__(self, **said: str) -> None:
        super().__init__()
        self.said, self.argvs, self.fails = said, [], ""

    def run(self, argv: Any, **told: Any) -> Result:
        self.argvs.append((tuple(argv), told.get("root")))
        program = argv[0] if argv[0] != "env" else argv[2]
        result = Result(tuple(argv), 100 if self.fails else 0, self.fails or self.said.get(program, ""))
        if self.fails:
            raise CommandError(result)
        return result


def opened(source: Source, tmp_path: Path, sandbox: Recorded, extra: Elsewhere | None = None) -> Apt:
    return Apt.open(source.define("vm"), tmp_path / "apt", MIRROR, sandbox, extra)


def test_it_knows_nothing_of_this_machines_packages_and_sources(disk_source: Source, tmp_path: Path) -> None:
    sandbox = Recorded()
    opened(disk_source, tmp_path, sandbox, Elsewhere("deb [trusted=yes] copy:/extra ./", "/extra"))
    assert sandbox.argvs == [(("apt-get", "--error-on=any", "update"), None)]
    settings = (tmp_path / "apt/apt.conf").read_text()
    for part in ("main", "parts", "sourceparts", "preferencesparts"):
        assert f'Dir::Etc::{part} "/dev/null";' in settings
    assert f'Dir::State::status "{tmp_path}/apt/status";' in settings
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert (tmp_path / "apt/sources.list").read_text().splitlines() == [
        f"deb [signed-by={keyring}] {MIRROR} trixie main",
        "deb [trusted=yes] copy:/extra ./",
    ]


def test_the_newest_kernel_is_what_the_package_depends_on(disk_source: Source, tmp_path: Path) -> None:
    sandbox = Recorded(**{"apt-cache": DEPENDS})
    assert opened(disk_source, tmp_path, sandbox).newest("linux-image") == "linux-image-6.12.117+deb13-cloud-amd64"
    sandbox.said["apt-cache"] = "linux-image\n"
    with pytest.raises(ImageError, match="vm image: linux-image depends on nothing\n  expected: one package"):
        opened(disk_source, tmp_path / "2", sandbox).newest("linux-image")


def test_a_failure_names_its_cause_and_the_mirror(disk_source: Source, tmp_path: Path) -> None:
    sandbox = Recorded()
    apt = opened(disk_source, tmp_path, sandbox)
    sandbox.fails = "E: Unable to locate package linux-image"
    with pytest.raises(ImageError, match=rf"vm image: the mirror {MIRROR} lacks packages: E: Unable to locate"):
        apt.download(["linux-image"])
    sandbox.fails = "dpkg: error processing package x (--install):"
    with pytest.raises(ImageError, match="vm image: dpkg-deb exited with 100: dpkg: error processing package x"):
        apt.unpack([tmp_path / "x.deb"], tmp_path)


URL = "http://packages.example.org/beegfs"
REFUSED = f"Err:4 {URL} stable InRelease\nE: Failed to fetch {URL}/dists/stable/InRelease  Could not connect to it\n"
# apt 2.6.1
UNSIGNED = (
    f"Err:4 {URL} stable InRelease\n"
    "  The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 0FD9\n"
    f"E: The repository '{URL} stable InRelease' is not signed.\n"
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (REFUSED, rf"{URL}: did not give what the vm image needs: Err:4 .*\n  do: .*storage\.beegfs\.packages"),
        (UNSIGNED, rf"/key\.asc: does not vouch for what {URL} gave: .*\n  do: .*storage\.beegfs\.packages"),
        (
            "E: Unable to locate package beegfs-meta",
            rf"vm image: neither {URL} nor the mirror {MIRROR} has packages that it needs: E: Unable .*beegfs-meta",
        ),
        (REFUSED.replace(URL, MIRROR), f"{MIRROR}: the mirror did not give what the vm image needs"),
    ],
)
def test_a_failure_names_the_source_that_failed(disk_source: Source, tmp_path: Path, said: str, reason: str) -> None:
    sandbox = Recorded()
    apt = opened(disk_source, tmp_path, sandbox, Elsewhere(f"deb {URL} stable non-free", URL, "/key.asc"))
    sandbox.fails = said
    with pytest.raises(ImageError, match=f"^{reason}"):
        apt.download(["beegfs-meta"])


def test_what_is_installed_is_installed_inside_and_starts_nothing(disk_source: Source, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("var/lib/dpkg", "var/cache", "usr/sbin"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text("Package: fio\n")
    (root / "usr/lib").mkdir()
    (root / "usr/lib/os-release").write_text("ID=debian\n")
    seen: list[str] = []

    class Watching(Recorded):
        def run(self, argv: Any, **told: Any) -> Result:
            if argv[0] == "apt-get" and "install" in argv:
                (tmp_path / "apt/archives/jq_1.7_amd64.deb").write_bytes(b"deb")
            if argv[0] == "dpkg":
                seen.append((root / "usr/sbin/policy-rc.d").read_text())
                seen.extend(path.name for path in (root / "var/cache/ai-how").iterdir())
            return super().run(argv, **told)

    sandbox = Watching()
    apt = opened(disk_source, tmp_path, sandbox)
    apt.install(root, ["jq"])
    assert sandbox.argvs[-2:] == [
        (("apt-get", "--yes", "--download-only", "--no-upgrade", "install", "jq"), None),
        # the paths that the tree of a disk leaves out are left out of what is added to it
        (("dpkg", "--path-exclude=/usr/share/doc/*", "--install", "/var/cache/ai-how/jq_1.7_amd64.deb"), root),
    ]
    assert seen == ["#!/bin/sh\nexit 101\n", "jq_1.7_amd64.deb"]
    assert (tmp_path / "apt/status").read_text() == "Package: fio\n"
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["os-release", "status"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('PRETTY_NAME="Rocky Linux 9.4"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', "is Rocky Linux 9.4; packages"),
        ("ID=alpine\n", "is alpine; packages can't be installed there"),
        ("", "is of no distribution that it names; packages"),
    ],
)
def test_a_root_that_is_not_debian_is_refused(text: str, what: str, disk_source: Source, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/os-release").write_text(text)
    sandbox = Recorded()
    apt = opened(disk_source, tmp_path, sandbox)
    before = len(sandbox.argvs)
    with pytest.raises(ImageError) as caught:
        apt.install(tmp_path / "root", ["jq"])
    assert str(caught.value).startswith(f"{tmp_path / 'root'}: {what}")
    assert "expected: Debian or a distribution made of it" in str(caught.value)
    assert len(sandbox.argvs) == before, "nothing was asked for"


def test_what_apt_would_install_is_only_looked_up(disk_source: Source, tmp_path: Path) -> None:
    sandbox = Recorded()
    opened(disk_source, tmp_path, sandbox).simulate(["jq"])
    assert sandbox.argvs[-1] == (("apt-get", "--simulate", "install", "jq"), None)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that dpkg-deb made."""
    (tmp_path / "tree/DEBIAN").mkdir(parents=True)
    control = (
        "Package: beegfs-common\nVersion: 7.4.7\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (tmp_path / "tree/DEBIAN/control").write_text(control)
    target = tmp_path / "packages/beegfs common_7.4.7.deb"
    target.parent.mkdir()
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tmp_path / "tree", target], check=True)
    return target


def test_a_folder_becomes_a_repository_with_an_index(package: Path, tmp_path: Path) -> None:
    origin = PackageSource(folder=str(package.parent))

    class Control(Recorded):
        def run(self, argv: Any, **told: Any) -> Result:
            said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
            return Result(tuple(argv), 0, said)

    found = elsewhere("vm", origin, tmp_path / "index", Control())
    assert found == Elsewhere(f"deb [trusted=yes] copy:{tmp_path}/index ./", str(package.parent))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    stanza = (tmp_path / "index/Packages").read_text()
    assert stanza.startswith("Package: beegfs-common\nVersion: 7.4.7\n")
    assert f"Filename: ./{digest[:16]}.deb\nSize: {package.stat().st_size}\nSHA256: {digest}\n" in stanza
    assert (tmp_path / f"index/{digest[:16]}.deb").resolve() == package
    assert identity("vm", origin) == {"folder": [[package.name, digest]]}


def test_a_repository_is_trusted_as_far_as_its_key_signs(tmp_path: Path) -> None:
    key = tmp_path / "key.gpg"
    key.write_bytes(b"key")
    line = "deb https://packages.example.org/beegfs_8.1 trixie non-free"
    repository = PackageSource(repository=AptRepository(line=line, key=str(key)))
    mirror = PackageSource(
        mirror=AptMirror(url="https://packages.example.org/beegfs_8.1", suite="trixie", key=str(key))
    )
    for origin in (repository, mirror):
        found = elsewhere("vm", origin, tmp_path, Recorded())
        assert found.line == line.replace("deb ", f"deb [signed-by={key}] ")
        assert (found.where, found.key) == ("https://packages.example.org/beegfs_8.1", str(key))
        assert identity("vm", origin) == {"line": line, "key": hashlib.sha256(b"key").hexdigest()}
    key.unlink()
    with pytest.raises(ImageError, match=r"key\.gpg: cannot be read: No such file(.|\n)*storage\.beegfs\.packages"):
        elsewhere("vm", repository, tmp_path, Recorded())


def test_an_empty_folder_and_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{tmp_path}: holds no .deb file"):
        debs(str(tmp_path))
    with pytest.raises(ImageError, match=f"{tmp_path}/none: is no folder"):
        debs(f"{tmp_path}/none")
    with pytest.raises(ImageError, match="vm image: needs packages that Debian lacks"):
        identity("vm", None)
