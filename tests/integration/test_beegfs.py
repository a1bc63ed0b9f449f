"""Phase 3 on BeeGFS in virtual machines: the whole of it, faults and all; then what its checks say of a broken BeeGFS.

BeeGFS is in no registry. Without its packages nothing here runs, and the run says that it was not put to the test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.assets import asset
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.lease import reap
from pytest_ai_how.limits import load_limits
from pytest_ai_how.machines import Machines
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Silent
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.report.model import RunReport, Verdict
from pytest_ai_how.report.writer_json import load_report
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.skin.own import storage_over
from suites import phase3
from suites.phase3 import test_beegfs_client as client
from suites.phase3 import test_beegfs_services as services
from suites.phase3 import test_faults as faults
from suites.phase3 import test_integrity as integrity
from suites.phase6 import test_task041_storage_performance as performance
from suites.phase6._chain import Chain, layers
from suites.phase6._inventory import difference, inventory
from tests.environment import clean_environment

from .faults.live import verdict_of

NAME = "aihowb3"
PACKAGES = Path(os.environ.get("BEEGFS_PACKAGES", "~/.cache/pytest-ai-how/beegfs")).expanduser()

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="virtual machines of our own need root"),
    pytest.mark.skipif(
        not list(PACKAGES.glob("beegfs-*.deb")),
        reason=f"BeeGFS was not put to the test: no packages in {PACKAGES}; name their folder in BEEGFS_PACKAGES",
    ),
]


@dataclass(frozen=True, slots=True)
class Site:
    """A BeeGFS that is up, and the run of phase 3 that made it."""

    done: subprocess.CompletedProcess[str]
    report: RunReport
    cluster: Cluster
    beegfs: BeeGfs
    storage: Storage
    machines: Machines

    def judge(self, check: Callable[..., None], **more: object) -> str:
        """What a check says, after its verdict: ``red: node02: …``."""
        evidence = Evidence()
        scratch = self.storage.scratch(uuid.uuid4().hex[:8])
        known = {
            "beegfs": self.beegfs,
            "storage": self.storage,
            "machines": self.machines,
            "evidence": evidence,
            "measure": Measurements(load_limits("beegfs"), evidence),
            "scratch": scratch,
        }
        code = check.__code__  # type: ignore[attr-defined]  # a function
        wanted: dict[str, Any] = {
            name: value for name, value in known.items() if name in code.co_varnames[: code.co_argcount]
        }
        try:
            found = verdict_of(partial(check, **more), wanted, evidence)
        finally:
            self.storage.discard(scratch)
        return f"{found.kind}: {found.first_line}".rstrip(": ")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The run, and the cluster that it keeps; nothing of that is left on the host afterwards."""
    folder = tmp_path_factory.mktemp("beegfs")
    text = asset("configs/beegfs.yaml").read_text().replace("10.79.0.", "10.92.0.").replace("aihow-beegfs", "aihow-b3")
    file = folder / "whole.yaml"
    file.write_text(text.replace("name: beegfs", f"name: {NAME}", 1))
    before = inventory(NAME)
    suite = Path(str(phase3.__file__)).parent
    argv = [sys.executable, "-m", "pytest", str(suite), "--cluster=whole.yaml", "--reports=reports"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("BEEGFS_PACKAGES", str(PACKAGES))
        try:
            done = subprocess.run(
                [*argv, "--cluster-keep=always", "-p", "no:cacheprovider", f"--rootdir={suite.parents[1]}"],
                cwd=folder,
                env={
                    **clean_environment(),
                    "XDG_STATE_HOME": str(folder / "state"),
                    "BEEGFS_PACKAGES": str(PACKAGES),
                },
                capture_output=True,
                text=True,
                timeout=3600,
                check=False,
            )
            [written] = (folder / "reports").glob("*/report.json")
            with connected(file) as cluster:
                driver = choose_driver(cluster.config, Silent())
                machines = Machines(driver, cluster)
                storage = storage_over(folder)(cluster)
                yield Site(done, load_report(written), cluster, BeeGfs(cluster), storage, machines)
        finally:
            reap.take_down(NAME, "beegfs-end")
    assert not difference(before, inventory(NAME))


@contextmanager
def connected(file: Path) -> Iterator[Cluster]:
    """The cluster of a file, which is up."""
    config = load_config(str(file))
    driver = choose_driver(config, Silent())
    cluster = Cluster(config, [Node(node, driver.transport(config, node.name)) for node in config.nodes])
    try:
        yield cluster
    finally:
        cluster.close()


def test_every_claim_on_storage_holds(site: Site) -> None:
    rows = {row.row.id: row for row in site.report.rows if row.row.phase == "phase3"}
    assert len(rows) == 24
    assert {check for check, row in rows.items() if row.verdict is not Verdict.PASSED} == set(), site.done.stdout[
        -5000:
    ]


# what the checks say of a BeeGFS that is broken; each is as it was afterwards


@contextmanager
def shell(node: Node, deed: str, undo: str) -> Iterator[None]:
    """Something done by a node's shell, and its undo, which works after half of the deed, too."""
    try:
        node.sh(deed, timeout=60)
        yield
    finally:
        node.sh(undo, timeout=120)


STAYS_DOWN = "/run/systemd/system/beegfs-storage.service.d/stays-down.conf"


@pytest.mark.seen_to_fail("STO-26")
def test_a_daemon_that_does_not_come_back_is_named(site: Site) -> None:
    node = site.cluster[site.beegfs.hosts("storage")[-1]]
    deed = f"mkdir -p {Path(STAYS_DOWN).parent} && printf '[Unit]\nConditionPathExists=/nowhere\n' >{STAYS_DOWN}"
    undo = f"rm -f {STAYS_DOWN} && systemctl daemon-reload && systemctl start beegfs-storage"
    with shell(node, f"{deed} && systemctl daemon-reload", undo):
        said = site.judge(faults.test_daemon_restart, unit="beegfs-storage")
        assert re.match(rf"red: {node.name}: beegfs-storage was not restarted: .*, now it is 0", said), said
        said = site.judge(services.test_storage)
        assert said.startswith(f"red: {node.name}: beegfs-storage is inactive and enabled; expected active"), said
        said = site.judge(services.test_registered)
        assert re.match(
            rf"red: ({node.name}: its storage server does not answer|\w+: .*{node.name}: \S+ Good)", said
        ), said
    faults.faultless(site.beegfs, "after the daemon was started")
    assert site.judge(services.test_storage) == "green"


@pytest.mark.seen_to_fail("STO-29")
def test_a_target_that_is_not_full_is_not_taken_for_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "LEFT", 400)
    monkeypatch.setattr(faults, "AGAINST", 32)
    said = site.judge(faults.test_full_target)
    assert re.match(
        r"red: controller: 32 of 32 MiB were written to \S+ with 400 MiB left on \w+, then no error", said
    ), said


@pytest.mark.seen_to_fail("STO-28")
def test_a_storage_node_that_stays_away_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "RECOVERY", 5.0)
    victim = site.beegfs.hosts("storage")[-1]
    try:
        with monkeypatch.context() as patch:
            patch.setattr(type(site.machines), "start", lambda self, node: 0.0)
            said = site.judge(faults.test_storage_node_killed)
        assert re.match(rf"red: controller: not 3 new blocks after {victim} was started again within 5 s", said), said
    finally:
        site.machines.start(victim)
    monkeypatch.undo()
    faults.faultless(site.beegfs, f"after {victim} was started")


@pytest.mark.seen_to_fail("STO-09", "STO-10")
def test_a_client_that_has_it_not_mounted_is_named(site: Site) -> None:
    node = site.cluster.on("compute")[-1]
    with shell(node, f"umount {site.storage.mount}", f"mount {site.storage.mount}"):
        said = site.judge(client.test_mount)
        assert said == f"red: {node.name}: nothing is mounted at {site.storage.mount}; expected beegfs"
        said = site.judge(services.test_registered)
        assert said.startswith(f"red: {node.name}: no client of BeeGFS at {site.storage.mount}"), said
    assert site.judge(client.test_mount) == "green"


@pytest.mark.seen_to_fail("STO-17")
def test_files_on_one_target_are_not_striped(site: Site) -> None:
    def pattern(targets: int) -> str:
        return f"beegfs-ctl --setpattern --numtargets={targets} --chunksize=512k {site.storage.mount}"

    with shell(site.cluster.controller, pattern(1), pattern(4)):
        said = site.judge(integrity.test_striping)
        assert re.match(
            r"red: controller: \S+ with \d+ bytes .* is on the targets \(\d+,\); expected two or more", said
        )
    assert site.judge(integrity.test_striping) == "green"


@pytest.mark.seen_to_fail("STO-37")
def test_a_secret_that_others_can_read_is_named(site: Site) -> None:
    key = "/etc/beegfs/conn.auth"
    with shell(site.cluster.on("compute")[0], f"chmod 0444 {key}", f"chmod 0400 {key}"):
        said = site.judge(services.test_authentication)
        assert said.startswith(f"red: node01: {key} is '444 root', expected 400 root"), said
    assert site.judge(services.test_authentication) == "green"


@contextmanager
def slow_targets(nodes: Iterable[Node]) -> Iterator[None]:
    """The disks of targets write 2 MiB/s, for what runs under sshd: the measurement of the targets, and no daemon."""
    words = ("systemctl", "set-property", "--runtime", "ssh.service")
    try:
        for node in nodes:
            node.run(*words, "IOWriteBandwidthMax=/dev/vda 2M")
        yield
    finally:
        for node in nodes:
            node.run(*words, "IOWriteBandwidthMax=")


@pytest.mark.seen_to_fail("STO-18")
def test_the_layer_that_slows_writing_is_named(site: Site) -> None:
    scratch = site.storage.scratch("chain")
    found = layers(site.storage, Apptainer(site.cluster), "", scratch)
    below = Chain([one for one in found if one.name != "container"])  # no image is needed for these
    try:
        with slow_targets(site.cluster.on("storage")):
            said = site.judge(performance.test_no_layer_slows_writing, chain=below)
    finally:
        site.storage.discard(scratch)
        for bare in filter(None, (site.storage.raw, site.storage.disk)):
            bare.clear()
    assert re.match(r"figure: node01, node02, node03: storage\.chain\.target\.write is 0\.", said), said
