"""A cluster that others made, reached over ssh: what our jobs left on its storage goes, however the run ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import yaml

from tests.integration.conftest import NAME, Life

MOUNT = "/mnt/shared"
JOB = """
def test_job(slurm):
    slurm.query("touch", f"{slurm.folder}/mine")
    told("folder", slurm.folder)
"""


@pytest.fixture
def site(life: Life) -> Iterator[Life]:
    """A kept cluster, described in ``site.yaml`` as by somebody who has its addresses and a key."""
    life.config(storage=("storage: {kind: none}", f"storage: {{kind: host-directory, mount: {MOUNT}}}"))
    assert life.cli("up", "--cluster", "small.yaml").status == 0
    keys = life.state / "pytest-ai-how" / NAME / "machines/keys"
    found = yaml.safe_load((life.folder / "small.yaml").read_text())
    del found["network"]
    found |= {"name": "site", "driver": "ssh", "storage": {"kind": "existing", "mount": MOUNT}}
    found["ssh"] = {"user": "root", "key": str(keys / "id_ed25519"), "known_hosts": str(keys / "known_hosts")}
    (life.folder / "site.yaml").write_text(yaml.safe_dump(found))
    yield life
    life.cli("reap", "--force", "site")
    assert life.cli("down", "--cluster", NAME).status == 0


def folders(life: Life) -> list[str]:
    """What lies on the storage of the cluster, of whoever."""
    told = life.cli("exec", "--cluster", NAME, "--on", "controller", "--", "ls", "-A", MOUNT)
    assert told.status == 0, told
    return [line.removeprefix("controller: ") for line in told.text.splitlines()]


def test_a_run_removes_what_its_jobs_left(site: Life) -> None:
    before = folders(site)
    site.tests(JOB)
    ended = site.end(site.pytest(cluster="site.yaml"))
    assert ended.status == 0, ended
    folder = (site.folder / "folder").read_text()
    assert folder.startswith(f"{MOUNT}/pytest-ai-how-site-"), "a name that nobody else has"
    assert folders(site) == before


def test_after_kill_9_reap_removes_it(site: Life) -> None:
    before = folders(site)
    site.tests(JOB + "    forever()\n")
    run = site.pytest(cluster="site.yaml")
    folder = site.note("folder", run).split("/")[3]
    site.end(run, signal.SIGKILL)
    assert folders(site) == sorted([*before, folder])
    ended = site.cli("reap")
    assert (ended.status, "site: taken down, nothing remains" in ended.text) == (0, True), ended
    assert folders(site) == before


def test_a_site_that_is_away_is_named_and_reaped_later(site: Life) -> None:
    site.tests(JOB + "    forever()\n")
    run = site.pytest(cluster="site.yaml")
    site.note("folder", run)
    site.end(run, signal.SIGKILL)
    stopped = ("exec", "--cluster", NAME, "--on", "controller", "--", "systemctl", "stop", "ssh.socket", "ssh.service")
    site.cli(*stopped)
    ended = site.cli("reap")
    assert ended.status == 1, ended
    assert f"jobs folder={MOUNT}/pytest-ai-how-site-" in ended.errors, ended
    assert "controller: no ssh connection to root@" in ended.errors, ended
    assert "controller" in ended.errors, ended
