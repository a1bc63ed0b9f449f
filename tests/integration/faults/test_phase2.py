"""Faults of phase 2: keys, names, people, files and plug-ins of Slurm that are not what they should be."""

from __future__ import annotations

import time

import pytest

from pytest_ai_how.deadline import wait_for
from suites.phase2 import test_configuration as configuration
from suites.phase2 import test_daemons as daemons
from suites.phase2 import test_faults as faults
from suites.phase2 import test_images as images
from suites.phase2 import test_jobs as jobs
from suites.phase2 import test_journals as journals
from suites.phase2 import test_munge as munge
from suites.phase2 import test_nodes as nodes

from .cases import NEEDED, Fault, conf, put_to_the_test, sees
from .inject import SLURM_CONF, edited, everywhere, hidden, mode, shell, stopped
from .live import SUBNET, Live

pytestmark = NEEDED

KEY, KEPT = "/etc/munge/munge.key", "/root/key-kept-by-fault"
SINFO = "/usr/local/bin/sinfo"
DIAGNOSE = "/usr/lib/ai-how/diagnose.py"
STACK = "/etc/slurm/plugstack.conf.d/fault.conf"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagnosis that does not come is not waited for by the quarter minute."""
    monkeypatch.setattr(jobs, "APPEARS_WITHIN", 1.0)


FAULTS = [
    pytest.param(
        Fault(
            shell(
                "node02",
                f"cp -p {KEY} {KEPT} && head -c 1024 /dev/urandom >{KEY} && systemctl restart munge",
                f"test ! -e {KEPT} || mv {KEPT} {KEY}; systemctl restart munge",
            ),
            [
                (munge.test_key_and_folders, f"node02: its {KEY} is another one than that of controller; expected one"),
                (
                    munge.test_all_pairs,
                    r"controller: unmunge of node02's credential says Invalid credential; expected Success",
                ),
            ],
        ),
        id="another munge key",
        marks=pytest.mark.seen_to_fail("SLU-01", "SLU-02"),
    ),
    pytest.param(
        sees(
            munge.test_key_and_folders,
            f"node01: {KEY} is 0444 munge:munge, expected 0400",
            mode("node01", KEY, "0444", "0400"),
        ),
        id="munge key that all can read",
        marks=pytest.mark.seen_to_fail("SLU-01"),
    ),
    pytest.param(
        sees(munge.test_all_pairs, r"node01: munge exited with \d+: munge: Error: ", stopped("node01", "munge")),
        id="munged does not run",
        marks=pytest.mark.seen_to_fail("SLU-02"),
    ),
    pytest.param(
        sees(
            munge.test_accounts,
            r"node02: user 'hpc' has UID and GID \(1001, 1000\), on controller \(1000, 1000\); expected",
            edited("node02", "/etc/passwd", "hpc:x:1000:1000", "hpc:x:1001:1000"),
        ),
        id="another UID",
        marks=pytest.mark.seen_to_fail("SLU-50"),
    ),
    pytest.param(
        sees(
            daemons.test_daemons_run,
            "node01: slurmd is active and disabled, expected active and enabled",
            shell("node01", "systemctl disable slurmd", "systemctl enable slurmd"),
        ),
        id="slurmd not enabled",
        marks=pytest.mark.seen_to_fail("SLU-03"),
    ),
    pytest.param(
        sees(
            daemons.test_one_version,
            r"node02: sinfo is 23\.11\.4, controller's slurmctld is 24\.11\.\d+; expected one version everywhere",
            shell(
                "node02",
                f"printf '%s\\n' '#!/bin/sh' 'echo slurm-wlm 23.11.4' >{SINFO}; chmod 755 {SINFO}",
                f"rm -f {SINFO}",
            ),
        ),
        id="programs of another version",
        marks=pytest.mark.seen_to_fail("SLU-04"),
    ),
    pytest.param(
        Fault(
            edited("node02", SLURM_CONF, "MinJobAge=300", "MinJobAge=301"),
            [
                (
                    configuration.test_slurm_conf_is_equal,
                    f"node02: {SLURM_CONF} is another one than that of controller: line .* is 'MinJobAge=301', there ",
                ),
                (configuration.test_files_are_valid, f"node02: its {SLURM_CONF} is not what slurmctld runs with"),
            ],
        ),
        id="another slurm.conf",
        marks=pytest.mark.seen_to_fail("SLU-05", "SLU-49"),
    ),
    pytest.param(
        sees(
            configuration.test_files_are_valid,
            r"node01: Slurm's configuration is not known: `scontrol show config` exited with 1: .*fatal: ",
            edited("node01", SLURM_CONF, "MinJobAge=300", "MinJobAgge=300"),
        ),
        id="slurm.conf with an unknown key",
        marks=pytest.mark.seen_to_fail("SLU-49"),
    ),
    pytest.param(
        sees(
            configuration.test_control_address,
            rf"node02: 'controller' stands for 127\.0\.1\.1, which is the machine itself; expected {SUBNET}\.10",
            edited("node02", "/etc/hosts", f"{SUBNET}.10 controller", "127.0.1.1 controller"),
        ),
        id="control machine is loopback",
        marks=pytest.mark.seen_to_fail("SLU-06"),
    ),
    pytest.param(
        Fault(
            conf("controller", f"NodeAddr={SUBNET}.11 CPUs=2", f"NodeAddr={SUBNET}.11 CPUs=1"),
            [(nodes.test_hardware, "node01: Slurm gives it 1 CPUs; expected 2, as the cluster's YAML says")],
        ),
        id="node with fewer CPUs",
        marks=pytest.mark.seen_to_fail("SLU-07"),
    ),
    pytest.param(
        sees(
            configuration.test_partitions,
            "controller: partition 'debug' has a time limit of 5 min; expected no limit",
            shell(
                "controller",
                "scontrol update partitionname=debug maxtime=5",
                "scontrol update partitionname=debug maxtime=infinite",
            ),
        ),
        id="partition with another limit",
        marks=pytest.mark.seen_to_fail("SLU-09"),
    ),
    pytest.param(
        sees(
            nodes.test_controller_takes_no_jobs,
            "controller: Slurm has it as a node with 8 CPUs in no partition; expected none",
            conf("controller", "NodeName=node01", f"NodeName=controller NodeAddr={SUBNET}.10 CPUs=8\nNodeName=node01"),
        ),
        id="controller is a node",
        marks=pytest.mark.seen_to_fail("SLU-10"),
    ),
    pytest.param(
        sees(
            configuration.test_plugins,
            "controller: SchedulerType is sched/builtin; expected sched/backfill in it",
            conf("controller", "SchedulerType=sched/backfill", "SchedulerType=sched/builtin"),
        ),
        id="another scheduler",
        marks=pytest.mark.seen_to_fail("SLU-11"),
    ),
    pytest.param(
        sees(
            configuration.test_slurmdbd_keeps_its_secret,
            "controller: /etc/slurm/slurmdbd.conf is 0644 slurm:slurm, expected 0600",
            mode("controller", "/etc/slurm/slurmdbd.conf", "0644", "0600"),
        ),
        id="slurmdbd.conf that all can read",
        marks=pytest.mark.seen_to_fail("SLU-30"),
    ),
    pytest.param(
        sees(
            configuration.test_slurmdbd_keeps_its_secret,
            "controller: StoragePass in /etc/slurm/slurmdbd.conf is a default that everybody knows",
            edited(
                "controller",
                "/etc/slurm/slurmdbd.conf",
                "StorageUser=slurm",
                "StorageUser=slurm\nStoragePass=slurm",
                "chown slurm:slurm /etc/slurm/slurmdbd.conf",
            ),
        ),
        id="password that everybody knows",
        marks=pytest.mark.seen_to_fail("SLU-30"),
    ),
    pytest.param(
        sees(
            jobs.test_failures_are_diagnosed,
            r"node0\d: not in possession of /var/log/slurm/diagnosis/\d+\.json within 1 s",
            everywhere(lambda node: mode(node, DIAGNOSE, "0644", "0755"), "node01", "node02"),
        ),
        id="nobody says why jobs ended",
        marks=pytest.mark.seen_to_fail("SLU-41"),
    ),
    pytest.param(
        sees(
            jobs.test_failures_are_diagnosed,
            r"job \d+ \(diagnose-kill\) on node0\d: it is told to have ended by 'none', expected 'killed'",
            everywhere(
                lambda node: edited(node, DIAGNOSE, "if self.number:", "if self.status and self.number:"),
                "node01",
                "node02",
            ),
        ),
        id="diagnosis that overlooks signals",
        marks=pytest.mark.seen_to_fail("SLU-41"),
    ),
    pytest.param(
        sees(
            jobs.test_too_little_memory_is_diagnosed,
            r"job \d+ \(diagnose-oom\) on node0\d: it is told to have ended by 'signal', expected 'out-of-memory'",
            everywhere(
                lambda node: edited(node, DIAGNOSE, "if self.signal == OUT_OF_MEMORY:", "if False:"), "node01", "node02"
            ),
        ),
        id="diagnosis that overlooks memory",
        marks=pytest.mark.seen_to_fail("SLU-41"),
    ),
    pytest.param(
        sees(
            jobs.test_a_cancelled_job_is_diagnosed,
            r"job \d+ \(diagnose-cancel\) on node0\d: it is told to have ended by 'none', expected 'cancelled'",
            everywhere(
                lambda node: edited(node, DIAGNOSE, "/slurmd.log", "/no-slurmd.log"),
                "node01",
                "node02",
            ),
        ),
        id="diagnosis that overlooks who cancelled",
        marks=pytest.mark.seen_to_fail("SLU-41"),
    ),
    pytest.param(
        sees(
            faults.test_failing_prolog,
            "controller: no Prolog is configured; expected one",
            conf("controller", "Prolog=/usr/lib/ai-how/prolog\n", ""),
        ),
        id="no prolog",
        marks=pytest.mark.seen_to_fail("SLU-42"),
    ),
    pytest.param(
        sees(
            jobs.test_plugin_stack,
            rf"node01: {STACK}:1: '\[plugins\]' is no line of a stack of plug-ins; .* not INI",
            shell("node01", f"printf '[plugins]\\nrequired = spank_pbs.so\\n' >{STACK}", f"rm -f {STACK}"),
        ),
        id="plug-ins as INI",
        marks=pytest.mark.seen_to_fail("SLU-43"),
    ),
    pytest.param(
        sees(
            jobs.test_plugin_stack,
            r"node02: \S+/slurmd\.log: \[\d+\.\w+\] error: ",
            shell("node02", f"echo 'optional no-such-plugin.so' >{STACK}", f"rm -f {STACK}"),
        ),
        id="optional plug-in that is not there",
        marks=pytest.mark.seen_to_fail("SLU-43"),
    ),
    pytest.param(
        sees(
            images.test_pull_and_convert,
            r"node02: `apptainer pull` ended with \d+: FATAL: .*mksquashfs",
            hidden("node02", "/usr/bin/mksquashfs"),
        ),
        id="nothing to make an image with",
        marks=pytest.mark.seen_to_fail("CON-03"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees_it_and_is_green_again(live: Live, fault: Fault) -> None:
    put_to_the_test(live, fault)


@pytest.mark.seen_to_fail("SLU-51")
def test_an_error_is_seen_in_the_window_of_the_run_alone(live: Live) -> None:
    check, began = journals.test_logs_have_no_errors, time.time()
    verdict = live.judge(check, run_started=began, broken_times=())
    assert verdict.kind == "green", verdict.text
    with stopped("controller", "slurmdbd")(live):
        live.slurm.srun("true", mem=16)
        wait_for(
            lambda: live.judge(check, run_started=began, broken_times=()).kind == "red",
            within=30,
            what="an error of slurmctld",
            every=0.5,
        )
        verdict = live.judge(check, run_started=began, broken_times=())
        assert verdict.first_line.startswith("controller: slurmctld wrote 'slurmctld: error: "), verdict.text
        meant = ((began, time.time() + 1, "test_it.py::test_stops_slurmdbd"),)
        verdict = live.judge(check, run_started=began, broken_times=meant)
        assert verdict.kind == "green", verdict.text
    live.settle()
    verdict = live.judge(check, run_started=time.time() + 2, broken_times=())
    assert verdict.kind == "green", verdict.text
