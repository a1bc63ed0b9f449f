"""Phase 0's checks go red for real faults: units that systemd objects to, a key that opens nothing, a damaged disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.machines.identity import make_pair
from pytest_ai_how.image import ensure_image
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.disk import disk_facts
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Image
from pytest_ai_how.limits import load_limits
from pytest_ai_how.progress import Silent
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.shell import Result
from suites.phase0 import test_host, test_images, test_roles
from suites.phase0._images import Presence
from suites.phase0._keys import knock_at_image, make_keys
from suites.phase0._roles import apt_lacks, catalogued, packages, verify_units

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a change of root needs root"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="apt-get install mmdebstrap"),
]
DATA = Path(__file__).parents[1] / "data" / "provisioning"


@pytest.fixture(scope="module")
def tree() -> Path:
    """The machines' root."""
    return ensure_image("node", Silent()).path


def world(name: str) -> Source:
    return Source(DATA / name, DATA / "versions.yaml")


@pytest.mark.seen_to_fail("INF-39")
def test_systemd_objects_to_a_unit(tree: Path, tmp_path: Path) -> None:
    def verify(definition: Definition) -> tuple[Sequence[str], Result]:
        with Sandbox() as sandbox:
            return verify_units(definition, tree, tmp_path, sandbox)

    with pytest.raises(AssertionError) as caught:
        test_roles.test_units_verify(catalogued(world("units")), verify, Evidence())
    assert "node image: Unit gone.service not found." in str(caught.value)
    assert "made.service:2: Unknown key 'Afterwards' in section [Unit], ignoring." in str(caught.value)


@pytest.mark.seen_to_fail("INF-39")
def test_apt_does_not_know_a_package(tmp_path: Path) -> None:
    """By the lists of the mirror as they are now."""
    shutil.copytree(DATA / "unused", tmp_path / "world")
    (tmp_path / "world/roles/top/role.yaml").write_text("description: the top\npackages: [ai-how-nowhere]\n")
    found = catalogued(Source(tmp_path / "world", DATA / "versions.yaml"))
    (tmp_path / "apt").mkdir()
    with pytest.raises(
        AssertionError, match="node image: .* lacks packages: E: Unable to locate package ai-how-nowhere"
    ):
        test_roles.test_packages_can_be_had(packages(found, apt_lacks(tmp_path / "apt")), Evidence())


@pytest.mark.seen_to_fail("PRV-11")
def test_the_images_sshd_refuses_a_stranger(tree: Path, tmp_path: Path) -> None:
    config = load_config("local", environ={})
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    keys, identity = make_keys(config, tmp_path / "own/keys")
    door = knock_at_image(config, keys, identity, tree, tmp_path / "own")
    test_host.test_key_pair_opens_the_machines(keys, door, Evidence())
    assert all("root" in answer.stdout.splitlines() for answer in door.answers.values())
    stranger = replace(identity, client=make_pair())
    door = knock_at_image(config, keys, stranger, tree, tmp_path / "other")
    with pytest.raises(AssertionError, match=r"controller: does not let the key in .*Permission denied \(publickey\)"):
        test_host.test_key_pair_opens_the_machines(keys, door, Evidence())


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="apt-get install qemu-utils")
@pytest.mark.seen_to_fail("PRV-09")
def test_a_disk_with_a_damaged_table(tmp_path: Path) -> None:
    """A qcow2 image whose entry for its first cluster says that nobody uses it (docs/interop/qcow2.txt)."""
    disk = tmp_path / "disk.qcow2"
    with Sandbox() as sandbox:
        sandbox.run(["qemu-img", "create", "-f", "qcow2", str(disk), "1G"])
        sound = disk_facts(disk, sandbox)
        content = bytearray(disk.read_bytes())
        table = int.from_bytes(content[48:56], "big")
        block = int.from_bytes(content[table : table + 8], "big")
        content[block : block + 2] = bytes(2)
        disk.write_bytes(content)
        damaged = disk_facts(disk, sandbox)
    found = [Presence("vm", Image("vm", "d", tmp_path, {"kind": "disk", "bytes": 1}))]
    measure = Measurements(load_limits("local"))
    test_images.test_images_are_there_and_sound(found, {"vm": sound}, Evidence(), measure)
    with pytest.raises(AssertionError, match="vm image: qemu-img check finds [1-9] corruptions"):
        test_images.test_images_are_there_and_sound(found, {"vm": damaged}, Evidence(), measure)
