"""The checks of Slurm's configuration, nodes and daemons go red on clusters that are not as the YAML says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONF_TEXT, CONFIG, NODES, PARTITIONS, VERSIONS, parse_config
from pytest_ai_how.shell import Result
from suites._machine import CONTAINER
from suites.phase1._facts import CPUS, MEMORY, resolves
from suites.phase2 import test_configuration as configuration
from suites.phase2 import test_daemons as daemons
from suites.phase2 import test_nodes as nodes
from suites.phase2._alike import odd_one

from .phase2_fakes import CONF, VERSIONS_TOLD, data, digest, facts, refused, services, slurm, slurm_nodes

Check = Callable[[Slurm, Facts], None]
RESOLVES = resolves(["controller"])
RIGHT = "10.78.0.10      STREAM controller\n10.78.0.10      DGRAM"


def red(check: Check, told: Facts, message: str) -> None:
    """The check fails with a message that begins so."""
    with pytest.raises(AssertionError, match=f"^{message}"):
        check(slurm(), told)


def hardware(slurm: Slurm, told: Facts) -> None:
    nodes.test_hardware(slurm, told, Measurements(load_limits("local")))


def test_a_cluster_that_is_in_order_is_green() -> None:
    told = facts({RESOLVES: RIGHT})
    for check in (
        configuration.test_slurm_conf_is_equal,
        configuration.test_control_address,
        configuration.test_partitions,
        configuration.test_plugins,
        configuration.test_slurmdbd_keeps_its_secret,
        configuration.test_files_are_valid,
        daemons.test_daemons_run,
        daemons.test_one_version,
        hardware,
        nodes.test_controller_takes_no_jobs,
    ):
        check(slurm(), told)


@pytest.mark.seen_to_fail("SLU-03")
def test_daemons_that_do_not_run() -> None:
    check = daemons.test_daemons_run
    red(
        check,
        facts(node02={daemons.DAEMONS: services("node02", slurmd="failed enabled")}),
        "node02: slurmd is failed and enabled, expected active and enabled",
    )
    red(
        check,
        facts(controller={daemons.DAEMONS: services("controller", slurmdbd="active disabled")}),
        "controller: slurmdbd is active and disabled",
    )
    red(
        check,
        facts(controller={daemons.DAEMONS: services("controller", mariadb="inactive")}),
        "controller: mariadb is inactive and not installed",
    )


@pytest.mark.seen_to_fail("SLU-04")
def test_versions_that_differ() -> None:
    check = daemons.test_one_version
    other = VERSIONS_TOLD.replace("slurmd slurm-wlm 24.11.5", "slurmd slurm-wlm 23.11.4")
    red(
        check, facts(node02={VERSIONS: other}), "node02: slurmd is 23.11.4, controller's slurmctld is 24.11.5; expected"
    )
    runs = slurm_nodes(node01={"version": "24.05.1"})
    red(check, facts(controller={NODES: runs}), "node01: the slurmd that runs is 24.05.1, controller's slurmctld is 24")
    never = slurm_nodes(node01={"version": ""})
    red(
        check,
        facts(controller={NODES: never}),
        "node01: the slurmd that runs is unknown to slurmctld, controller's slu",
    )
    everywhere = {
        VERSIONS: VERSIONS_TOLD.replace("24.11.5", "25.05.0"),
        CONFIG: data("scontrol-config.txt").replace("24.11.5", "25.05.0"),
        NODES: slurm_nodes(node01={"version": "25.05.0"}, node02={"version": "25.05.0"}),
    }
    red(
        check,
        facts(everywhere),
        r"controller: slurmctld is 25\.05\.0, expected series 24\.11, as configs/versions\.yaml",
    )


@pytest.mark.seen_to_fail("SLU-05")
def test_a_slurm_conf_that_differs() -> None:
    check = configuration.test_slurm_conf_is_equal
    other = {configuration.CONF_DIGEST: digest("d"), CONF_TEXT: CONF.replace("User=slurm", "User=root")}
    red(
        check,
        facts(node01=other),
        "node01: /etc/slurm/slurm.conf is another one than that of controller: line 3 is 'SlurmUser=root', there 'Sl",
    )
    # Most are right, even where the controller is the odd one out.
    red(check, facts(controller=other), "controller: /etc/slurm/slurm.conf is another one than that of node01")
    red(
        check,
        facts(node02={configuration.CONF_DIGEST: digest("d")}),
        "node02: .*: only the newlines at its end differ; expected the same sha256",
    )


def test_the_odd_one_out_is_told_by_most() -> None:
    assert odd_one({}) is None
    assert odd_one({"a": 1, "b": 1}) is None


@pytest.mark.seen_to_fail("SLU-06")
def test_a_control_machine_that_is_looked_for_elsewhere() -> None:
    check = configuration.test_control_address
    loop = {RESOLVES: "127.0.1.1       STREAM controller"}
    red(
        check,
        facts({RESOLVES: RIGHT}, node02=loop),
        r"node02: 'controller' stands for 127\.0\.1\.1, which is the machine itself; expected 10\.78\.0\.10, as",
    )
    red(
        check,
        facts({RESOLVES: ""}),
        "controller: the name 'controller' of slurmctld's machine is not known; expected 10",
    )
    red(
        check,
        facts({RESOLVES: RIGHT}, node01={CONF_TEXT: CONF.replace("10.78.0.10", "127.0.0.1")}),
        r"node01: SlurmctldHost stands for 127\.0\.0\.1, which is the machine itself",
    )
    red(check, facts(node01={CONF_TEXT: "ClusterName=x\n"}), r"node01: \S+ names no SlurmctldHost; expected controller")


@pytest.mark.seen_to_fail("SLU-07")
def test_hardware_that_slurm_has_otherwise() -> None:
    def told(has: str = "2", memory: int = 986, kind: str = "none", **record: object) -> Facts:
        return facts(
            {NODES: slurm_nodes(node02=record)},
            node02={CPUS: has, CONTAINER: kind, MEMORY: f"MemTotal: {memory * 1024} kB"},
        )

    hardware(slurm(), told())
    red(hardware, told(cpus=4), "node02: Slurm gives it 4 CPUs; expected 2, as the cluster's YAML says")
    red(hardware, told(has="4"), "node02: it has 4 CPUs, Slurm gives it 2; expected as many")
    red(hardware, told(has="1", kind="lxc"), "node02: it has 1 CPUs, Slurm gives it 2; expected no more than it has")
    red(hardware, told(sockets=4), "node02: Slurm has 4 sockets of 1 cores of 1 threads for its 2 CPUs; expected 2 thr")
    red(hardware, told(real_memory=990), "node02: RealMemory is 990 MiB, it has 986 MiB; expected no more than it has")
    with pytest.raises(LimitExceeded, match=r"^node02: slurm.node_memory is 48\.6 %"):
        hardware(slurm(), told(memory=2000, real_memory=972))
    # A container has its host's CPUs and memory, and is held to the share that the YAML gives it.
    hardware(slurm(), told(has="64", memory=24105, kind="systemd-nspawn"))
    with pytest.raises(LimitExceeded, match=r"^node02: slurm.node_memory is 200 %, expected .*at most 100 %"):
        hardware(slurm(), told(has="64", memory=24105, kind="systemd-nspawn", real_memory=2048))


@pytest.mark.seen_to_fail("SLU-09")
def test_partitions_that_the_yaml_does_not_have() -> None:
    said = data("scontrol-partition-oneliner.txt")

    def told(old: str, new: str) -> Facts:
        assert old in said
        return facts(controller={PARTITIONS: said.replace(old, new)})

    check = configuration.test_partitions
    red(
        check,
        told("PartitionName=debug", "PartitionName=batch"),
        "controller: Slurm has no partition 'debug'; expected",
    )
    red(
        check,
        told("Default=YES", "Default=NO"),
        "controller: partition 'gpu' is not the default; the YAML says the opp",
    )
    red(
        check,
        told("MaxTime=00:10:00", "MaxTime=UNLIMITED"),
        "controller: partition 'debug' has a time limit of no limit; expected 10 min",
    )
    red(
        check,
        told("Nodes=node[01-02]", "Nodes=node01"),
        "controller: partition '.*' has the nodes node01; expected node01, node02",
    )
    red(
        check,
        facts(controller={PARTITIONS: said + said.splitlines()[1].replace("=debug", "=old")}),
        "controller: Slurm has a partition 'old' that the YAML does not declare",
    )


@pytest.mark.seen_to_fail("SLU-10")
def test_a_controller_that_takes_jobs() -> None:
    check = nodes.test_controller_takes_no_jobs
    as_node = slurm_nodes(node02={"name": "controller", "cpus": 8})
    red(
        check,
        facts(controller={NODES: as_node}),
        "controller: Slurm has it as a node with 8 CPUs in gpu, debug partition; expected none",
    )
    running = services("controller", slurmd="active enabled").split("\n\n")[-1]
    red(check, facts(controller={nodes.SLURMD: running}), "controller: slurmd runs there; expected it on machines with")
    lost = slurm_nodes(node02={"name": "node09"})
    red(
        check,
        facts(controller={NODES: lost}),
        "node02: the cluster's YAML gives it the role compute, and Slurm does not",
    )


@pytest.mark.seen_to_fail("SLU-11")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sched/backfill", "sched/builtin", "SchedulerType is sched/builtin; expected sched/backfill in it"),
        ("select/cons_tres", "select/linear", "SelectType is select/linear; expected select/cons_tres"),
        ("proctrack/cgroup", "proctrack/pgid", "ProctrackType is proctrack/pgid; expected proctrack/cgroup"),
        ("task/cgroup,task/affinity", "task/affinity", "TaskPlugin is task/affinity; expected task/cgroup in it"),
        ("task/cgroup,task/affinity", "(null)", "TaskPlugin is not set; expected task/affinity, task/cgroup in it"),
    ],
)
def test_plugins_that_are_others(old: str, new: str, message: str) -> None:
    told = data("scontrol-config.txt")
    assert old in told
    red(configuration.test_plugins, facts(controller={CONFIG: told.replace(old, new)}), f"controller: {message}")


@pytest.mark.seen_to_fail("SLU-30")
def test_a_secret_of_slurmdbd_that_others_know() -> None:
    check, path = configuration.test_slurmdbd_keeps_its_secret, "/etc/slurm/slurmdbd.conf"
    red(
        check,
        facts(controller={configuration.DBD_FILES: f"0644 slurm slurm {path}"}),
        f"controller: {path} is 0644 slurm:slurm, expected 0600 slurm:slurm: it may hold a password",
    )
    red(check, facts(controller={configuration.DBD_FILES: refused("no such file")}), f"controller: {path} is not there")
    red(
        check,
        facts(controller={configuration.WEAK_PASSWORDS: "1"}),
        f"controller: StoragePass in {path} is a default that everybody knows",
    )


@pytest.mark.seen_to_fail("SLU-49")
def test_files_that_slurm_refuses_or_has_not_loaded() -> None:
    check = configuration.test_files_are_valid
    fatal = Result((), 1, stderr="scontrol: fatal: Unable to process configuration file\n")
    red(
        check,
        facts(node01={CONFIG: fatal}),
        "node01: Slurm's configuration is not known: `scontrol show config` exited with 1: scontrol: fatal: Unable to",
    )
    red(
        check,
        facts(node02={configuration.GRES_PRINTED: refused("slurmd: fatal: gres.conf: no such key")}),
        r"node02: what slurmd reads of its files is not known: `slurmd -G` exited with 1: slurmd: fatal",
    )
    stale = data("scontrol-config.txt").replace("= Match", "= Different Ours=0xa3 Slurmctld=0xb4")
    assert "Different" in parse_config(stale)["HASH_VAL"]
    red(
        check,
        facts(node02={CONFIG: stale}),
        r"node02: its \S+ is not what slurmctld runs with \(HASH_VAL is Different Ours=0xa3 Slurmctld=0xb4\)",
    )
