"""The checks of images go red for one that is missing, damaged, too large, or another than its manifest says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.image.disk import DiskFacts
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Image, Store, describe
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from suites.phase0 import _images
from suites.phase0 import test_images as phase0
from suites.phase0._images import Presence, Provenance, presences, provenance

SOUND = DiskFacts("qcow2", 4 * 2**30, 10, 0, 0, 0)
RELEASE = "6.12.117+deb13-cloud-amd64"


def image(kind: str = "tree", mib: int = 500, name: str = "node") -> Image:
    return Image(name, "d" * 64, Path("/images/root"), {"kind": kind, "bytes": mib * 2**20})


def test_what_is_there_passes(evidence: Evidence, measure: Measurements) -> None:
    found = [Presence("node", image()), Presence("vm", image("disk", name="vm"))]
    phase0.test_images_are_there_and_sound(found, {"vm": SOUND}, evidence, measure)
    assert [(item.metric, item.node) for item in measure.items] == [
        ("image.tree", "node image"),
        ("image.disk", "vm image"),
    ]


@pytest.mark.seen_to_fail("PRV-09")
def test_an_image_that_is_not_built(
    evidence: Evidence, measure: Measurements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = presences(load_config("local", environ={}), "libvirt")
    assert [one.name for one in found] == ["vm", "base", "mpi", "pytorch"]
    with pytest.raises(AssertionError) as caught:
        phase0.test_images_are_there_and_sound(found, {}, evidence, measure)
    assert str(caught.value).startswith(
        "vm image: is not built\n    expected: it, as its roles are now\n    do: pytest-"
    )
    with pytest.raises(AssertionError, match="the cluster needs no image; nothing was put to the test"):
        phase0.test_images_are_there_and_sound([], {}, evidence, measure)


@pytest.mark.seen_to_fail("PRV-09")
@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(SOUND, corruptions=3), "vm image: qemu-img check finds 3 corruptions, 0 leaks and 0 errors"),
        (replace(SOUND, leaks=1), "vm image: qemu-img check finds 0 corruptions, 1 leaks and 0 errors"),
    ],
)
def test_a_disk_that_is_damaged(facts: DiskFacts, said: str, evidence: Evidence, measure: Measurements) -> None:
    with pytest.raises(AssertionError, match=said):
        phase0.test_images_are_there_and_sound(
            [Presence("vm", image("disk", name="vm"))], {"vm": facts}, evidence, measure
        )


@pytest.mark.seen_to_fail("PRV-09")
@pytest.mark.parametrize("kind", ["tree", "disk"])
def test_an_image_that_is_too_large(kind: str, evidence: Evidence, measure: Measurements) -> None:
    with pytest.raises(
        LimitExceeded, match=rf"^vm image: image.{kind} is 2100 MiB, expected at most 1907 MiB .*PRV-09"
    ):
        phase0.test_images_are_there_and_sound([Presence("vm", image(kind, 2100, "vm"))], {}, evidence, measure)


# provenance

SAME = Provenance("vm", ("r" * 64, "r" * 64), ("c" * 64, "c" * 64), {"manifest": RELEASE, "vmlinuz": RELEASE})


def test_an_image_of_its_recipe_passes(evidence: Evidence) -> None:
    phase0.test_images_are_what_they_say([SAME, replace(SAME, name="node", kernels={})], evidence)


@pytest.mark.seen_to_fail("PRV-10")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"content": ("c" * 64, "e" * 64)}, "the digest of its content is eeeeeeeeeeee, cccccccccccc was recorded"),
        ({"recipe": ("r" * 64, "e" * 64)}, "the digest of its recipe is eeeeeeeeeeee, rrrrrrrrrrrr was recorded"),
        ({"content": ("", "e" * 64)}, "no digest of its content is recorded"),
        (
            {"kernels": {"manifest": RELEASE, "headers of module beegfs": "6.12.48+deb13-cloud-amd64"}},
            rf"manifest: {RELEASE}, headers of module beegfs: 6.12.48+deb13-cloud-amd64; expected one release",
        ),
    ],
)
def test_an_image_that_is_another(changes: dict[str, object], said: str, evidence: Evidence) -> None:
    with pytest.raises(AssertionError) as caught:
        phase0.test_images_are_what_they_say([replace(SAME, **changes)], evidence)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"vm image: {said}")
    with pytest.raises(AssertionError, match="no image is there; nothing was put to the test"):
        phase0.test_images_are_what_they_say([], evidence)


Build = Callable[[], Image]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A tree in a store, as the pipeline leaves it."""
    monkeypatch.setattr(_images, "image_digest", lambda *_: "d" * 64)

    def make() -> Image:
        store = Store(tmp_path / "images")
        store.folder.mkdir()
        with store.building("node", "d" * 64) as place:
            (place / "root/etc").mkdir(parents=True)
            (place / "root/etc/motd").write_text("hello\n")
            manifest = {"name": "node", "digest": "d" * 64, "kind": "tree", "modules": [], **describe(place / "root")}
            return store.finish(place, manifest)

    return make


@pytest.mark.seen_to_fail("PRV-10")
def test_a_file_that_was_changed_in_a_tree(build: Build, tmp_path: Path, evidence: Evidence) -> None:
    made = build()
    with Sandbox() as sandbox:
        phase0.test_images_are_what_they_say([provenance(made, None, tmp_path, sandbox)], evidence)
        (made.path / "etc/motd").write_text("hullo\n")
        with pytest.raises(
            AssertionError, match=r"node image: the digest of its content is \w{12}, \w{12} was recorded"
        ):
            phase0.test_images_are_what_they_say([provenance(made, None, tmp_path, sandbox)], evidence)


@pytest.mark.seen_to_fail("PRV-10")
def test_two_kernels_in_a_tree(build: Build, tmp_path: Path, evidence: Evidence) -> None:
    made = build()
    for release in (RELEASE, "6.1.0-9-amd64"):
        (made.path / "usr/lib/modules" / release).mkdir(parents=True)
    with Sandbox() as sandbox:
        found = provenance(made, None, tmp_path, sandbox)
    with pytest.raises(
        AssertionError, match=r"node image: .*modules/6\.1\.0-9-amd64: 6\.1\.0-9-amd64.* expected one rel"
    ):
        phase0.test_images_are_what_they_say([replace(found, content=("c", "c"))], evidence)
