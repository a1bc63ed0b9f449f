"""A site to run pytest in: a configuration, and pretended machines behind the real driver hook, lease and bring-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The plugin under test must not get its options from the session that tests it.
CONFTEST = """
import os
from pathlib import Path

import pytest
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import HostError, ProvisionError
from pytest_ai_how.transport import FakeTransport, LocalTransport


class FakeDriver:
    name = "nspawn"

    def check(self, config):
        if os.environ.get("FAKE_CHECK"):
            raise HostError("localhost", "mmdebstrap is not installed", cure="apt-get install mmdebstrap")

    def facts(self):
        return HostFacts("nspawn", ("pretended",), {"cgroup.devices": "no device controller on this host"})

    def fingerprint(self, config):
        return "fingerprint"

    def up(self, config, journal):
        with open(os.environ["FAKE_LOG"], "a") as log:
            log.write("up\\n")
        if os.environ.get("FAKE_UP"):
            raise ProvisionError("node02", "did not boot", cure="look at its console")
        open(str(journal.path.parent / "machine"), "w").close()

    def secrets(self, config):
        return (b"open-sesame-1234",)

    def state(self, config, node):
        return "running"

    def stop(self, config, node, *, force=False, within=60.0):
        raise ProvisionError(node, "is only pretended")

    start = stop

    def consoles(self, config):
        names = [node.name for node in config.nodes]
        return {name: Path(os.environ["FAKE_LOG"]).with_name(name + ".console") for name in names}

    def transport(self, config, node):
        def facts(argv):
            with open(os.environ["FAKE_LOG"], "a") as log:
                log.write(f"asked {node}\\n")
            return LocalTransport(node).execute(argv, timeout=9, input=fake.calls[-1].input)

        said = {"uname -n": node + "\\n", "true": "", "false": "", "hostname": node + "\\n", "sh -s": facts}
        fake = FakeTransport(node, said)
        return fake


class Radio:
    name, needs = "radio", ()

    def __init__(self, cluster):
        self.cluster = cluster

    def faults(self):
        return ()


def pytest_ai_how_driver(config, progress):
    return FakeDriver()


def pytest_ai_how_services():
    return {"radio": Radio}
"""

CONFIG = """\
version: 1
name: {name}
driver: nspawn
network: {{subnet: 10.98.0.0/24, bridge: aihow-none}}
nodes:
  - {{name: controller, roles: [controller], address: 10.98.0.10, memory: 1024}}
  - {{name: node01, roles: [compute], address: 10.98.0.11, memory: 1024}}
  - {{name: node02, roles: [compute], address: 10.98.0.12, memory: 1024}}
slurm:
  cluster: fake
  partitions: [{{name: gpu, nodes: [node01, node02], default: true}}]
"""


@dataclass(frozen=True)
class Outcome:
    """A finished run of pytest."""

    status: int
    text: str
    errors: str
    reports: Path

    @property
    def run(self) -> Path:
        [folder] = [path for path in self.reports.iterdir() if path.is_dir()]
        return folder

    @property
    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.run / "report.json").read_text())
        return loaded

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdicts by the test's name."""
        return {result["nodeid"].split("::", 1)[-1]: result["verdict"] for result in self.report["results"]}

    def reason(self, test: str) -> str:
        [found] = [r["reason"] for r in self.report["results"] if r["nodeid"].endswith(f"::{test}")]
        return str(found)


class Site:
    """A folder with tests, a pretended cluster, and state of its own."""

    name = "plug"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.log = folder / "log"
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "plug.yaml").write_text(CONFIG.format(name=self.name))
        (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    def test(self, text: str, file: str = "test_it.py") -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import os, signal, time\nimport pytest\n{text}")

    @property
    def environ(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AI_HOW_", "PYTEST_", "FAKE_"))}
        places = {
            "XDG_STATE_HOME": str(self.state),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "FAKE_LOG": str(self.log),
        }
        return clean | places

    def start(self, *args: str, cluster: str = "plug.yaml", **environ: str) -> subprocess.Popen[str]:
        """Start pytest as a process of its own."""
        option = [f"--cluster={cluster}"] if cluster else []
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *option, *args],
            cwd=self.folder,
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str, cluster: str = "plug.yaml", **environ: str) -> Outcome:
        """Run pytest to its end."""
        process = self.start(*args, cluster=cluster, **environ)
        return self.finish(process)

    def finish(self, process: subprocess.Popen[str], timeout: float = 60) -> Outcome:
        """Wait for a run."""
        try:
            out, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, errors = process.communicate()
            raise AssertionError(f"pytest did not end within {timeout:g} s\n{out}{errors}") from None
        return Outcome(process.returncode, out, errors, self.folder / "reports")

    @property
    def ups(self) -> int:
        """How often machines were made."""
        return self.log.read_text().splitlines().count("up") if self.log.exists() else 0

    @property
    def left(self) -> list[str]:
        """What of the cluster is left in the state folder."""
        folder = self.state / "pytest-ai-how" / self.name
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
