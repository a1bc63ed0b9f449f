"""What the machines and containers start from is there, whole, small enough, and is what its recipe says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_ai_how.image.disk import DiskFacts
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ._images import Presence, Provenance

pytestmark = pytest.mark.requires("owned")


@pytest.mark.check("PRV-09")
def test_images_are_there_and_sound(
    needed_images: Sequence[Presence],
    disks: dict[str, DiskFacts],
    evidence: Evidence,
    measure: Measurements,
) -> None:
    """Every image that the cluster needs is built as its roles are now, and not too large; disks are whole."""
    assert needed_images, "the cluster needs no image; nothing was put to the test"
    lines = [f"{one.name}: {one.image.path if one.image else one.why}" for one in needed_images]
    evidence.attach("images", "\n".join(lines))
    missing = [one.why for one in needed_images if one.image is None]
    assert not missing, "\n".join(missing)
    for name, facts in disks.items():
        evidence.attach(f"{name}: qemu-img", str(facts))
        assert facts.clean, (
            f"{name} image: qemu-img check finds {facts.corruptions} corruptions, {facts.leaks} leaks and "
            f"{facts.check_errors} errors, expected none; pytest-ai-how images prune {name}, and build it anew"
        )
    for image in (one.image for one in needed_images if one.image):
        # Of a disk the file's bytes: its file system is as large as the image's definition says.
        measure(f"image.{image.manifest['kind']}", image.manifest["bytes"] / 2**20, "MiB", node=f"{image.name} image")


@pytest.mark.check("PRV-10")
def test_images_are_what_they_say(provenances: Sequence[Provenance], evidence: Evidence) -> None:
    """Recipe and content have the digests that were recorded at the build, and all that is of a kernel is of one.

    Every byte of each image is read. Machines that share this host's kernel have none of their own.
    """
    assert provenances, "no image is there; nothing was put to the test"
    for one in provenances:
        kernels = "".join(f"\n{where}: {release}" for where, release in one.kernels.items())
        evidence.attach(f"{one.name} image", f"recipe {one.recipe}\ncontent {one.content}{kernels}")
    for one in provenances:
        for what, (recorded, seen) in (("recipe", one.recipe), ("content", one.content)):
            assert recorded, f"{one.name} image: no digest of its {what} is recorded; expected one, build it anew"
            assert seen == recorded, (
                f"{one.name} image: the digest of its {what} is {seen[:12]}, {recorded[:12]} was recorded; expected "
                f"the same; pytest-ai-how images prune {one.name}, and build it anew"
            )
        assert len(set(one.kernels.values())) <= 1, (
            f"{one.name} image: {', '.join(f'{where}: {release}' for where, release in one.kernels.items())}; "
            "expected one release of the kernel everywhere"
        )
