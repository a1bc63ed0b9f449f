"""The nspawn driver on this machine: real machines, real daemons, and nothing of them left."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.drivers.select import nspawn_driver
from pytest_ai_how.errors import HostError, ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import cluster_state, cookie, private_folder
from pytest_ai_how.lease.undo import undo_all
from pytest_ai_how.lease.undoers import generic_undoers
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Silent
from pytest_ai_how.services.accounting import Accounting
from pytest_ai_how.services.munge import Munge

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]


def config(name: str, subnet: str, images: list[str], **changes: Any) -> ClusterConfig:
    """A controller and two compute nodes with two simulated GPUs each, in ``subnet`` (``10.83.0``)."""
    gpus = {"kind": "simulated", "count": 2}
    nodes: list[dict[str, Any]] = [
        {"name": "controller", "roles": ["controller"], "address": f"{subnet}.10", "cpus": 1, "memory": 1024},
        {"name": "node01", "roles": ["compute"], "address": f"{subnet}.11", "cpus": 1, "memory": 512, "gpus": gpus},
        {"name": "node02", "roles": ["compute"], "address": f"{subnet}.12", "cpus": 1, "memory": 512, "gpus": gpus},
    ]
    whole = {
        "version": 1,
        "name": name,
        "driver": "nspawn",
        "network": {"subnet": f"{subnet}.0/24", "bridge": f"ah-{name}"[:15]},
        "nodes": nodes,
        "slurm": {"cluster": name, "partitions": [{"name": "gpu", "nodes": ["node01", "node02"], "default": True}]},
        "containers": {"images": images},
    }
    return ClusterConfig.model_validate(whole | changes)


@dataclass
class Made:
    """A cluster with its journal."""

    config: ClusterConfig
    driver: NspawnDriver
    journal: Journal
    cluster: Cluster

    def down(self) -> None:
        self.cluster.close()
        undo_all(self.journal, generic_undoers("nspawn", cluster_state(self.config.name)))


def prepare(config: ClusterConfig, driver: NspawnDriver | None = None) -> Made:
    driver = driver or nspawn_driver(Silent())
    state = private_folder(cluster_state(config.name))
    nodes = [Node(node, driver.transport(config, node.name)) for node in config.nodes]
    return Made(config, driver, Journal(state / "journal"), Cluster(config, nodes))


def traces(config: ClusterConfig) -> list[str]:
    """What this machine knows of a cluster."""
    mark, network = cookie(config.name), config.network
    assert network is not None
    state = str(cluster_state(config.name))
    found = [f"process {one.pid} {one.name}" for one in marked(mark)]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if state in line]
    found += [str(path) for path in read_cgroups().groups(mark) if path.exists()]
    found += [str(path) for path in Path("/run/systemd/nspawn").glob(f"propagate/aihow-{config.name}-*")]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    found += [line for line in links if network.bridge in line]
    found += [str(path) for path in Path(state).glob("machines")]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        found = prepare(config("drvone", "10.83.0", ["base"]))
        found.driver.check(found.config)
        try:
            found.driver.up(found.config, found.journal)
            controller = found.cluster.controller
            wait_for(
                lambda: controller.run("sinfo", "-hN", "-o%N %t", check=False).stdout == "node01 idle\nnode02 idle\n",
                within=30.0,
                what="two idle nodes in sinfo",
                where="controller",
            )
            yield found
        finally:
            found.down()
        assert traces(found.config) == []


def job(made: Made, *argv: str, check: bool = True) -> str:
    result = made.cluster.controller.run(
        "srun", "--quiet", "--chdir=/tmp", *argv, user="hpc", check=check, timeout=60.0
    )
    return result.stdout + result.stderr


def test_every_machine_is_who_it_should_be(made: Made) -> None:
    names = made.cluster.all.run("hostname")
    assert {node: result.stdout.strip() for node, result in names.items()} == {name: name for name in names}
    states = made.cluster.all.run("systemctl", "is-system-running", check=False)
    assert {result.stdout.strip() for result in states.values()} == {"running"}
    assert len({result.stdout for result in made.cluster.all.run("id", "hpc").values()}) == 1
    assert len({result.stdout for result in made.cluster.all.run("sha256sum", "/etc/slurm/slurm.conf").values()}) == 1


def test_munge_and_accounting_are_ready(made: Made) -> None:
    assert Munge(made.cluster).faults() == ()
    accounting = Accounting(made.cluster)
    wait_for(lambda: not accounting.faults(), within=20.0, what="accounting ready", where="controller")


def test_faults_are_seen_on_a_real_cluster(made: Made) -> None:
    node = made.cluster["node02"]
    node.run("systemctl", "stop", "munge")
    try:
        (fault,) = Munge(made.cluster).faults()
        assert fault.startswith("node02: unmunge of controller's credential exited with ")
    finally:
        node.run("systemctl", "start", "munge")
    assert Munge(made.cluster).faults() == ()


def test_no_port_of_the_database_is_open(made: Made) -> None:
    listening = made.cluster.controller.run("ss", "-Hltn").stdout
    ports = {line.split()[3].rsplit(":", 1)[1] for line in listening.splitlines()}
    assert {"22", "6817", "6819"} <= ports
    assert "3306" not in ports


def test_secrets_are_private(made: Made) -> None:
    stat = made.cluster.controller.run("stat", "-c%a %U", "/etc/munge/munge.key", "/etc/slurm/slurmdbd.conf").stdout
    assert stat.splitlines() == ["400 munge", "600 slurm"]
    keys = cluster_state(made.config.name) / "machines/keys"
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}


def test_all_secrets_are_known_to_be_kept_out_of_reports(made: Made) -> None:
    secrets = made.driver.secrets(made.config)
    # one munge key, the client's key, the job user's key and a host key for each of three machines
    assert len(secrets) == 6
    assert sum(b"OPENSSH PRIVATE KEY" in secret for secret in secrets) == 5
    held = made.cluster["node01"].run("base64", "-w0", "/etc/munge/munge.key").stdout
    assert base64.b64decode(held) in secrets


def test_job_user_goes_from_node_to_node(made: Made) -> None:
    went = made.cluster["node01"].run("ssh", "-oBatchMode=yes", "node02", "hostname", user="hpc")
    assert went.stdout == "node02\n"


@pytest.mark.skipif("cgroup.devices" in read_cgroups().absent(), reason="this host can't confine devices")
def test_job_opens_its_own_gpu_and_no_other(made: Made) -> None:
    opens = "for gpu in 0 1; do cat /dev/fakegpu$gpu; done; true"
    said = job(made, "--gres=gpu:1", "sh", "-c", opens)
    assert "/dev/fakegpu0: No such device or address" in said  # ENXIO: allowed, nobody home
    assert "/dev/fakegpu1: Operation not permitted" in said
    assert job(made, "sh", "-c", opens).count("Operation not permitted") == 2


@pytest.mark.skipif("cgroup.memory" in read_cgroups().absent(), reason="this host can't confine memory")
def test_job_over_its_memory_limit_is_killed(made: Made) -> None:
    said = job(made, "--mem=64", "python3", "-c", "bytearray(200 * 2**20)", check=False)
    assert "Out Of Memory" in said


@pytest.mark.skipif("cgroup.memory" in read_cgroups().absent(), reason="this host can't confine memory")
def test_node_has_the_memory_of_the_yaml(made: Made) -> None:
    limits = [path / "node01" for path in read_cgroups().groups(cookie(made.config.name))]
    values = [path.read_text().strip() for folder in limits for path in folder.glob("memory.limit_in_bytes")]
    values += [path.read_text().strip() for folder in limits for path in folder.glob("memory.max")]
    assert values == [str(512 * 2**20)]


def test_catalogue_is_what_lies_on_shared_storage(made: Made) -> None:
    node = made.cluster["node02"]
    (image,) = yaml.safe_load(node.read("/mnt/shared/containers/.registry/catalog.yaml"))["images"]
    seen = node.run("sha256sum", f"/mnt/shared/containers/{image['file']}").stdout.split()[0]
    assert image["digest"] == f"sha256:{seen}"
    local = cluster_state(made.config.name) / "machines/shared/containers" / image["file"]
    assert hashlib.sha256(local.read_bytes()).hexdigest() == seen


def test_container_runs_in_a_job(made: Made) -> None:
    image = "/mnt/shared/containers/base-images/base.sif"
    assert "PRETTY_NAME" in job(made, "--mem=400", "apptainer", "exec", image, "cat", "/etc/os-release")


def test_prolog_and_epilog_leave_a_line_a_job(made: Made) -> None:
    number = job(made, "--nodelist=node01", "sh", "-c", "echo $SLURM_JOB_ID").strip()
    for script in ("prolog", "epilog"):
        wait_for(
            lambda script=script: f" job={number} " in made.cluster["node01"].read(f"/var/log/slurm/{script}.log"),
            within=10.0,
            what=f"a line of job {number} in {script}.log",
            where="node01",
        )


def test_node_that_reboots_comes_back_as_it_was(made: Made) -> None:
    node = made.cluster["node02"]
    started = node.run("stat", "-c%Y", "/proc/1").stdout
    node.run("systemctl", "reboot", check=False)
    node.transport.close()

    def back() -> bool:
        try:
            again = node.run("stat", "-c%Y", "/proc/1", check=False, timeout=5.0)
        except Exception:  # noqa: BLE001  whatever the transport says while the machine is away
            return False
        return again.ok and again.stdout != started

    wait_for(back, within=30.0, what="booted again", where="node02")
    idle = ("sinfo", "-hN", "-nnode02", "-o%t")
    wait_for(
        lambda: made.cluster.controller.run(*idle).stdout == "idle\n", within=40.0, what="idle in sinfo", where="node02"
    )
    assert job(made, "--nodelist=node02", "--gres=gpu:2", "hostname").strip() == "node02"


def test_a_second_cluster_does_not_meet_the_first(made: Made) -> None:
    other = prepare(config("drvtwo", "10.83.1", []))
    other.driver.check(other.config)
    try:
        other.driver.up(other.config, other.journal)
        assert other.cluster["node01"].run("hostname").stdout == "node01\n"
        assert other.cluster["node01"].run("cat", "/etc/machine-id") != made.cluster["node01"].run(
            "cat", "/etc/machine-id"
        )
    finally:
        other.down()
    assert traces(other.config) == []
    assert made.cluster["node01"].run("hostname").stdout == "node01\n"


def test_bridge_and_subnet_of_a_running_cluster_are_refused(made: Made) -> None:
    with pytest.raises(HostError, match="belongs to a cluster 'drvone' that this XDG_STATE_HOME does not know"):
        made.driver.check(made.config)
    with pytest.raises(HostError, match=r"interface ah-drvone exists and belongs to cluster 'drvone'"):
        made.driver.check(made.config.model_copy(update={"name": "other"}))
    with pytest.raises(HostError, match=r"subnet 10\.83\.0\.0/24 is in use: route 10\.83\.0\.0/24 dev ah-drvone"):
        made.driver.check(config("drvtwo", "10.83.0", []))


def test_machine_that_dies_at_boot_shows_its_console_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    image = tmp_path / "image"
    for folder in ("etc", "home", "root", "usr"):
        (image / folder).mkdir(parents=True)
    for name in ("group", "shadow", "os-release"):
        (image / "etc" / name).write_text("ID=broken\n")
    accounts = ("root:x:0:0", "slurm:x:1:1", "munge:x:2:2", "ai-how:x:3:3")
    (image / "etc/passwd").write_text("".join(f"{account}::/:/bin/sh\n" for account in accounts))
    broken = NspawnDriver(lambda name: image, lambda name: "digest")
    found = prepare(config("drvdead", "10.83.2", []), broken)
    try:
        with pytest.raises(ProvisionError) as caught:
            broken.up(found.config, found.journal)
    finally:
        found.down()
    assert caught.value.where in {"controller", "node01", "node02"}
    assert "systemd-nspawn ended while the machine booted; the console's end:" in caught.value.seen
    assert "execv" in caught.value.seen
    assert traces(found.config) == []


def test_what_was_left_by_a_kill_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = prepare(config("drvkill", "10.83.3", []))
    try:
        found.driver.up(found.config, found.journal)
        # The outer processes only: a machine's own init lives on without them.
        for one in marked(cookie(found.config.name)):
            if one.name in {"sh", "systemd-nspawn"}:
                os.kill(one.pid, 9)
        assert marked(cookie(found.config.name)), "the machines' inits should have survived"
    finally:
        found.down()
    assert traces(found.config) == []
