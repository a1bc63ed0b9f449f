from pathlib import Path

import pytest

from pytest_ai_how.drivers.nspawn.cgroups import Cgroups, read_cgroups
from pytest_ai_how.errors import ProvisionError

from .sample import DATA


def host(tmp_path: Path, kind: str, controllers: str = "cpuset cpu io memory pids\n") -> Cgroups:
    """A captured mount table whose hierarchies are folders of ``tmp_path``, with the files that kernels put there."""
    table = tmp_path / "mounts"
    table.write_text((DATA / f"mounts-{kind}").read_text().replace("{root}", str(tmp_path / "cgroup")))
    (tmp_path / "cgroup/unified").mkdir(parents=True)
    if kind == "v2":
        (tmp_path / "cgroup/cgroup.controllers").write_text(controllers)
    first = tmp_path / "first"
    for hierarchy in read_cgroups(table, first).hierarchies:
        hierarchy.path.mkdir(exist_ok=True)
        if "cpuset" in hierarchy.controllers:
            (hierarchy.path / "cpuset.cpus").write_text("0-1\n")
            (hierarchy.path / "cpuset.mems").write_text("0\n")
    return read_cgroups(table, first)


def test_hybrid_host_confines_all_by_version_1(tmp_path: Path) -> None:
    found = host(tmp_path, "hybrid")
    assert (found.mode, found.plugin, found.absent()) == ("hybrid", "cgroup/v1", {})
    assert len(found.hierarchies) == 10


def test_version_1_host_says_which_controller_it_lacks(tmp_path: Path) -> None:
    found = host(tmp_path, "v1")
    assert (found.mode, found.plugin) == ("v1", "cgroup/v1")
    assert found.absent() == {"cgroup.devices": "this host's cgroups (v1) have no controller devices"}
    assert frozenset({"cpu", "cpuacct"}) in {hierarchy.controllers for hierarchy in found.hierarchies}
    assert frozenset({"name=systemd"}) in {hierarchy.controllers for hierarchy in found.hierarchies}


def test_version_2_host_has_one_hierarchy(tmp_path: Path) -> None:
    found = host(tmp_path, "v2")
    assert (found.mode, found.plugin, found.absent()) == ("v2", "cgroup/v2", {})
    assert found.groups("pytest-ai-how:lab") == (tmp_path / "cgroup" / "pytest-ai-how:lab",)


def test_version_2_host_without_delegation_confines_nothing(tmp_path: Path) -> None:
    found = host(tmp_path, "v2", controllers="pids\n")
    why = "this host can't confine jobs: no cpu and no memory controller"
    assert (found.plugin, found.absent()) == ("disabled", dict.fromkeys(found.absent(), why))
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpu memory\n")
    found = read_cgroups(tmp_path / "mounts", tmp_path / "first")
    assert found.plugin == "cgroup/v2"
    assert found.absent() == {"cgroup.cpu": "this host's cgroups (v2) have no controller cpuset"}


def test_machines_get_the_controllers_of_the_hosts_first_process(tmp_path: Path) -> None:
    """Seen on Linux 6.18 with an init that is not systemd: slurmd ended, `cpu cgroup controller is not available`."""
    found = host(tmp_path, "v2")
    for name, controllers in (("", "cpuset cpu io memory pids\n"), ("agent/core", "memory\n")):
        (tmp_path / "cgroup" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name / "cgroup.controllers").write_text(controllers)
    (tmp_path / "first").write_text("0::/init.scope\n")
    found = read_cgroups(tmp_path / "mounts", tmp_path / "first")
    assert (found.plugin, found.absent()) == ("cgroup/v2", {})
    (tmp_path / "first").write_text("0::/agent/core\n")
    found = read_cgroups(tmp_path / "mounts", tmp_path / "first")
    assert found.plugin == "disabled"
    assert found.absent()["cgroup.cpu"] == (
        "this host can't confine jobs: no cpu controller in the control group of its first process, whose controllers "
        "systemd-nspawn hands on"
    )


def test_host_without_cgroups_confines_nothing(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    found = read_cgroups(tmp_path / "mounts")
    assert found.plugin == "disabled"
    assert set(found.absent()) == {"cgroup.cpu", "cgroup.memory", "cgroup.devices"}
    assert found.absent()["cgroup.cpu"] == "this host can't confine jobs: no cgroup hierarchy is mounted"


def test_group_of_version_1_gets_cpus_and_a_memory_limit(tmp_path: Path) -> None:
    found = host(tmp_path, "hybrid")
    found.make("pytest-ai-how:lab")
    found.make("pytest-ai-how:lab/node01", memory=512)
    root = tmp_path / "cgroup"
    assert all((hierarchy.path / "pytest-ai-how:lab/node01").is_dir() for hierarchy in found.hierarchies)
    assert (root / "cpuset/pytest-ai-how:lab/node01/cpuset.cpus").read_text() == "0-1\n"
    assert (root / "memory/pytest-ai-how:lab/node01/memory.limit_in_bytes").read_text() == str(512 * 2**20)
    assert not (root / "memory/pytest-ai-how:lab/memory.limit_in_bytes").exists()


def test_group_of_version_2_gets_its_controllers_from_above(tmp_path: Path) -> None:
    found = host(tmp_path, "v2")
    found.make("pytest-ai-how:lab")
    found.make("pytest-ai-how:lab/node01", memory=512)
    top = tmp_path / "cgroup/pytest-ai-how:lab"
    for folder in (top.parent, top):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu +cpuset +io +memory +pids"
    assert (top / "node01/memory.max").read_text() == str(512 * 2**20)


def test_group_of_version_2_is_divided_before_a_machine_is_put_in(tmp_path: Path) -> None:
    found = host(tmp_path, "v2")
    found.make("pytest-ai-how:lab")
    found.make("pytest-ai-how:lab/node01")
    node = tmp_path / "cgroup/pytest-ai-how:lab/node01"
    assert not (node / "cgroup.subtree_control").exists()
    assert found.divide("pytest-ai-how:lab/node01") == node
    assert (node / "cgroup.subtree_control").read_text() == "+cpu +cpuset +io +memory +pids"


def test_a_group_that_cannot_be_divided_is_named(tmp_path: Path) -> None:
    found = host(tmp_path, "v2")
    with pytest.raises(ProvisionError, match=r"pytest-ai-how:lab: the control group can't hand on its controllers \("):
        found.divide("pytest-ai-how:lab")


def test_groups_of_version_1_are_not_divided(tmp_path: Path) -> None:
    assert host(tmp_path, "hybrid").divide("pytest-ai-how:lab") is None


def test_group_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    found = host(tmp_path, "hybrid")
    (tmp_path / "cgroup/cpu/pytest-ai-how:lab").write_text("a file where the group should be")
    with pytest.raises(
        ProvisionError, match=r"cpu/pytest-ai-how:lab: the control group could not be made \(File exists"
    ):
        found.make("pytest-ai-how:lab")
