"""The checks of packages go red where one comes from elsewhere, or what can't be had is taken, and for other images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.facts import Readings
from pytest_ai_how.image.store import Image, describe
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.shell import Result
from suites.phase4 import test_task046_packages as task046
from suites.phase4._packages import INSTALLED, OS_RELEASE, WAYS, Outcome
from tests.unit.image.sif_samples import write_sif

# What was said of a real root.
SAID = {
    "of another version": "tiny image: ai-how-sample is 1.2.3, expected at least 9\n  do: point AI_HOW_MIRROR at",
    "from nowhere": (
        "tiny image: neither /o/packages nor the mirror http://m has packages that it needs: E: Unable to locate "
        "package ai-how-nowhere\n  do: complete the packages there, or name another source in the cluster's YAML"
    ),
    "from an empty folder": "/tmp/o/empty: holds no .deb file\n  do: name it in the cluster's YAML: storage.beegfs",
    "not Debian": "/tmp/o/foreign: is Rocky Linux 9.4; packages\n  expected: Debian or a\n  do: use an image",
}
WELL = {
    "already installed": Outcome("6.5", "6.5", touched=False),
    "from Debian's mirror": Outcome("", "0.0.25", touched=True),
    "from a folder of this host": Outcome("", "1.2.3", touched=True),
    "in both, lower in the folder": Outcome("", "10.0.0", touched=True),
    "in both, higher in the folder": Outcome("", "9999", touched=True),
    **{way: Outcome("1.2.3", "1.2.3", touched=False, said=said) for way, said in SAID.items()},
}


def test_every_way_that_ends_well_passes(evidence: Evidence) -> None:
    task046.test_packages_come_in_order(WELL, evidence)
    assert len(evidence.items) == len(WAYS)


@pytest.mark.seen_to_fail("INF-41")
@pytest.mark.parametrize(
    ("way", "outcome", "said"),
    [
        ("already installed", Outcome("6.5", "6.6", touched=True), "6.5 became 6.6, expected nothing to change"),
        ("already installed", Outcome("6.5", "6.5", touched=False, said="E: broken"), "is refused: E: broken"),
        ("from Debian's mirror", Outcome("", "", touched=False), "is not there afterwards, expected it installed"),
        ("from a folder of this host", Outcome("", "", touched=False, said="E: no"), "is refused: E: no"),
        (
            "in both, lower in the folder",
            Outcome("", "0~1", touched=True),
            ": 0~1 is taken, expected the higher of the two versions; do: compare",
        ),
        (
            "in both, higher in the folder",
            Outcome("", "0.58", touched=True),
            ": 0.58 is taken, expected the higher of the two versions; do: compare",
        ),
        ("in both, higher in the folder", Outcome("", "", touched=False), "is not there afterwards, expected it inst"),
        (
            "of another version",
            Outcome("1.2.3", "1.2.3", touched=False),
            "is accepted; expected a refusal with 'ai-how",
        ),
        (
            "from nowhere",
            Outcome("", "", touched=False, said="apt-get exited with 100"),
            "apt-get exited with 100; exp",
        ),
        (
            "from an empty folder",
            Outcome("", "", touched=False, said="/o: holds no .deb file"),
            '/o: holds no .deb file; expected a refusal with "do: name it in the cluster\'s YAML"',
        ),
        ("not Debian", replace(WELL["not Debian"], touched=True), "expected nothing to change"),
        ("not Debian", Outcome("", "", touched=False), "is accepted; expected a refusal with 'is Rocky Linux 9.4'"),
    ],
)
def test_a_way_that_ends_badly(way: str, outcome: Outcome, said: str, evidence: Evidence) -> None:
    with pytest.raises(AssertionError) as caught:
        task046.test_packages_come_in_order({**WELL, way: outcome}, evidence)
    assert str(caught.value).startswith(f"localhost: a package {way}")
    assert said in str(caught.value)


@pytest.mark.seen_to_fail("INF-41")
def test_a_way_that_was_not_tried(no_evidence: Evidence) -> None:
    with pytest.raises(
        AssertionError, match="localhost: 'already installed' was not tried; expected already installed"
    ):
        task046.test_packages_come_in_order({}, no_evidence)


# machines

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n'
ROCKY = 'PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
PACKAGES = "fio\t3.39-1\tinstalled\nmunge\t0.5.16-1\tinstalled\nless\t668-1\tconfig-files\n"
ASKED = {"fio": "3.39-1", "munge": "0.5.16-1"}


def machines(release: str = DEBIAN, packages: str | Result = PACKAGES) -> Facts:
    well: dict[object, str | Result] = {OS_RELEASE: DEBIAN, INSTALLED: PACKAGES}
    told = {"node01": well, "node02": {OS_RELEASE: release, INSTALLED: packages}}
    return Facts(Readings.told(told), Evidence())  # type: ignore[arg-type]


def test_machines_with_what_roles_ask_for_pass() -> None:
    task046.test_machines_have_what_roles_ask_for(machines(), ASKED)


@pytest.mark.seen_to_fail("INF-41")
@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (machines(ROCKY), "node02: is Rocky Linux 9.4 (Blue Onyx), expected Debian or a distribution made of it"),
        (machines(packages="fio\t3.39-1\tinstalled\n"), "node02: munge is not installed, expected 0.5.16-1 (1 in all)"),
        (machines(packages=PACKAGES.replace("3.39-1", "3.38-1")), "node02: fio is 3.38-1, expected 3.39-1 (1 in all)"),
        (
            machines(packages=PACKAGES.replace("0.5.16-1\tinstalled", "0.5.16-1\thalf-configured")),
            "node02: munge is not installed, expected 0.5.16-1",
        ),
    ],
)
def test_a_machine_that_lacks_a_package(facts: Facts, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        task046.test_machines_have_what_roles_ask_for(facts, ASKED)
    assert str(caught.value).startswith(said)


@pytest.mark.seen_to_fail("INF-41")
def test_no_package_or_machine_is_no_pass() -> None:
    with pytest.raises(AssertionError, match="no role asks for a package; nothing was put to the test"):
        task046.test_machines_have_what_roles_ask_for(machines(), {})
    with pytest.raises(AssertionError, match="no machine was asked; nothing was put to the test"):
        task046.test_machines_have_what_roles_ask_for(Facts(Readings.told({}), Evidence()), ASKED)


# images


def built(folder: Path, motd: str = "hello", netbase: str = "6.5", digest: str = "d" * 64) -> Image:
    """An image in a cache of its own."""
    (folder / "root/etc").mkdir(parents=True)
    (folder / "root/etc/motd").write_text(motd)
    (folder / "root/etc/same").write_text("same")
    manifest = {"packages": {"netbase": netbase, "dpkg": "1.22.21"}, **describe(folder / "root")}
    return Image("tiny", digest, folder / "root", manifest)


def differ(said: str, check: Callable[[], None]) -> None:
    """A check fails, and says this of the host."""
    with pytest.raises(AssertionError) as caught:
        check()
    assert str(caught.value).startswith("localhost: ")
    assert said in str(caught.value)


def test_images_that_are_the_same_pass(tmp_path: Path, evidence: Evidence) -> None:
    task046.test_images_built_twice_are_the_same((built(tmp_path / "1"), built(tmp_path / "2")), evidence)


@pytest.mark.seen_to_fail("PRV-20")
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"motd": "bye"}, "packages that differ: none; files that differ: etc/motd (1 in all); do: build from a"),
        ({"motd": "bye", "netbase": "6.6"}, "packages that differ: netbase; files that differ: etc/motd (1 in all)"),
        ({"digest": "f" * 64}, "the builds have different recipes; nothing to compare"),
    ],
)
def test_images_that_differ(other: dict[str, str], said: str, tmp_path: Path, evidence: Evidence) -> None:
    twins = (built(tmp_path / "1"), built(tmp_path / "2", **other))
    differ(said, lambda: task046.test_images_built_twice_are_the_same(twins, evidence))


@pytest.mark.seen_to_fail("PRV-20")
def test_one_image_is_not_two_builds(tmp_path: Path, evidence: Evidence) -> None:
    one = built(tmp_path / "1")
    with pytest.raises(AssertionError, match="localhost: 2 builds, expected two; nothing to compare"):
        task046.test_images_built_twice_are_the_same((one, one), evidence)


# containers


def container(folder: Path, digest: str = "d" * 64, **other: Any) -> Image:
    """The image of a container, in a cache of its own."""
    sif = write_sif(folder / "tiny.sif", **other)
    return Image("tiny", digest, sif, describe(sif))


def test_containers_that_are_the_same_pass(tmp_path: Path, evidence: Evidence) -> None:
    task046.test_containers_built_twice_are_the_same((container(tmp_path / "1"), container(tmp_path / "2")), evidence)


@pytest.mark.seen_to_fail("PRV-20")
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"number": 2}, "parts that differ: UUID; do: compare the images that they are made of if their file"),
        ({"made": 7}, "parts that differ: times, times of object 1; do: "),
        ({"data": b'{"a": 2}\n'}, "parts that differ: object 1 (inspect-metadata.json); do: "),
        ({"data": b'{"a": 1}\n\n'}, "parts that differ: none, but the bytes between them; do: "),
        ({"digest": "f" * 64}, "the builds have different recipes; nothing to compare"),
    ],
)
def test_containers_that_differ(other: dict[str, Any], said: str, tmp_path: Path, evidence: Evidence) -> None:
    twins = (container(tmp_path / "1"), container(tmp_path / "2", **other))
    differ(said, lambda: task046.test_containers_built_twice_are_the_same(twins, evidence))


@pytest.mark.seen_to_fail("PRV-20")
def test_one_container_is_not_two_builds(tmp_path: Path, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match="localhost: 1 builds, expected two; nothing to compare"):
        task046.test_containers_built_twice_are_the_same((container(tmp_path / "1"),), evidence)
