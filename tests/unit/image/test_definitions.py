"""Roles, images and versions are read with every mistake as file:line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.definitions import Source
from tests.unit.image.conftest import DISK_FILES, FILES, Write


def test_needed_roles_come_first_and_packages_once(source: Source) -> None:
    definition = source.define("node")
    assert [loaded.name for loaded in definition.roles] == ["base", "top"]
    assert definition.packages == ("apptainer", "fio", "systemd")
    assert set(definition.demands) == {"apptainer", "fio"}
    assert [(file.target, oct(file.mode)) for loaded in definition.roles for file in loaded.files] == [
        ("/etc/motd", "0o644"),
        ("/usr/bin/tool", "0o755"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("roles/base/role.yaml", "description: x\nneeds: [top]\n", "base/role.yaml:2", "top → base → top"),
        ("roles/top/role.yaml", "description: x\nneeds:\n  - bsae\n", "top/role.yaml:3", "no role is named 'bsae'"),
        (
            "images/node.yaml",
            "description: x\nkind: tree\nroles: [tpo]\ndisk: 1\n",
            "node.yaml:3",
            "did you mean 'top'",
        ),
        ("images/node.yaml", "description: x\nkind: iso\nroles: [top]\ndisk: 1\n", "node.yaml:2", "'iso'"),
        ("roles/base/role.yaml", "description: x\npakages: [fio]\n", "base/role.yaml:2", "did you mean 'packages'"),
        (
            "roles/base/role.yaml",
            "description: x\npackages: ['a b']\n",
            "base/role.yaml:2",
            "not a Debian package's name",
        ),
        (
            "roles/base/role.yaml",
            "description: x\nremove: [/../x]\n",
            "base/role.yaml:2",
            "an absolute path or pattern",
        ),
        ("roles/base/role.yaml", "description: x\nempty: [/etc/../../x]\n", "base/role.yaml:2", "an absolute path"),
        (
            "roles/base/role.yaml",
            "description: x\ndirectories:\n  - {path: /x, mode: '755'}\n",
            "base/role.yaml:3",
            "octal mode",
        ),
        ("roles/base/role.yaml", "description: x\nunits: {enable: [a/b]}\n", "base/role.yaml:2", "systemd unit's name"),
        ("versions.yaml", "version: 1\nsuite: trixie\n", "versions.yaml:1", "components: is missing"),
        ("roles/base/role.yaml", "description: [\n", "base/role.yaml:2", "not valid YAML"),
    ],
)
def test_a_mistake_names_file_and_line(
    source: Source, write: Write, name: str, text: str, where: str, what: str
) -> None:
    write(name, text)
    with pytest.raises(ImageError) as caught:
        source.define("node")
    assert where in caught.value.where
    assert what in str(caught.value)


def test_a_file_in_two_roles_is_a_mistake(source: Source, write: Write) -> None:
    second = write("roles/top/files/etc/motd", "mine\n")
    with pytest.raises(ImageError, match=re.escape(f"{second}:1: /etc/motd comes from two roles, 'base' and 'top'")):
        source.define("node")


def test_a_link_among_a_roles_files_is_a_mistake(source: Source) -> None:
    (source.provisioning / "roles/base/files/etc/x").symlink_to("/etc/shadow")
    with pytest.raises(ImageError, match="is a symbolic link"):
        source.define("node")


def test_what_python_compiles_is_no_part_of_a_role(source: Source, write: Write) -> None:
    before = source.define("node")
    write("roles/top/files/usr/bin/__pycache__/tool.cpython-311.pyc", "compiled")
    assert source.define("node") == before


def test_an_unknown_image_names_the_known_ones(source: Source) -> None:
    with pytest.raises(ImageError, match=r"no image is named 'nod' \(did you mean 'node'\?\)\n  expected: node"):
        source.define("nod")


def test_every_version_that_ships_is_of_a_package_that_a_role_installs() -> None:
    shipped = Source.shipped()
    definitions = [shipped.define(name) for name in shipped.image_names()]
    installed = {package for definition in definitions for package in (*definition.packages, *definition.unpacked)}
    assert set(definitions[0].versions.packages) <= installed
    assert definitions[0].versions.packages["apptainer"].suite == "sid"


def test_every_daemon_of_debian_s_has_a_declared_version() -> None:
    """So a mirror that has moved on to another one fails the build, and not a check that reads what it answers."""
    shipped = Source.shipped()
    declared = shipped.define("node").versions.packages
    daemons = {
        loaded.name: loaded.role.packages
        for loaded in shipped.define("node").roles
        if any(not unit.startswith("ai-how-") for unit in loaded.role.units.enable) and loaded.role.packages
    }
    assert {"prometheus", "alertmanager", "node-exporter", "slurm-controller", "ssh"} <= daemons.keys()
    assert not [role for role, packages in daemons.items() if not declared.keys() & set(packages)]


def test_every_shipped_role_is_in_an_image() -> None:
    shipped = Source.shipped()
    used = {loaded.name for name in shipped.image_names() for loaded in shipped.define(name).roles}
    assert used == set(shipped.role_names())


def test_no_secret_ships_in_a_role() -> None:
    shipped = Source.shipped()
    files = [
        file.target for name in shipped.image_names() for loaded in shipped.define(name).roles for file in loaded.files
    ]
    assert files
    assert not [target for target in files if Path(target).name in {"munge.key", "id_ed25519"} or "host_" in target]


def test_a_disk_has_its_own_roles_and_those_of_its_tree_below(disk_source: Source) -> None:
    definition = disk_source.define("vm")
    assert definition.of is not None
    assert [loaded.name for loaded in definition.roles] == ["kernel"]
    assert [loaded.name for loaded in definition.of.roles] == ["base", "top"]
    assert (definition.packages, definition.unpacked) == ((), ("linux-image", "busybox-static"))
    assert [(file.target, file.mode) for file in definition.kernel.initramfs] == [("/init", 0o755)]
    assert definition.kernel.files == ()


@pytest.mark.parametrize(
    ("name", "old", "new", "where", "what"),
    [
        ("images/vm.yaml", "of: node\n", "", "vm.yaml", "a disk needs 'of'"),
        ("images/vm.yaml", "size: 4\n", "", "vm.yaml", "a disk needs 'of'"),
        ("images/vm.yaml", "kind: disk", "kind: tree", "vm.yaml", "are for a disk only"),
        ("images/vm.yaml", "of: node", "of: nod", "vm.yaml:3", "no image is named 'nod' (did you mean 'node'?)"),
        ("images/vm.yaml", "of: node", "of: vm2", "vm.yaml:3", "'vm2' is a sif; a disk is made of a tree"),
        ("images/vm.yaml", "[kernel]", "[top]", "vm image", "roles with a kernel: none"),
        ("images/vm2.yaml", "[top]", "[kernel]", "vm2.yaml:3", "a sif has no kernel, a role of it does"),
        ("roles/kernel/role.yaml", "busybox: busybox-static, ", "", "kernel/role.yaml", "busybox"),
    ],
)
def test_a_mistake_in_a_disk_names_file_and_line(  # noqa: PLR0917  parameters of one table
    disk_source: Source, write: Write, name: str, old: str, new: str, where: str, what: str
) -> None:
    world = {**DISK_FILES, "images/vm2.yaml": "description: x\nkind: sif\nroles: [top]\ndisk: 0\n"}
    for file, text in world.items():
        write(file, text.replace(old, new, 1) if file == name else text)
    assert old in world[name]
    with pytest.raises(ImageError) as caught:
        disk_source.define("vm2" if "vm2" in name else "vm")
    assert where in caught.value.where
    assert what in str(caught.value)


def test_a_kernel_without_an_init_is_a_mistake(disk_source: Source) -> None:
    (disk_source.provisioning / "roles/kernel/initramfs/init").unlink()
    with pytest.raises(ImageError, match=r"vm\.yaml:4: roles: role 'kernel' has a kernel, but no initramfs/init"):
        disk_source.define("vm")


def test_a_file_of_the_tree_is_not_a_disks_to_change(disk_source: Source, write: Write) -> None:
    write("roles/kernel/files/etc/motd", "mine\n")
    with pytest.raises(ImageError, match="/etc/motd comes from two roles, 'base' and 'kernel'"):
        disk_source.define("vm")


def test_the_sample_world_is_sound(source: Source) -> None:
    assert set(FILES) > {"versions.yaml"}
    assert source.image_names() == ("node",)
    assert source.role_names() == ("base", "top")
