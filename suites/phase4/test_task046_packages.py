"""TASK-046: packages come from where they are to, in that order, and what can't be had is refused with a way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from pytest_ai_how.image.family import is_debian
from pytest_ai_how.image.sif_file import parts
from pytest_ai_how.image.store import Image
from pytest_ai_how.image.tree import differing
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts

from ._packages import INSTALLED, OS_RELEASE, TAKES, WAYS, Outcome

pytestmark = [pytest.mark.requires("owned"), pytest.mark.xdist_group("TASK-046")]


@pytest.mark.check("INF-41")
def test_packages_come_in_order(package_outcomes: Mapping[str, Outcome], evidence: Evidence) -> None:
    """What is installed is left alone; else Debian's mirror or a folder of this host gives it, and it is verified.

    Where both have a package, the higher version is taken. What nobody has, what is of another version, and a root that
    is not Debian are refused with what to do, and nothing is changed. All on a root of its own, by the code that builds
    the machines' images.
    """
    for way, outcome in package_outcomes.items():
        evidence.attach(
            way, f"{outcome.before or 'none'} -> {outcome.after or 'none'}\n{outcome.said or 'nothing said'}"
        )
    missing = [way for way in WAYS if way not in package_outcomes]
    assert not missing, f"localhost: {missing[0]!r} was not tried; expected {', '.join(WAYS)}"
    for way, (installs, words) in WAYS.items():
        outcome = package_outcomes[way]
        if not words:
            assert not outcome.said, f"localhost: a package {way} is refused: {outcome.said}"
            assert outcome.after, f"localhost: a package {way} is not there afterwards, expected it installed"
        for word in words:
            assert word in outcome.said, (
                f"localhost: a package {way}: {outcome.said.strip() or 'is accepted'}; expected a refusal with {word!r}"
            )
        assert outcome.touched == installs, (
            f"localhost: a package {way}: {outcome.before or 'none'} became {outcome.after or 'none'}, "
            f"expected {'it to be installed' if installs else 'nothing to change'}"
        )
    for way, right in TAKES.items():
        outcome = package_outcomes[way]
        assert right(outcome.after), (
            f"localhost: a package {way}: {outcome.after} is taken, expected the higher of the two versions; do: "
            "compare the priorities of both: apt-cache policy, and the image's preferences"
        )


@pytest.mark.check("INF-41")
@pytest.mark.reads(OS_RELEASE, INSTALLED)
def test_machines_have_what_roles_ask_for(facts: Facts, asked_packages: Mapping[str, str]) -> None:
    """Each machine is of Debian's family and has every package that its roles ask for, as it came into the image."""
    assert asked_packages, "no role asks for a package; nothing was put to the test"
    releases, packages = facts(OS_RELEASE), facts(INSTALLED)
    assert releases, "no machine was asked; nothing was put to the test"
    for name, release in releases.items():
        what = release.get("PRETTY_NAME", "of no name")
        assert is_debian(release), f"{name}: is {what}, expected Debian or a distribution made of it"
        wrong = [
            f"{package} is {packages[name].get(package, 'not installed')}, expected {version}"
            for package, version in asked_packages.items()
            if packages[name].get(package) != version
        ]
        assert not wrong, f"{name}: {'; '.join(wrong[:5])} ({len(wrong)} in all); make the cluster anew"


@pytest.mark.check("PRV-20")
def test_images_built_twice_are_the_same(compared: Sequence[Image], evidence: Evidence) -> None:
    """Two builds of one recipe, each with a cache of its own, are the same image: paths, modes, owners and contents.

    It is a small image, of Debian's least and one role, by the code that builds all; with --scale=full that of the
    machines, which takes a minute and a half and 2 GiB.
    """
    _comparable(compared, evidence)
    first, *others = compared
    for other in others:
        if other.manifest["content"] == first.manifest["content"]:
            continue
        versions = first.manifest["packages"].items() ^ other.manifest["packages"].items()
        packages = ", ".join(sorted({name for name, _ in versions})) or "none"
        files = differing(first.path, other.path)
        evidence.attach("files that differ", "\n".join(files))
        raise AssertionError(
            f"localhost: {first.name}: {other.path} is {other.manifest['content'][:12]}, {first.path} is "
            f"{first.manifest['content'][:12]}, expected the same; packages that differ: {packages}; files that "
            f"differ: {', '.join(files[:5]) or 'none now'} ({len(files)} in all); do: build from a mirror that stands "
            "still (AI_HOW_MIRROR) if packages differ, else find what writes the time or chance into these files"
        )


@pytest.mark.check("PRV-20")
def test_containers_built_twice_are_the_same(containers: Sequence[Image], evidence: Evidence) -> None:
    """Two containers' images of one recipe are the same file, byte for byte: UUID, times, labels and file system.

    They are of the two small images, by the Apptainer that makes all; with --scale=full it is ``base``, built whole.
    """
    _comparable(containers, evidence)
    first, *others = containers
    for other in others:
        if other.manifest["content"] == first.manifest["content"]:
            continue
        one, two = parts(first.path), parts(other.path)
        differ = [part for part in sorted({*one, *two}) if one.get(part) != two.get(part)]
        evidence.attach("parts", "\n".join(f"{part}: {one.get(part)} | {two.get(part)}" for part in differ))
        raise AssertionError(
            f"localhost: {first.name}: {other.path} is {other.manifest['content'][:12]}, {first.path} is "
            f"{first.manifest['content'][:12]}, expected the same; parts that differ: "
            f"{', '.join(differ) or 'none, but the bytes between them'}; do: compare the images that they are made of "
            "if their file systems differ, else find what Apptainer writes the time or chance into: apptainer sif dump"
        )


def _comparable(images: Sequence[Image], evidence: Evidence) -> None:
    evidence.attach("builds", "\n".join(f"{one.path}: {one.manifest['content']}" for one in images))
    assert len({one.path for one in images}) > 1, f"localhost: {len(images)} builds, expected two; nothing to compare"
    assert len({one.digest for one in images}) == 1, "localhost: the builds have different recipes; nothing to compare"
