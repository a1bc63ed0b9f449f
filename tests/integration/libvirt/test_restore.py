"""Two real machines that were ready, kept and taken down: the next bring-up continues from them, in seconds."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pytest_ai_how.deadline import pause, wait_for
from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.drivers.select import libvirt_driver
from pytest_ai_how.errors import TransportError
from pytest_ai_how.lease.state import cache_home
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Silent

from .sample import Made, config, prepare

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a private libvirt daemon needs root"),
    pytest.mark.skipif(bool(host_lacks()), reason=f"driver libvirt {host_lacks()}"),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="apt-get install libvirt-daemon"),
]
# Seconds. A clock that was not set is behind by more than the first; one that was is right by the second.
_STOOD_STILL, _RIGHT = 3.0, 2.0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The boot ids of machines that were booted, kept and taken down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
        made = cluster()
        try:
            assert not made.driver.is_warm(made.config)
            made.up()
            idle(made, 300.0)
            boots = boot_ids(made)
            made.driver.keep_warm(made.config)
            # They stood still, and went on.
            assert boot_ids(made) == boots
            idle(made, 120.0)
            made.down()
            assert made.traces() == []
            yield boots
        finally:
            made.down()
            for kept in (cache_home() / "warm").glob("*/manifest.json"):
                if '"cluster": "vmwarm"' in kept.read_text():
                    shutil.rmtree(kept.parent)


def cluster() -> Made:
    changes = {"bringup": "restore", "storage": {"kind": "none"}}
    return prepare(config("vmwarm", "10.84.0", **changes), libvirt_driver(Silent()))


def said(node: Node, *argv: str) -> str:
    """What a command says; sshd may not answer at once on a host with more to do than CPUs."""
    found = ""

    def told() -> bool:
        nonlocal found
        with suppress(TransportError):
            found = node.run(*argv, check=False).stdout
            return True
        return False

    wait_for(told, within=180.0, what="answering over ssh", where=node.name)
    return found


def boot_ids(made: Made) -> dict[str, str]:
    return {node.name: said(node, "cat", "/proc/sys/kernel/random/boot_id").strip() for node in made.cluster.nodes}


def idle(made: Made, within: float) -> None:
    wait_for(
        lambda: said(made.cluster.controller, "sinfo", "-hN", "-o%N %t") == "node01 idle\n",
        within=within,
        what="an idle node in sinfo",
        where="controller",
    )


def test_machines_continue_with_the_right_time_and_run_jobs(before: dict[str, str]) -> None:
    made = cluster()
    assert made.driver.is_warm(made.config)
    pause(_STOOD_STILL)
    try:
        began = time.monotonic()
        made.up()
        answered = time.monotonic() - began
        idle(made, 60.0)
        print(f"restored: answered after {answered:.1f} s, idle after {time.monotonic() - began:.1f} s")
        # No machine has booted, and each is who it was.
        assert boot_ids(made) == before
        for node in made.cluster.nodes:
            asked = time.time()
            clock = float(node.run("date", "+%s.%N").stdout)
            assert asked - _RIGHT < clock < time.time() + _RIGHT
        found = made.cluster.controller.run("srun", "hostname", user="hpc", check=False, timeout=120.0)
        assert found.stdout == "node01\n", found.describe()
        # What a machine writes now is its own: what is kept stays as it is.
        assert made.driver.is_warm(made.config)
        kept = [path for path in (cache_home() / "warm").rglob("*") if path.is_file() and path.name != ".lock"]
        assert {path.stat().st_mode & 0o077 for path in kept} == {0}
    finally:
        made.down()
    assert made.traces() == []


def test_a_changed_configuration_is_not_continued(before: dict[str, str]) -> None:
    assert before
    changes = {"bringup": "restore", "storage": {"kind": "none"}, "user": "someone"}
    other = prepare(config("vmwarm", "10.84.0", **changes), libvirt_driver(Silent()))
    assert not other.driver.is_warm(other.config)
    other.down()
