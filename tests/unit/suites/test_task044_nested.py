"""The runs that TASK-044 judges: on which profiles, in which environment, and what a host's inventory tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.capabilities import declared_absent
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.libvirt.names import NAMESPACE
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import AiHowError, HostError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.transport.fake import FakeTransport
from suites.phase6 import _inventory, _nested
from tests.unit.drivers.libvirt.fakes import FakeDomain, FakeLibvirt, connect

RUN = "20261123-160000-a1b2"


class Host:
    """A driver on a host where some subnets are taken, or all."""

    def __init__(self, name: str = "nspawn", taken: tuple[str, ...] = (), says: str = "subnet {} is in use") -> None:
        self.name, self.taken, self.says = name, taken, says
        self.checked: list[ClusterConfig] = []

    def check(self, config: ClusterConfig) -> None:
        self.checked.append(config)
        assert config.network is not None
        if not self.taken or str(config.network.subnet) in self.taken:
            return
        raise HostError("localhost", self.says.format(config.network.subnet))

    def facts(self) -> HostFacts:
        return HostFacts(self.name)

    def fingerprint(self, config: ClusterConfig) -> str:
        return ""

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        return ()

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        raise AssertionError("nothing is made")

    def transport(self, config: ClusterConfig, node: str) -> FakeTransport:
        raise AssertionError("nothing is contacted")


def test_profiles_lack_what_they_say_and_nothing_else() -> None:
    whole, fewer, least = _nested.profiles(load_config("local"), Host(), RUN)
    assert [node.gpus.count if node.gpus else 0 for node in whole.config.nodes] == [0, 1]
    assert len({one.config.name for one in (whole, fewer, least)}) == 1
    before = declared_absent(whole.config).keys() - {"virtiofs"}
    absent = {"gpu.real", "gpu.pair", "gpu.passthrough", "beegfs", "hypervisor", "cloud", "cpus.several"}
    absent |= {"compute.several", "pytorch", "oumi", "image.mpi", "image.pytorch", "image.oumi"}
    assert before == absent | {"grafana", "dcgm"}
    for one in (fewer, least):
        assert declared_absent(one.config).keys() - before == one.lacks - before | {"virtiofs"} - before
    assert fewer.lacks < least.lacks


def test_profiles_can_be_written_and_read(tmp_path: Path) -> None:
    for one in _nested.profiles(load_config("local"), Host(), RUN):
        file = tmp_path / "it.yaml"
        file.write_text(_nested.as_yaml(one.config))
        assert load_config(str(file)) == one.config


def test_the_first_subnet_that_the_driver_accepts_is_taken() -> None:
    host = Host(taken=("10.203.178.0/24",))
    [whole, *_] = _nested.profiles(load_config("local"), host, RUN)
    assert whole.config.network is not None
    assert str(whole.config.network.subnet) == "10.203.178.0/24"
    assert len(host.checked) == 3


@pytest.mark.parametrize(("says", "tries"), [("subnet {} is in use", 40), ("too little memory", 1)])
def test_a_host_that_accepts_none_says_why(says: str, tries: int) -> None:
    host = Host(taken=("none",), says=says)
    with pytest.raises(HostError, match=says.split("{", maxsplit=1)[0]):
        _nested.profiles(load_config("local"), host, RUN)
    assert len(host.checked) == tries


def test_machines_that_exist_are_used_as_they_are() -> None:
    config = load_config("site")
    host = Host("ssh")
    whole, *fewer = _nested.profiles(config, host, RUN)
    assert whole.config == config.model_copy(update={"name": "nested-a1b2"})
    assert [one.config.nodes for one in fewer] == [config.nodes] * len(fewer)
    assert all(one.lacks <= declared_absent(one.config).keys() for one in fewer)
    assert host.checked == []


def test_the_run_around_it_keeps_its_scratch_folder() -> None:
    config = load_config("host", environ={})
    whole, *fewer = _nested.profiles(config, Host("host"), RUN)
    assert config.storage.mount == "/var/tmp/ai-how"
    assert {one.config.storage.mount for one in (whole, *fewer)} == {"/var/tmp/ai-how-nested-a1b2"}


def test_the_selected_checks_are_written_and_break_nothing() -> None:
    catalogue = load_catalogue()
    assert not [check for check in _nested.SELECTED if catalogue[check].disruptive]
    written = "".join(path.read_text() for path in _nested.SUITE.glob("test_*.py"))
    assert [check for check in _nested.SELECTED if f'"{check}"' not in written] == []


def test_a_run_takes_nothing_from_the_one_around_it() -> None:
    outer = {"PATH": "/bin", "AI_HOW_CLUSTER": "x", "PYTEST_ADDOPTS": "-x", "PYTEST_XDIST_WORKER": "gw0"}
    assert _nested.environment(outer) == {"PATH": "/bin", "AI_HOW_MIRROR": "http://127.0.0.1:9"}


def test_a_run_without_a_report_is_told_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    profile = _nested.Profile("one gpu", load_config("local").model_copy(update={"user": "root"}))
    with pytest.raises(AiHowError, match=r"(?s)^localhost: pytest with one gpu wrote 0 reports\n.*'root' .*one report"):
        _nested.run_nested(profile, tmp_path / "run")


WAITER = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("ended").touch(), sys.exit(3)))
pathlib.Path("started").touch()
time.sleep(60)
"""


def test_what_takes_too_long_is_told_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(process: subprocess.Popen[bytes]) -> None:
        wait_for((tmp_path / "started").exists, within=10, what="started")
        end(process)

    end = _nested._end
    monkeypatch.setattr(_nested, "_end", started)
    result = _nested.execute([sys.executable, "-c", WAITER], tmp_path, os.environ, within=0.01)
    assert (result.returncode, (tmp_path / "ended").exists()) == (3, True)


def test_it_is_told_to_end_when_we_are(tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_for((tmp_path / "started").exists, within=10, what="started")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        _nested.execute([sys.executable, "-c", WAITER], tmp_path, os.environ, within=30)
    thread.join()
    assert (tmp_path / "ended").exists()


# inventory


@pytest.mark.parametrize(
    ("path", "another"),
    [
        ("/root/.local/state/pytest-ai-how/local/machines/nodes/node01/root", True),
        ("/root/.local/state/pytest-ai-how/nested-a1b2/machines", False),
        ("/root/.local/state/pytest-ai-how/.nested-a1b2.1f.gone", False),
        ("/root/.local/state/pytest-ai-how/nested-a1b22/machines", True),
        ("/root/.cache/pytest-ai-how/images/node-1", True),
        ("/mnt", False),
    ],
)
def test_what_lies_in_another_clusters_folder_is_not_judged(path: str, another: bool) -> None:
    assert _inventory.of_another(path, "nested-a1b2") is another


def test_an_interface_of_no_other_cluster_is_listed() -> None:
    links = [
        {"ifname": "lo"},
        {"ifname": "ah-other", "ifalias": "pytest-ai-how:other"},
        {"ifname": "vb-other", "master": "ah-other"},
        {"ifname": "ah-ours", "ifalias": "pytest-ai-how:nested-a1b2"},
        {"ifname": "vb-ours", "master": "ah-ours"},
        {"ifname": "vb-orphan"},
    ]
    found = list(_inventory._interfaces(links, "nested-a1b2"))
    assert found == [f"interface {name}" for name in ("lo", "ah-ours", "vb-ours", "vb-orphan")]


def test_files_of_the_cluster_are_in_the_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    before = _inventory.inventory("nested-a1b2")
    assert any(one.startswith("mount /") for one in before)
    assert "interface lo" in before
    for name in ("nested-a1b2", ".nested-a1b2.77.gone", "local"):
        (tmp_path / "pytest-ai-how" / name).mkdir(parents=True)
    changed = _inventory.difference(before, _inventory.inventory("nested-a1b2"))
    ours = [one for one in changed if str(tmp_path) in one]
    folder = tmp_path / "pytest-ai-how"
    assert ours == [f"file {folder / name} was left behind" for name in (".nested-a1b2.77.gone", "nested-a1b2")]


def test_a_process_of_the_cluster_is_in_the_inventory() -> None:
    before = _inventory.inventory("nested-a1b2")
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, "AI_HOW": "pytest-ai-how:nested-a1b2/node01"})
    try:
        [left] = [one for one in _inventory.inventory("nested-a1b2") - before if one.startswith("process")]
        assert left == f"process {process.pid} (sleep)"
    finally:
        process.kill()
        process.wait()


def test_what_libvirt_knows_is_in_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt = FakeLibvirt()
    mark = f"<o:owner xmlns:o='{NAMESPACE}' mark='pytest-ai-how:other/node01'/>"
    libvirt.domains = [FakeDomain(libvirt, "<domain><name>mine</name></domain>")]
    libvirt.domains += [FakeDomain(libvirt, f"<domain><name>other</name><metadata>{mark}</metadata></domain>")]
    libvirt.networks = [FakeDomain(libvirt, "<network><name>default</name></network>")]
    libvirt.pools = [FakeDomain(libvirt, "<pool><name>disks</name></pool>")]
    connect(monkeypatch, libvirt, private=False)
    monkeypatch.setattr(_inventory, "running_daemon", lambda: "test:///default")
    monkeypatch.setattr(_inventory.api, "lacks_libvirt", lambda: "")
    mine = [f"{what} in libvirt" for what in ("domain mine", "network default", "storage pool disks")]
    assert list(_inventory._libvirt("nested-a1b2")) == mine
    # Debian 13's daemon without the packages of its network and storage drivers.
    libvirt.lacks = ("virConnectListAllNetworks", "virConnectListAllStoragePools")
    assert list(_inventory._libvirt("nested-a1b2")) == mine[:1]


def test_both_directions_of_a_difference_are_told() -> None:
    assert _inventory.difference({"mount /a"}, {"mount /b"}) == ["mount /b was left behind", "mount /a is gone"]
    assert _inventory.difference({"mount /a"}, {"mount /a"}) == []
