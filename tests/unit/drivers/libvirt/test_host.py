"""What the driver refuses before it makes anything."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.storage import Storage
from pytest_ai_how.drivers.libvirt import daemon, host, names
from pytest_ai_how.drivers.libvirt.virtiofs import SHARED_TAG, mounts_of
from pytest_ai_how.errors import HostError, ProvisionError

from .fakes import FakeLibvirt
from .test_undo import xml
from .test_xml import config

MEMINFO = "MemTotal:       24000000 kB\nMemAvailable:    {} kB\n"


@pytest.fixture(autouse=True)
def _able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has everything."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(host, "virtiofsd", lambda: Path("/usr/libexec/virtiofsd"))


def refused(cluster: ClusterConfig) -> str:
    with pytest.raises((HostError, ProvisionError)) as caught:
        host.check_config(cluster)
    return str(caught.value)


def test_the_sample_can_be_made() -> None:
    host.check_config(config())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"address": "10.98.0.11"},
            "node01: address 10.98.0.11 is outside 10.99.0.0/24 or the bridge's own (10.99.0.1)",
        ),
        ({"address": "10.99.0.1"}, "node01: address 10.99.0.1 is outside"),
        ({"cpus": 2, "pinning": [7, 8]}, "node01: pinning: CPU 8, but this host has the CPUs 0 to 7"),
        ({"gpus": {"kind": "nvidia", "count": 1}}, "node01: gpus of kind nvidia can't be given to virtual machines"),
        ({"name": "n" * 32}, ""),
    ],
)
def test_machines_that_can_not_be(changes: dict[str, Any], said: str) -> None:
    if said:
        assert refused(config(**changes)).startswith(said)
    else:
        host.check_config(config(**changes))


def test_a_missing_directory_is_refused_with_its_path(tmp_path: Path) -> None:
    there, missing, file = tmp_path / "there", tmp_path / "missing", tmp_path / "file"
    there.mkdir()
    file.touch()
    mount = {"tag": "data", "source": str(there), "mount": "/srv/data"}
    host.check_config(config(virtiofs=[mount]))
    assert refused(config(virtiofs=[mount | {"source": str(missing)}])).splitlines() == [
        f"node01: virtiofs data: {missing} does not exist on this host",
        "  expected: the directory that node01 mounts on /srv/data",
        f"  do: mkdir -p {missing}, or correct the mount's source",
    ]
    assert f"{file} is not a directory" in refused(config(virtiofs=[mount | {"source": str(file)}]))


def test_the_shared_directory_comes_before_the_mounts_of_the_yaml(tmp_path: Path) -> None:
    cluster = config(virtiofs=[{"tag": "data", "source": str(tmp_path), "mount": "/srv/data", "read_only": True}])
    shared, own = mounts_of(cluster, cluster.nodes[1], Path("/state/shared"))
    assert (shared.tag, shared.source, shared.mount) == (SHARED_TAG, "/state/shared", "/mnt/shared")
    assert (own.source, own.read_only) == (str(tmp_path.resolve()), True)
    assert len(mounts_of(cluster, cluster.nodes[0], Path("/state/shared"))) == 1


def test_without_root_no_files_of_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "not root, for storage.kind host-directory" in refused(config())


def test_directories_need_their_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "virtiofsd", lambda: None)
    assert "no program virtiofsd" in refused(config())


def test_machines_need_all_the_memory_that_they_may_use() -> None:
    whole = 2048 + 1024 + 1000 + 3 * 90
    host.check_room(config(), Path("/state"), MEMINFO.format(whole * 1024), 10 * 2**30)
    with pytest.raises(HostError) as caught:
        host.check_room(config(), Path("/state"), MEMINFO.format((whole - 1) * 1024), 10 * 2**30)
    assert caught.value.seen == f"{whole - 1} MiB of memory available"
    assert f"{whole} MiB for the machines of 'lab'" in caught.value.expected
    # One that is only defined takes none, and huge pages were taken from the rest already.
    host.check_room(config(auto_start=False), Path("/"), MEMINFO.format((whole - 1100) * 1024), 10 * 2**30)
    host.check_room(config(hugepages="2M"), Path("/"), MEMINFO.format((whole - 1024) * 1024), 10 * 2**30)
    with pytest.raises(HostError, match=r"^/state: 1000 MiB of disk free"):
        host.check_room(config(), Path("/state"), MEMINFO.format(whole * 1024), 1000 * 2**20)


def test_huge_pages_must_be_set_aside(tmp_path: Path) -> None:
    host.check_pages(config(), tmp_path)
    folder = tmp_path / "hugepages-2048kB"
    folder.mkdir()
    (folder / "free_hugepages").write_text("511\n")
    with pytest.raises(HostError) as caught:
        host.check_pages(config(hugepages="2M"), tmp_path)
    assert caught.value.seen == "511 huge pages of 2M free"
    assert caught.value.expected == "512 for node01"
    (folder / "free_hugepages").write_text("512\n")
    host.check_pages(config(hugepages="2M"), tmp_path)


def test_huge_pages_of_a_daemon_that_runs_are_mounted() -> None:
    ours = "proc /proc proc rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n"
    host.check_mounted_pages(config(), "")
    host.check_mounted_pages(config(hugepages="2M"), ours)
    host.check_mounted_pages(config(hugepages="1G"), ours.replace("2M", "1024M"))
    for mounts, size in (("", "2M"), (ours, "1G"), (ours.replace("hugetlbfs rw", "tmpfs rw"), "2M")):
        with pytest.raises(HostError) as caught:
            host.check_mounted_pages(config(hugepages=size), mounts)
        assert str(caught.value) == (
            f"localhost: no hugetlbfs of pages of {size} is mounted, for node01\n"
            "  expected: one that was mounted before libvirtd started\n"
            f"  do: mount -t hugetlbfs -o pagesize={size} hugetlbfs /dev/hugepages; systemctl restart libvirtd"
        )


def test_disks_with_storage_need_direct_io(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beegfs = config().model_copy(update={"storage": Storage(kind="beegfs")})
    host.check_disks(beegfs, (tmp_path,))
    opened = os.open

    def cached_only(path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", cached_only)
    host.check_disks(config(), (tmp_path,))
    with pytest.raises(HostError) as caught:
        host.check_disks(beegfs, (tmp_path,))
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: its file system does no direct I/O (O_DIRECT)",
        "  expected: one that does, under the disks of controller, which hold BeeGFS's data",
        "  do: point XDG_STATE_HOME and XDG_CACHE_HOME at another file system, such as ext4 or XFS",
    ]

    def unable(path: Path, flags: int) -> int:
        raise OSError(errno.EINVAL, "no nameless files there")

    monkeypatch.setattr(os, "open", unable)
    host.check_disks(beegfs, (tmp_path,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["host-passthrough", "host-model"])
def test_an_emulated_machine_can_not_have_this_hosts_cpu(word: str) -> None:
    asked: list[str] = []

    def emulated() -> str:
        asked.append("KVM")
        return "there is no /dev/kvm"

    for able in (config(), config(cpu_model="Westmere"), config(cpu_model="maximum")):
        host.check_cpus(able, emulated)
    assert asked == [], "the first answer takes the boot of a kernel"
    host.check_cpus(config(cpu_model=word), lambda: "")
    with pytest.raises(ProvisionError) as caught:
        host.check_cpus(config(cpu_model=word), emulated)
    assert str(caught.value).splitlines() == [
        f"node01: cpu_model: {word}, but machines are emulated here and can't have this host's CPU: "
        "there is no /dev/kvm",
        "  expected: a host whose KVM boots machines, or a CPU that can be emulated",
        "  do: name a model in the YAML, such as Nehalem, or leave cpu_model out",
    ]


def test_a_plan_and_a_bring_up_look_at_the_cpus() -> None:
    said = []
    for look in host.looks(config(cpu_model="host-model"), daemon.PRIVATE, lambda: "there is no /dev/kvm"):
        try:
            look()
        except (HostError, ProvisionError) as error:
            said.append(error.seen)
    assert any(seen.startswith("cpu_model: host-model") for seen in said)


@pytest.mark.parametrize(
    ("kind", "name", "uuid", "mark", "said"),
    [
        ("domain", "aihow-lab-node01", "1", "", "domain aihow-lab-node01 exists in libvirt and is not ours"),
        ("domain", "renamed", names.machine_uuid("lab", "node01"), "", "domain renamed exists in libvirt and is not"),
        ("domain", "aihow-lab-node01", "1", "pytest-ai-how:lab/node01", "belongs to a cluster 'lab' that this XDG"),
        ("network", "aihow-lab", "1", "", "network aihow-lab exists in libvirt and is not ours"),
        ("network", "aihow-lab", "1", "pytest-ai-how:lab", "network aihow-lab belongs to a cluster 'lab' that"),
    ],
)
def test_names_that_are_taken_are_refused(kind: str, name: str, uuid: str, mark: str, said: str) -> None:
    libvirt = FakeLibvirt()
    host.check_names(config(), libvirt)
    (libvirt.defineXML if kind == "domain" else libvirt.networkDefineXML)(xml(kind, name, uuid, mark))
    with pytest.raises(HostError) as caught:
        host.check_names(config(), libvirt)
    assert said in caught.value.seen
    assert ("reap --force lab" in caught.value.cure) == bool(mark)


def test_without_a_daemon_and_root_nothing_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "running_daemon", lambda: "")
    assert daemon.chosen_daemon() == daemon.PRIVATE
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="no libvirt daemon answers at qemu:///system, and a private one can't be"):
        daemon.chosen_daemon()
    monkeypatch.setattr(daemon, "running_daemon", lambda: daemon.SYSTEM)
    assert daemon.chosen_daemon() == daemon.SYSTEM


def test_a_private_daemon_that_died_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="the private libvirt daemon of cluster 'nosuch' does not run"):
        daemon.address("nosuch", daemon.PRIVATE)
    assert daemon.address("nosuch", "qemu:///system") == "qemu:///system"
