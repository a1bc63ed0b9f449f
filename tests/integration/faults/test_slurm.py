"""Faults of Slurm: nodes, daemons, accounting, GPUs, confinement, and machines that can't be asked."""

from __future__ import annotations

import time

import pytest

from suites.phase6 import test_task042_accounting as accounting
from suites.phase6 import test_task042_confinement as confinement
from suites.phase6 import test_task042_gpu as gpu
from suites.phase6 import test_task042_jobs as jobs
from suites.phase6 import test_task043_jobs as containers
from suites.phase6 import test_task043_runtime as runtime

from .cases import (
    NEEDED,
    Fault,
    conf,
    put_to_the_test,
    sees,
    unconfined,
)
from .inject import (
    cut_off,
    drained,
    everywhere,
    frozen,
    hidden,
    mode,
    shell,
    stopped,
)
from .live import Live

pytestmark = NEEDED

FAULTS = [
    # Slurm: nodes and daemons
    pytest.param(
        sees(
            jobs.test_all_nodes_are_idle_or_mixed,
            r"node02: state IDLE\+DRAIN\S*, reason 'bad fan'; expected",
            drained("node02", "bad fan"),
        ),
        id="node drained",
        marks=pytest.mark.seen_to_fail("SLU-08"),
    ),
    pytest.param(
        sees(
            jobs.test_multi_node_allocation,
            r"node02: fails wherever it takes part; the other node passes without it \(4 re-runs\): "
            r"job \d+ \(nodes\) on node02: ended as FAILED with exit ",
            hidden("node02", "/usr/bin/hostname"),
        ),
        id="a program is missing on one node",
        marks=pytest.mark.seen_to_fail("SLU-21"),
    ),
    pytest.param(
        sees(jobs.test_srun_reaches_each_node, r"node02: srun hostname ended with ", stopped("node02", "munge")),
        id="munge stopped",
        marks=pytest.mark.seen_to_fail("SLU-12"),
    ),
    pytest.param(
        Fault(
            shell(
                "controller",
                "scontrol update partitionname=gpu state=inactive",
                "scontrol update partitionname=gpu state=up",
            ),
            [
                (jobs.test_srun_reaches_each_node, r"node01: srun .*Required partition not available"),
                (
                    jobs.test_a_job_lives_from_pending_to_completed,
                    r"controller: sbatch refused job 'life': .*partition",
                ),
            ],
        ),
        id="partition inactive",
        marks=pytest.mark.seen_to_fail("SLU-12", "SLU-13"),
    ),
    pytest.param(
        sees(
            jobs.test_srun_reaches_each_node,
            r"node01: srun .* srun did not end within .*; job \d+ is PENDING, reason PartitionDown; do:",
            shell(
                "controller",
                "scontrol update partitionname=gpu state=down",
                "scontrol update partitionname=gpu state=up",
            ),
        ),
        id="partition down",
        marks=pytest.mark.seen_to_fail("SLU-12"),
    ),
    pytest.param(
        sees(
            jobs.test_a_short_job_overtakes,
            r"job \d+: not ended within .* PENDING, reason ",
            conf("controller", "SchedulerType=sched/backfill", "SchedulerType=sched/builtin"),
        ),
        id="no backfill",
        marks=pytest.mark.seen_to_fail("SLU-25"),
    ),
    # Slurm: accounting
    pytest.param(
        sees(
            accounting.test_slurmdbd_knows_cluster_account_and_user,
            r"controller: sacctmgr ended with 1: .*failed to open persistent connection",
            stopped("controller", "slurmdbd"),
        ),
        id="slurmdbd stopped",
        marks=pytest.mark.seen_to_fail("SLU-26"),
    ),
    pytest.param(
        Fault(
            shell(
                "controller",
                "sacctmgr -iQ delete user hpc",
                "sacctmgr -iQ add user hpc cluster=aihowflt account=default defaultaccount=default",
            ),
            [
                (
                    accounting.test_slurmdbd_knows_cluster_account_and_user,
                    "controller: the accounting has no user aihowflt/default/hpc; it has",
                ),
                (
                    accounting.test_the_record_is_correct,
                    r"job \d+ \(record\) on node0\d: the accounting has account ''",
                ),
            ],
        ),
        id="user unknown to the accounting",
        marks=pytest.mark.seen_to_fail("SLU-26", "SLU-27"),
    ),
    pytest.param(
        sees(
            accounting.test_gpus_are_accounted,
            r"job \d+ \(gpu-tres\) on node0\d: the accounting has gres/gpu=0 for a job with gpu:1",
            conf("controller", "AccountingStorageTRES=gres/gpu\n", ""),
        ),
        id="GPUs not accounted",
        marks=pytest.mark.seen_to_fail("SLU-28"),
    ),
    # Slurm: GPUs and confinement
    pytest.param(
        sees(
            gpu.test_gres_count_equals_the_devices,
            r"node02: Slurm has gres/gpu=2, the node has 1 GPU devices \(/dev/fakegpu0\)",
            shell("node02", "rm /dev/fakegpu1", "mknod -m 0666 /dev/fakegpu1 c 240 1"),
        ),
        id="GPU fell off the bus",
        marks=pytest.mark.seen_to_fail("SLU-31"),
    ),
    pytest.param(
        sees(
            gpu.test_a_job_with_one_gpu_sees_one,
            r"node01: job \d+ with gres=gpu:1 may open no GPU, .*'EACCES'",
            everywhere(lambda node: mode(node, "/dev/fakegpu0 /dev/fakegpu1", "0600", "0666"), "node01"),
        ),
        id="GPU devices for root only",
        marks=pytest.mark.seen_to_fail("SLU-32"),
    ),
    pytest.param(
        Fault(
            unconfined("ConstrainDevices"),
            [
                (gpu.test_a_job_with_one_gpu_sees_one, r"node01: job \d+ with gres=gpu:1 may open \['/dev/fakegpu0', "),
                (gpu.test_a_job_without_gres_sees_none, r"node01: job \d+ without GRES may open \['/dev/fakegpu0', "),
                (
                    gpu.test_device_whitelist,
                    r"node01: job \d+ with 0 GPUs got .*'ENXIO'.*; expected 0 to open and EPERM",
                ),
                (
                    containers.test_gpu_limit_inside,
                    r"node01: in a container, a job with 0 GPUs may open \['/dev/fakegpu0",
                ),
            ],
        ),
        id="devices not confined",
        marks=pytest.mark.seen_to_fail("SLU-32", "SLU-33", "SLU-38", "CON-15"),
    ),
    pytest.param(
        Fault(
            unconfined("ConstrainRAMSpace"),
            [
                (confinement.test_memory_limit, r"job \d+ \(oom\) on node01: .* COMPLETED .*expected OUT_OF_MEMORY"),
                (confinement.test_memory_confinement, r"job \d+ \(mem-greedy\) on node01: .* ended as COMPLETED"),
            ],
        ),
        id="memory not confined",
        marks=pytest.mark.seen_to_fail("SLU-19", "SLU-37"),
    ),
    pytest.param(
        Fault(
            unconfined("ConstrainCores"),
            [
                (
                    confinement.test_cpu_confinement,
                    r"node01: job \d+ with 1 CPUs was put on \[\d\] and got itself onto",
                ),
                (containers.test_cpu_limit_inside, r"node01: in a container, a job with 1 CPUs may run on \[0, 1"),
            ],
        ),
        id="CPUs not confined",
        marks=pytest.mark.seen_to_fail("SLU-36", "CON-15"),
    ),
    pytest.param(
        sees(
            confinement.test_nothing_is_left_after_a_job,
            r"node0\d: job \d+ has ended and left \d+ sleep 600",
            everywhere(
                lambda node: conf(node, "ProctrackType=proctrack/cgroup", "ProctrackType=proctrack/linuxproc"),
                "node01",
                "node02",
            ),
        ),
        id="daemons of jobs escape",
        marks=pytest.mark.seen_to_fail("SLU-39"),
    ),
    pytest.param(
        sees(
            confinement.test_prolog_and_epilog_ran,
            r"node0\d: /var/log/slurm/epilog\.log has 0 lines for job \d+, expected one; do: check Epilog",
            everywhere(lambda node: mode(node, "/usr/lib/ai-how/epilog", "a-x", "a+x"), "node01", "node02"),
        ),
        id="epilog not executable",
        marks=pytest.mark.seen_to_fail("SLU-40"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_goes_red_names_the_culprit_and_recovers(live: Live, fault: Fault) -> None:
    put_to_the_test(live, fault)


# machines that can't be asked


@pytest.mark.seen_to_fail("SLU-12")
def test_a_frozen_machine_is_named_in_time(live: Live) -> None:
    with frozen("node02")(live):
        since = time.monotonic()
        verdict = live.judge(jobs.test_srun_reaches_each_node)
        took = time.monotonic() - since
    live.settle()
    assert (verdict.kind, verdict.text[:8]) == ("red", "node02: "), verdict
    assert took < 30.0, f"it took {took:.1f} s"
    assert live.judge(jobs.test_srun_reaches_each_node).kind == "green"


def test_a_machine_that_is_cut_off_is_named_in_time(live: Live) -> None:
    with cut_off("node02")(live):
        since = time.monotonic()
        verdict = live.judge(runtime.test_version_and_dependencies)
        assert (verdict.kind, verdict.text[:8]) == ("broken", "node02: "), verdict
        assert time.monotonic() - since < 45.0
    live.settle()
    assert live.judge(runtime.test_version_and_dependencies).kind == "green"
