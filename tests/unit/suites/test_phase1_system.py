"""The checks of operating systems go red on machines that are not well, and name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.outside import Claims
from pytest_ai_how.errors import FactError
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.listening import parse_ss
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import LocalTransport
from suites.phase1 import _clocks
from suites.phase1 import _facts as read
from suites.phase1 import test_system as system
from suites.phase1._clocks import Clock, apart
from suites.phase1._kernel_log import troubles
from suites.phase1._ports import declared, of_node, required
from suites.phase1._system import drifted, profile
from tests.fakes import Switchboard, fake_cluster

from .phase1_fakes import SOCKETS, WELL, bringup, facts, measure

KERNEL = "6.12.48+deb13-cloud-amd64"


@pytest.fixture
def cluster() -> Cluster:
    return fake_cluster({})


# INF-10


@pytest.mark.seen_to_fail("INF-10")
def test_a_clock_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(late: float, slow: float = 0.01) -> Measurements:
        moments = iter(range(1000))
        ticks: dict[str, float] = {"now": 1000.0}

        def time() -> float:
            ticks["now"] = 1000.0 + next(moments) * slow
            return ticks["now"]

        monkeypatch.setattr(_clocks.time, "time", time)
        scripts = {
            name: {"date": lambda argv, off=off: f"{ticks['now'] + slow / 2 + off:.9f}\n"}
            for name, off in {"controller": 0.0, "node01": 0.0, "node02": late}.items()
        }
        evidence, measured = Evidence(), measure()
        # One after the other, so that the pretended time is the same for all.
        cluster = fake_cluster(scripts)
        monkeypatch.setattr("pytest_ai_how.cluster.WORKERS", 1)
        system.test_clocks(cluster, evidence, measured)
        assert len(evidence.items) == 3 * _clocks.READINGS + 2
        return measured

    assert check(-0.2).items[-1].value == pytest.approx(0.2, abs=0.001)
    with pytest.raises(LimitExceeded, match=r"^node02: node\.clock_offset is 3 s, expected at most 1 s"):
        check(-3.0)
    with pytest.raises(LimitExceeded, match=r"^controller: node\.clock_uncertainty is 1 s, expected at most 0\.5 s"):
        check(0.0, slow=2.0)


def test_the_clock_that_is_wrong_is_named_whoever_it_is_compared_to() -> None:
    def named(**ahead: float) -> tuple[str, str, float]:
        worst, other, seconds = apart(Clock(name, value, 0.001) for name, value in ahead.items())
        return worst.node, other.node, seconds

    assert named(a=0.0, b=-5.0, c=0.1)[0] == "b"
    assert named(a=5.0, b=0.0, c=0.1)[0] == "a"
    assert named(a=0.0, b=0.1, c=9.0) == ("c", "a", 9.0)


# INF-11


@pytest.mark.seen_to_fail("INF-11")
def test_another_operating_system() -> None:
    system.test_operating_system(facts())
    with pytest.raises(AssertionError, match=r"^node02: runs debian bookworm, expected debian trixie"):
        system.test_operating_system(facts(node02={read.SYSTEM: "ID=debian\nVERSION_CODENAME=bookworm\n"}))
    with pytest.raises(AssertionError, match=r"^node01: runs nobody unknown, expected debian trixie"):
        system.test_operating_system(facts(node01={read.SYSTEM: "\n"}))


@pytest.mark.seen_to_fail("INF-11")
def test_kernels_that_differ() -> None:
    system.test_kernels(facts())
    with pytest.raises(
        AssertionError, match=rf"^node02: runs kernel 6\.12\.38\S+, controller runs {KERNEL[:7]}\S+; exp"
    ):
        system.test_kernels(facts(node02={read.KERNEL: "6.12.38+deb13-cloud-amd64"}))
    old = {name: {read.KERNEL: "6.1.0-25-amd64"} for name in SOCKETS}
    with pytest.raises(AssertionError, match=r"^controller: runs kernel 6\.1\.0-25-amd64, expected 6\.12 or later"):
        system.test_kernels(facts(**old))
    headers = "linux-headers-6.12.38+deb13-cloud-amd64\t6.12.38-1\tinstalled\n"
    with pytest.raises(
        AssertionError, match=rf"^node01: runs kernel {KERNEL[:7]}\S+ and has headers of 6\.12\.38\S+ only"
    ):
        system.test_kernels(facts(node01={read.PACKAGES: headers}))
    with pytest.raises(
        AssertionError, match=r"^node01: DKMS builds beegfs, and no kernel headers are installed; expected l"
    ):
        system.test_kernels(facts(node01={read.MODULES: "beegfs\n"}))


def test_headers_that_fit() -> None:
    packages = dict.fromkeys(
        (f"linux-headers-{KERNEL}", "linux-headers-6.12.48+deb13-common", "linux-headers-amd64"), "6"
    )
    assert drifted(KERNEL, packages, ["beegfs"]) == ""
    assert drifted(KERNEL, {"linux-headers-6.12.48+deb13-common": "6"}, []) == ""


# INF-12


@pytest.mark.seen_to_fail("INF-12")
def test_a_package_that_is_missing(cluster: Cluster) -> None:
    def check(wanted: Cluster, driver: str, **changed: Any) -> None:
        board = Switchboard({})
        board.name = driver
        evidence = Evidence()
        system.test_packages(bringup(board, wanted), wanted, facts(evidence, **changed), evidence)

    every = "".join(f"{name}\t1\tinstalled\n" for name in profile(cluster.config, "nspawn"))
    full = {name: {read.PACKAGES: every} for name in SOCKETS}
    check(cluster, "nspawn", **full)
    short = full | {"node02": {read.PACKAGES: every.replace("iperf3\t1\t", "iperf3\t1\tnot-")}}
    with pytest.raises(AssertionError, match=r"^node02: 1 of \d\d declared packages are not installed: iperf3"):
        check(cluster, "nspawn", **short)
    claims = cluster.config.model_copy(update={"driver": "ssh", "claims": Claims(packages=("chrony", "fio"))})
    with pytest.raises(AssertionError, match=r"^controller: 1 of 2 declared packages are not installed: chrony"):
        check(Cluster(claims, cluster.nodes), "ssh")
    none = cluster.config.model_copy(update={"driver": "ssh"})
    with pytest.raises(AssertionError, match="^local: no package is declared; nothing was compared"):
        check(Cluster(none, cluster.nodes), "ssh")


def test_a_virtual_machine_has_the_packages_of_the_tree_and_of_its_disk(cluster: Cluster) -> None:
    assert {"fio", "slurmd", "sudo"} <= set(profile(cluster.config, "libvirt"))


# INF-13


@pytest.mark.seen_to_fail("INF-13")
def test_units_that_failed() -> None:
    system.test_systemd(facts())
    failed = json.dumps([{"unit": "fan.service", "load": "loaded", "active": "failed", "sub": "failed"}])
    with pytest.raises(
        AssertionError, match=r"^node02: fan\.service failed; read `systemctl status fan\.service` there"
    ):
        system.test_systemd(facts(node02={read.FAILED: failed, read.STATE: "degraded"}))
    with pytest.raises(AssertionError, match="^node01: systemd is still starting, expected running; read `syst"):
        system.test_systemd(facts(node01={read.STATE: Result((), 124)}))


# INF-14


@pytest.mark.seen_to_fail("INF-14")
def test_a_machine_that_is_full() -> None:
    system.test_space(facts(), measure())
    head = "Mounted on 1B-blocks Avail Inodes IFree\n"
    with pytest.raises(LimitExceeded, match=r"^node02: /var/log: node\.space is 4 %, expected at least 10 %"):
        system.test_space(facts(node02={read.SPACE: f"{head}/ 1000 250 100 90\n/var/log 1000 40 100 80\n"}), measure())
    with pytest.raises(LimitExceeded, match=r"^node01: /: node\.space is 2 %, expected at least 10 %"):
        system.test_space(facts(node01={read.SPACE: f"{head}/ 1000 250 100 2\n"}), measure())
    with pytest.raises(AssertionError, match=r"^node01: df does not tell of /; nothing was measured"):
        system.test_space(facts(node01={read.SPACE: head}), measure())


# INF-15

#: Lines of Linux 6.12 as journald shows them.
LOG = {
    "oops": "[   12.9] node02 kernel: BUG: unable to handle page fault for address: ffffc90000c0d000",
    "hung task": "[  246.1] node02 kernel: INFO: task fio:412 blocked for more than 120 seconds.",
    "I/O error": "[   33.1] node02 kernel: I/O error, dev vda, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1",
    "out of memory": "[   99.0] node02 kernel: Out of memory: Killed process 812 (python3) total-vm:4194304kB",
}


@pytest.mark.seen_to_fail("INF-15")
@pytest.mark.parametrize("kind", sorted(LOG))
def test_a_kernel_in_trouble(kind: str) -> None:
    system.test_kernel_log(facts())
    log = str(WELL[read.KERNEL_LOG]) + LOG[kind] + "\n"
    with pytest.raises(AssertionError, match=rf"^node02: its kernel tells of {kind}, 1 lines in all, first: \[  "):
        system.test_kernel_log(facts(node02={read.KERNEL_LOG: log}))


def test_a_job_at_its_limit_is_no_trouble() -> None:
    assert troubles(["Memory cgroup out of memory: Killed process 99 (stress)"]) == []
    assert troubles(["printk: legacy console [ttyS0] enabled", "Debug: BUGS fixed"]) == []


def test_a_log_that_is_empty_is_no_verdict() -> None:
    with pytest.raises(FactError, match=r"^node01: the kernel's log is not known: .* said 'nothing' \(it is empty\)"):
        system.test_kernel_log(facts(node01={read.KERNEL_LOG: "\n"}))


@pytest.mark.parametrize(
    ("journalctl", "dmesg", "told"),
    [
        ("echo of the journal", "echo of the buffer", (0, "of the journal")),
        ("exit 1", "echo of the buffer", (0, "of the buffer")),  # -- No entries --
        ("exit 0", "echo of the buffer", (0, "of the buffer")),
        ("", "echo of the buffer", (0, "of the buffer")),  # not installed
        ("exit 1", "echo not permitted >&2; exit 1", (1, "")),
    ],
)
def test_the_kernels_log_is_that_of_the_journal_or_of_the_kernel(
    tmp_path: Path, journalctl: str, dmesg: str, told: tuple[int, str]
) -> None:
    for name, script in (("journalctl", journalctl), ("dmesg", dmesg)):
        if script:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
    path = {"PATH": str(tmp_path)}
    said = LocalTransport("node01", path).execute(("/bin/sh", "-c", read._KERNEL_LOG), timeout=5)
    assert (said.returncode, said.stdout.strip()) == told


# INF-43


@pytest.mark.seen_to_fail("INF-43")
def test_a_port_that_nobody_declared(cluster: Cluster) -> None:
    def check(config: ClusterConfig | None = None, **more: str) -> None:
        scripts = {name: {"ss": lines + more.get(name, "")} for name, lines in SOCKETS.items()}
        evidence = Evidence()
        system.test_listening(fake_cluster(scripts, config=config), evidence)
        assert evidence.samples

    check()
    check(node02='tcp LISTEN 0 128 127.0.0.1:25 0.0.0.0:* users:(("exim4",pid=7,fd=4))\n')
    check(node02='tcp LISTEN 0 128 0.0.0.0:41027 0.0.0.0:* users:(("slurmstepd",pid=7,fd=4))\n')
    rpc = 'tcp LISTEN 0 4096 [::]:111 [::]:* users:(("rpcbind",pid=7,fd=6),("systemd",pid=1,fd=35))\n'
    with pytest.raises(
        AssertionError, match=r"^node02: listens on tcp :::111 of rpcbind, systemd, which no role declares"
    ):
        check(node02=rpc)
    check(cluster.config.model_copy(update={"claims": Claims(ports=("tcp/111",))}), node02=rpc)
    with pytest.raises(AssertionError, match=r"^node01: listens on tcp 0\.0\.0\.0:6817 of slurmctld"):
        check(node01='tcp LISTEN 0 4096 0.0.0.0:6817 0.0.0.0:* users:(("slurmctld",pid=92,fd=7))\n')
    with pytest.raises(AssertionError, match=r"^node01: listens on tcp 0\.0\.0\.0:6818 of nc"):
        check(node01='tcp LISTEN 0 1 0.0.0.0:6818 0.0.0.0:* users:(("nc",pid=7,fd=3))\n')
    with pytest.raises(AssertionError, match=r"^node01: listens on nothing, though we came by ssh"):
        system.test_listening(fake_cluster({"node01": {"ss": ""}, "*": {"ss": SOCKETS["controller"]}}), Evidence())


def test_ports_are_those_of_what_the_cluster_has(cluster: Cluster) -> None:
    ports = declared(cluster.config)
    assert {node.name: required(ports, node.config) for node in cluster.nodes} == {
        "controller": (22, 6817, 6819, 9090, 9093, 9100),
        "node01": (22, 6818, 9100),
        "node02": (22, 6818, 9100),
    }
    plain = declared(cluster.config.model_copy(update={"slurm": None}))
    assert required(plain, cluster["controller"].config) == (22, 9090, 9093, 9100)
    assert not [port for port in ports if port.needs == "beegfs"]
    assert all(port.by for port in of_node(ports, cluster["node01"].config))


def test_every_port_of_a_role_needs_a_capability_that_there_is() -> None:
    from pytest_ai_how.config.capabilities import CAPABILITIES

    shipped = Source.shipped()
    found = [port for name in shipped.role_names() for port in shipped.role(name).ports]
    assert len(found) > 10
    assert {port.needs for port in found} - {""} <= CAPABILITIES.keys()


def test_sockets_of_one_interface_and_of_the_kernel() -> None:
    client = 'udp UNCONN 0 0 10.78.0.11%host0:68 0.0.0.0:* users:(("systemd-network",pid=30,fd=17))'
    first, second = parse_ss(f"{client}\nudp UNCONN 0 0 *:8004 *:*\n")
    assert (first.address, first.port, first.local, set(first.programs)) == (
        "10.78.0.11",
        68,
        False,
        {"systemd-network"},
    )
    assert (second.address, second.local, second.pids) == ("*", False, frozenset())
