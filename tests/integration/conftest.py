"""A small real cluster, run by real processes of pytest and of the command line, in a folder of its own.

The tests run in two lanes, one beside the other: what keeps the processors busy, and what mostly waits.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.lease.state import PRODUCT, cookie
from suites.phase6._inventory import inventory
from tests.environment import clean_environment

NAME, BRIDGE, SUBNET = "aihowlc", "aihow-lc", "10.86.0"
CONFIG = f"""\
version: 1
name: {NAME}
driver: nspawn
network: {{subnet: {SUBNET}.0/24, bridge: {BRIDGE}}}
nodes:
  - {{name: controller, roles: [controller], address: {SUBNET}.10, cpus: 1, memory: 512}}
  - {{name: node01, roles: [compute], address: {SUBNET}.11, cpus: 1, memory: 256}}
storage: {{kind: none}}
containers: {{runtime: none}}
slurm:
  cluster: {NAME}
  accounting: false
  partitions: [{{name: debug, nodes: [node01], default: true}}]
"""
#: Emulated machines, and images that are built. All else is about machines that share this host's kernel.
BUSY = (
    "libvirt",
    "test_images.py",
    "test_packages_elsewhere.py",
    "test_vm_image.py",
    "test_wheel.py",
    "test_wheels.py",
)
# Seconds: ten times what a run takes here.
_WITHIN = 60.0


@dataclass(frozen=True)
class Ended:
    """A process that ended."""

    status: int
    text: str
    errors: str

    @property
    def first_error(self) -> str:
        """The first line on standard error, without pytest's own word before it."""
        return (self.errors.strip().splitlines() or [""])[0].removeprefix("ERROR: ")


class Life:
    """A folder with a configuration, tests, and state of its own. ``started`` are the processes that were started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.started: list[subprocess.Popen[str]] = []
        (folder / "small.yaml").write_text(CONFIG)
        (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    def config(self, **changes: tuple[str, str]) -> None:
        """Change the configuration: ``memory=("memory: 512", "memory: 1")`` replaces a text by another."""
        text = (self.folder / "small.yaml").read_text()
        for old, new in changes.values():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "small.yaml").write_text(text)

    def tests(self, text: str) -> None:
        """Write the file of tests. ``told(name)`` in it leaves a note, ``forever()`` waits to be ended."""
        helpers = (
            "import os, time\nfrom pathlib import Path\nimport pytest\n"
            "def told(name, text=''):\n    Path(name + '.new').write_text(text or str(os.getpid()))\n"
            "    Path(name + '.new').rename(name)\n"
            "def forever():\n    time.sleep(600)\n"
        )
        (self.folder / "test_it.py").write_text(helpers + text)

    def start(self, *argv: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command of ours in the folder, in a session of its own."""
        clean = clean_environment()
        process = subprocess.Popen(
            argv,
            cwd=self.folder,
            env={**clean, "XDG_STATE_HOME": str(self.state), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def pytest(self, *options: str, cluster: str = "small.yaml", **environ: str) -> subprocess.Popen[str]:
        """Start pytest."""
        return self.start(sys.executable, "-m", "pytest", f"--cluster={cluster}", *options, "test_it.py", **environ)

    def end(self, process: subprocess.Popen[str], number: int = 0) -> Ended:
        """Wait for a process, after sending it a signal if one is given."""
        if number:
            process.send_signal(number)
        out, errors = process.communicate(timeout=_WITHIN)
        return Ended(process.returncode, out, errors)

    def run(self, *options: str, **environ: str) -> Ended:
        """Run pytest to its end."""
        return self.end(self.pytest(*options, **environ))

    def cli(self, *argv: str, **environ: str) -> Ended:
        """Run the command line to its end."""
        return self.end(self.start(sys.executable, "-m", "pytest_ai_how", *argv, **environ))

    def note(self, name: str, by: subprocess.Popen[str]) -> str:
        """Wait for a note that a test leaves, and return what it says."""
        path = self.folder / name

        def there() -> bool:
            assert path.exists() or by.poll() is None, by.communicate()
            return path.exists()

        wait_for(there, within=_WITHIN, what=f"note {name}")
        return path.read_text()

    def made(self) -> None:
        """Wait until machines are being made: the bridge is there."""
        bridge = Path(f"/sys/class/net/{BRIDGE}")
        wait_for(bridge.exists, within=_WITHIN, what=f"bridge {BRIDGE}", every=0.01, at_most=0.01)

    @property
    def left(self) -> list[str]:
        """What the host holds of the cluster."""
        ours = (NAME, BRIDGE, str(self.folder))
        found = inventory(NAME)
        return sorted(one for one in found if one.startswith("process ") or any(word in one for word in ours))

    def report(self) -> dict[str, Any]:
        """The report of the last run."""
        paths = sorted(self.folder.glob("reports/*/report.json"), key=lambda path: path.stat().st_mtime)
        loaded: dict[str, Any] = json.loads(paths[-1].read_text())
        return loaded

    def verdicts(self) -> dict[str, str]:
        """The verdicts of the last run by test."""
        return {one["nodeid"].split("::")[-1]: one["verdict"] for one in self.report()["results"]}


def kill(*pids: int) -> None:
    """End processes as the kernel does when memory is out."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    found = Life(tmp_path)
    assert found.left == [], "left over from before this test"
    yield found
    for process in found.started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_WITHIN)
    left = found.left
    if left:  # a test that failed must not fail the others
        found.cli("reap", "--force", NAME)
    assert left == [], f"the test left something of {cookie(NAME)}"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of ``size`` MiB. It lies in a folder that is named as the cache is: who looks in the other lane at
    what a cluster left on this host passes by what is in the cache.
    """
    place = folder / PRODUCT / "disk"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups by such a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test into its lane (``--dist=loadgroup``)."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            lane = "busy" if item.path.relative_to(here).parts[0] in BUSY else "waiting"
            item.add_marker(pytest.mark.xdist_group(lane))
