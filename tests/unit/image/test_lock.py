"""Locks of Python packages are read with every mistake as file:line, and are part of what an image is."""

from __future__ import annotations

import re

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.bootstrap import suites
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.lock import read_lock
from pytest_ai_how.image.recipe import digest_of, recipe
from tests.unit.image.conftest import SIF_FILES, Write

LOCK = SIF_FILES["roles/torch/packages.lock"]


def test_a_lock_names_each_package_once_with_its_digests(sif_source: Source) -> None:
    lock = read_lock(sif_source.provisioning / "roles/torch/packages.lock")
    assert [(one.name, one.version, one.line) for one in lock.packages] == [
        ("tiny-torch", "2.1+cpu", 2),
        ("numpy", "1.0", 5),
    ]
    assert [one.digests for one in lock.packages] == [("a" * 64, "b" * 64), ("c" * 64,)]
    assert lock.where("Tiny.Torch") == f"{lock.file}:2"
    assert lock.where("pandas") == str(lock.file)


@pytest.mark.parametrize(
    ("text", "where", "seen"),
    [
        ("numpy>=1.0 --hash=sha256:" + "c" * 64, ":1", "numpy>=1.0"),
        ("# x\nnumpy==1.0", ":2", "numpy==1.0"),
        ("numpy==1.0 --hash=md5:" + "c" * 32, ":1", "numpy==1.0 --hash=md5"),
        ("numpy==1.0 --hash=sha256:" + "c" * 63, ":1", "numpy==1.0"),
        ("numpy==1.0 ; python_version<'4' --hash=sha256:" + "c" * 64, ":1", "python_version"),
        ("--extra-index-url https://elsewhere.example.org", ":1", "--extra-index-url"),
        ("\n-r other.lock", ":2", "-r other.lock"),
        (LOCK + "NumPy==2.0 --hash=sha256:" + "c" * 64, ":6", "numpy is there a second time; the first is in line 5"),
        ("# nothing", "", "names no package"),
    ],
)
def test_a_mistake_names_file_and_line(sif_source: Source, write: Write, text: str, where: str, seen: str) -> None:
    file = write("roles/torch/packages.lock", text)
    with pytest.raises(ImageError) as caught:
        sif_source.define("box")
    assert caught.value.where == f"{file}{where}"
    assert seen in caught.value.seen
    assert "compile it anew" in caught.value.cure


def test_a_lock_that_is_not_there(sif_source: Source) -> None:
    file = sif_source.provisioning / "roles/torch/packages.lock"
    file.unlink()
    with pytest.raises(ImageError, match=f"^{re.escape(str(file))}: can't be read: No such file"):
        sif_source.define("box")


def test_a_package_in_two_roles_is_a_mistake(sif_source: Source, write: Write) -> None:
    second = write("roles/other/other.lock", f"# x\nnumpy==2.0 --hash=sha256:{'d' * 64}\n")
    write("roles/other/role.yaml", "description: x\nwheels: other.lock\n")
    write("images/box.yaml", SIF_FILES["images/box.yaml"].replace("[torch]", "[torch, other]"))
    with pytest.raises(
        ImageError, match=f"{re.escape(str(second))}:2: numpy comes from two roles, 'torch' and 'other'"
    ):
        sif_source.define("box")


def test_an_image_of_another_suite_is_held_to_the_versions_of_that(sif_source: Source) -> None:
    definition = sif_source.define("box")
    assert definition.suite == "bookworm"
    assert suites(definition) == ["bookworm"]
    assert {name: demand.series for name, demand in definition.demands.items()} == {"systemd": "252"}
    assert definition.wheels == {"tiny-torch": "2.1+cpu", "numpy": "1.0"}


@pytest.mark.parametrize(
    ("name", "old", "new", "where", "what"),
    [
        ("images/box.yaml", "bookworm", "bookwrm", "box.yaml:3", "no versions of 'bookwrm' (did you mean 'bookworm'?)"),
        ("images/box.yaml", "kind: sif", "kind: tree", "box.yaml", "'suite' is for a sif only"),
        ("roles/torch/role.yaml", "packages.lock", "../other.lock", "torch/role.yaml:3", "is not a file's name"),
    ],
)
def test_a_mistake_in_a_definition_names_file_and_line(  # noqa: PLR0917  parameters of one table
    sif_source: Source, write: Write, name: str, old: str, new: str, where: str, what: str
) -> None:
    assert old in SIF_FILES[name]
    write(name, SIF_FILES[name].replace(old, new))
    with pytest.raises(ImageError) as caught:
        sif_source.define("box")
    assert where in caught.value.where
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("roles/torch/packages.lock", "b" * 64, "d" * 64),
        ("roles/torch/packages.lock", "numpy==1.0", "numpy==1.1"),
        ("images/box.yaml", "suite: bookworm\n", ""),
        ("versions.yaml", '"252"', '"257"'),
    ],
)
def test_each_input_changes_the_recipe(sif_source: Source, write: Write, name: str, old: str, new: str) -> None:
    before = digest_of(recipe(sif_source.define("box")))
    assert old in SIF_FILES[name]
    write(name, SIF_FILES[name].replace(old, new))
    assert digest_of(recipe(sif_source.define("box"))) != before


def test_roles_without_wheels_have_the_recipe_that_they_had(source: Source) -> None:
    assert "wheels" not in str(recipe(source.define("node")))
    assert "lock" not in str(recipe(source.define("node")))


@pytest.mark.parametrize("image", ["pytorch", "oumi"])
def test_the_builds_for_gpus_and_for_cpus_have_one_pytorch(image: str) -> None:
    cpu, cuda = (Source.shipped().define(name).wheels for name in (image, f"{image}-cuda"))
    assert cpu["torch"] == f"{cuda['torch']}+cpu"
    assert not [name for name in cpu if name.startswith("nvidia-")]
    assert [name for name in cuda if name.startswith("nvidia-nccl")]
    # What both have is of one version: a program behaves alike on both.
    assert {name: cuda.get(name) for name in cpu if name != "torch"} == {
        name: version for name, version in cpu.items() if name != "torch"
    }
