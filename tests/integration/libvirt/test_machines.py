"""Two real virtual machines: who they are, what confines their jobs, how they stop, start and die, and nothing left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.libvirt.daemon import running_daemon
from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.drivers.machines.console import crash_in
from pytest_ai_how.drivers.machines.reality import planned
from pytest_ai_how.drivers.select import libvirt_driver
from pytest_ai_how.errors import AiHowError, HostError, ProvisionError
from pytest_ai_how.image import ensure_image
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import cluster_state, cookie
from pytest_ai_how.machines import Machines
from pytest_ai_how.progress import Silent

from .sample import Made, config, prepare

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a private libvirt daemon needs root"),
    pytest.mark.skipif(bool(host_lacks()), reason=f"driver libvirt {host_lacks()}"),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="apt-get install libvirt-daemon"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
        found = prepare(config("vmone", "10.68.0"), libvirt_driver(Silent()))
        try:
            found.up()
            idle(found)
            yield found
        finally:
            found.down()
        assert found.traces() == []


def idle(made: Made) -> None:
    controller = made.cluster.controller
    wait_for(
        lambda: controller.run("sinfo", "-hN", "-o%N %t", check=False).stdout == "node01 idle\n",
        within=180.0,
        what="an idle node in sinfo",
        where="controller",
    )


def job(made: Made, *argv: str) -> str:
    found = made.cluster.controller.run(
        "srun", "--quiet", "--chdir=/mnt/shared/jobs", *argv, user="hpc", check=False, timeout=120.0
    )
    return found.stdout + found.stderr


def test_every_machine_is_who_it_should_be(made: Made) -> None:
    names = made.cluster.all.run("hostname")
    assert {node: result.stdout.strip() for node, result in names.items()} == {name: name for name in names}
    states = made.cluster.all.run("systemctl", "is-system-running", "--wait", check=False, timeout=120.0)
    assert {result.stdout.strip() for result in states.values()} == {"running"}
    kernels = {result.stdout.strip() for result in made.cluster.all.run("uname", "-r").values()}
    assert kernels == {ensure_image("vm", Silent()).manifest["kernel"]}
    boots = {result.stdout for result in made.cluster.all.run("cat", "/proc/sys/kernel/random/boot_id").values()}
    assert len(boots | {Path("/proc/sys/kernel/random/boot_id").read_text()}) == 3


def test_machines_are_as_planned(made: Made) -> None:
    for node in made.config.nodes:
        shape = made.driver.shape(made.config, node.name)
        wanted = {name: value for name, value in planned(made.config, node).items() if name not in shape.untold}
        assert shape.parts == wanted
        # The root file system grows with the disk: most of 10 GiB, not the image's 4.
        room = made.cluster[node.name].run("df", "--output=size", "--block-size=1M", "/").stdout.split()[-1]
        assert int(room) > 9000


def test_a_job_runs_and_is_confined(made: Made) -> None:
    assert job(made, "hostname") == "node01\n"
    opens = "for i in 0 1; do (exec 3</dev/fakegpu$i) 2>&1 | sed 's/.*: //'; done"
    assert job(made, "--gres=gpu:1", "sh", "-c", opens) == "No such device or address\nOperation not permitted\n"
    assert job(made, "sh", "-c", opens) == "Operation not permitted\n" * 2
    said = job(made, "--mem=64", "sh", "-c", "head -c 200M /dev/zero | tail >/dev/null")
    assert "Out Of Memory" in said or "OOM Killed" in said


def test_the_shared_directory_is_one(made: Made) -> None:
    made.cluster["node01"].run("touch", "/mnt/shared/jobs/there")
    shared = cluster_state(made.config.name) / "machines/shared"
    assert (shared / "jobs/there").exists()
    assert made.cluster.controller.run("ls", "/mnt/shared/jobs/there", check=False).ok


def test_secrets_are_known_and_not_readable_by_others(made: Made) -> None:
    secrets = made.driver.secrets(made.config)
    assert len(secrets) == 2 + 2 + len(made.config.nodes)
    machines = cluster_state(made.config.name) / "machines"
    for initrd in machines.glob("nodes/*/initrd"):
        content = initrd.read_bytes()
        assert any(secret in content for secret in secrets)
        assert initrd.stat().st_mode & 0o077 == 0


def test_libvirt_answers_at_once(made: Made) -> None:
    """It takes half a minute where its probes of qemu wait for processes that nobody collects."""

    def seconds() -> float:
        began = time.monotonic()
        assert made.driver.state(made.config, "node01") == "running"
        return time.monotonic() - began

    assert min(seconds() for _ in range(3)) < 0.5


def test_what_is_there_is_not_made_again(made: Made) -> None:
    with pytest.raises(HostError, match="bridge ah-vmone belongs to a cluster 'vmone'"):
        made.driver.check(made.config)
    other = config("vmtwo", "10.68.0")
    with pytest.raises(HostError, match=r"subnet 10\.68\.0\.0/24 is in use: route 10\.68\.0\.0/24 dev ah-vmone"):
        made.driver.check(other)
    assert len(made.driver.refusals(other)) == 1


def test_a_machine_stops_in_order_and_starts_with_its_disk(made: Made) -> None:
    machines, node = Machines(made.driver, made.cluster), made.cluster["node01"]
    node.run("touch", "/root/kept")
    boot = node.run("cat", "/proc/sys/kernel/random/boot_id").stdout
    console = made.driver.consoles(made.config)["node01"].read_bytes()
    machines.stop("node01", within=120.0)
    assert machines.state("node01") == "off"
    machines.stop("node01")
    machines.start("node01")
    assert machines.state("node01") == "running"
    node.run("ls", "/root/kept")
    assert node.run("cat", "/proc/sys/kernel/random/boot_id").stdout != boot
    assert made.driver.consoles(made.config)["node01"].read_bytes().startswith(console)
    with pytest.raises(ProvisionError, match="^node01: can't be switched on: is running"):
        made.driver.start(made.config, "node01")
    idle(made)


def test_a_kernel_that_panics_says_so_on_the_console(made: Made) -> None:
    machines, node = Machines(made.driver, made.cluster), made.cluster["node01"]
    console = made.driver.consoles(made.config)["node01"]
    before = console.stat().st_size
    with pytest.raises(AiHowError):
        node.run("sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger", timeout=10.0)
    said = console.read_bytes()[before:]
    assert crash_in(said) == "Kernel panic - not syncing: sysrq triggered crash"
    machines.stop("node01", force=True)
    machines.start("node01")


def test_nothing_is_left_when_everything_was_killed(made: Made) -> None:
    mark = cookie(made.config.name)
    names = {one.name for one in marked(mark)}
    # A daemon of this host's own is nobody's to kill, and the machines are machines of its.
    assert ("libvirtd" in names) is (not running_daemon())
    assert "qemu-system-x86" in names
    for one in marked(mark):
        with contextlib.suppress(ProcessLookupError):  # some end when others do
            os.kill(one.pid, signal.SIGKILL)
    wait_for(lambda: not marked(mark), within=10.0, what="killed")
    assert made.traces() != []
    made.down()
    assert made.traces() == []
    assert made.driver.state(made.config, "node01") == "absent"
