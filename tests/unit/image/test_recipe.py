"""The digest of a recipe is stable, and no input can change without changing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.storage import AptRepository, PackageSource
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.recipe import digest_of, own_part, recipe
from tests.unit.image.conftest import DISK_FILES, FILES, Write


def digest(source: Source) -> str:
    return digest_of(recipe(source.define("node")))


def test_it_is_the_same_each_time_and_for_each_reader(source: Source) -> None:
    assert digest(source) == digest(Source(source.provisioning, source.versions))


def test_it_is_sha256_of_canonical_json() -> None:
    # sha256 of {"a":[1,2],"b":"é"} in UTF-8
    import hashlib

    assert digest_of({"b": "é", "a": [1, 2]}) == hashlib.sha256('{"a":[1,2],"b":"é"}'.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("versions.yaml", "trixie", "forky"),
        ("versions.yaml", "1.4.2", "1.4.3"),
        ("versions.yaml", "suite: sid", "suite: forky"),
        ("versions.yaml", '"3.39"', '"3.40"'),
        ("versions.yaml", "1700000000", "1700000001"),
        ("versions.yaml", "[main]", "[main, contrib]"),
        ("images/node.yaml", "doc/*", "man/*"),
        ("images/node.yaml", "kind: tree", "kind: sif"),
        ("images/node.yaml", "[top]", "[base]"),
        ("roles/base/role.yaml", "[systemd, fio]", "[systemd, fio, jq]"),
        ("roles/base/role.yaml", "enable:", "mask:"),
        ("roles/base/files/etc/motd", "hello", "hallo"),
        ("roles/top/role.yaml", "0750", "0700"),
        ("roles/top/role.yaml", "/srv/x", "/srv/y"),
        ("roles/top/role.yaml", "[echo, hi]", "[echo, ho]"),
    ],
)
def test_each_input_changes_it(source: Source, write: Write, name: str, old: str, new: str) -> None:
    before = digest(source)
    assert old in FILES[name]
    write(name, FILES[name].replace(old, new, 1))
    assert digest(source) != before


def test_a_mode_changes_it_but_only_whether_it_can_be_executed(source: Source) -> None:
    before = digest(source)
    tool = source.provisioning / "roles/top/files/usr/bin/tool"
    tool.chmod(0o700)
    assert digest(source) == before
    tool.chmod(0o644)
    assert digest(source) != before


def test_a_renamed_file_changes_it(source: Source) -> None:
    before = digest(source)
    (source.provisioning / "roles/base/files/etc/motd").rename(source.provisioning / "roles/base/files/etc/issue")
    assert digest(source) != before


def test_words_for_people_do_not_change_it(source: Source, write: Write) -> None:
    before = digest(source)
    write("roles/base/role.yaml", FILES["roles/base/role.yaml"].replace("the base", "another text"))
    assert digest(source) == before


def test_the_shipped_images_have_different_digests() -> None:
    shipped = Source.shipped()
    names = shipped.image_names()
    digests = {digest_of(own_part(shipped.define(name))) for name in names}
    assert set(names) >= {"base", "node", "pytorch", "vm"}
    assert len(digests) == len(names)


def test_what_makes_a_sif_changes_a_sifs_only(sif_source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def both() -> tuple[str, str]:
        return digest(sif_source), digest_of(own_part(sif_source.define("box")))

    before = both()
    monkeypatch.setattr("pytest_ai_how.image.recipe.SIF_PIPELINE", 99)
    after = both()
    assert after[0] == before[0]
    assert after[1] != before[1]


def disk_digest(source: Source, origin: PackageSource | None = None) -> str:
    return digest_of(recipe(source.define("vm"), origin))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("images/vm.yaml", "size: 4", "size: 5"),
        ("images/vm.yaml", "of: node", "of: other"),
        ("roles/kernel/role.yaml", "linux-image", "linux-rt"),
        ("roles/kernel/role.yaml", "[virtio_blk, virtio_net]", "[virtio_net, virtio_blk]"),
        ("roles/kernel/initramfs/init", "/bin", "/sbin"),
        # what the tree is made of that the disk is made of
        ("roles/base/files/etc/motd", "hello", "hallo"),
        ("versions.yaml", "trixie", "forky"),
    ],
)
def test_each_input_changes_a_disks(disk_source: Source, write: Write, name: str, old: str, new: str) -> None:
    write("images/other.yaml", FILES["images/node.yaml"].replace("a node", "the same by another name"))
    before = disk_digest(disk_source)
    text = {**FILES, **DISK_FILES}[name]
    assert old in text
    write(name, text.replace(old, new, 1))
    assert disk_digest(disk_source) != before


def test_the_packages_of_an_origin_change_a_disks(disk_source: Source, write: Write, tmp_path: Path) -> None:
    write("images/vm.yaml", DISK_FILES["images/vm.yaml"] + "origin: beegfs\n")
    with pytest.raises(ImageError, match=r"vm image: needs packages that Debian lacks(.|\n)*storage\.beegfs\.packages"):
        disk_digest(disk_source)
    package = tmp_path / "packages/a.deb"
    package.parent.mkdir()
    with pytest.raises(ImageError, match=r"packages: holds no \.deb file"):
        disk_digest(disk_source, PackageSource(folder=str(package.parent)))
    package.write_bytes(b"one")
    before = disk_digest(disk_source, PackageSource(folder=str(package.parent)))
    package.write_bytes(b"two")
    changed = disk_digest(disk_source, PackageSource(folder=str(package.parent)))
    key = tmp_path / "key.gpg"
    key.write_bytes(b"key")
    repository = AptRepository(line="deb https://packages.example.org/beegfs trixie non-free", key=str(key))
    signed = disk_digest(disk_source, PackageSource(repository=repository))
    key.write_bytes(b"another")
    assert len({before, changed, signed, disk_digest(disk_source, PackageSource(repository=repository))}) == 4


def test_what_a_disk_needs_does_not_change_a_tree(source: Source, disk_source: Source) -> None:
    assert "kernel" not in str(recipe(source.define("node")))
    assert recipe(disk_source.define("vm"))["of"] == digest(source)
