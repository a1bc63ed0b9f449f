"""Faults injected into a real cluster: the check that is about them goes red, names the culprit, and is green again.

Most checks are called in this process, as pytest calls them; some faults are shown to the whole product.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_ai_how.deadline import Deadline
from suites.phase6 import test_task040_registry as registry
from suites.phase6 import test_task042_accounting as accounting
from suites.phase6 import test_task042_confinement as confinement
from suites.phase6 import test_task042_gpu as gpu
from suites.phase6 import test_task042_jobs as jobs
from suites.phase6 import test_task043_images as images
from suites.phase6 import test_task043_jobs as containers
from suites.phase6 import test_task043_runtime as runtime
from suites.phase6 import test_task043_security as security
from tests.integration.faults.inject import (
    APPTAINER_CONF,
    CATALOG,
    REGISTRY,
    SIF,
    SLURM_CONF,
    Inject,
    cut_off,
    drained,
    edited,
    everywhere,
    frozen,
    hidden,
    mode,
    shared_file,
    shell,
    stopped,
    unmounted,
    wrapped,
)
from tests.integration.faults.live import Check, Live, live_cluster

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]
SUITE = Path(registry.__file__).parent
CGROUP_CONF, ECL = "/etc/slurm/cgroup.conf", "/etc/apptainer/ecl.toml"
RESTART_SLURMD, RESTART_SLURMCTLD = "systemctl restart slurmd", "systemctl restart slurmctld"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The cluster that all tests here break and mend; nothing of it is left afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with live_cluster(tmp_path_factory.mktemp("faults")) as found:
            yield found


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not appear is not waited for by the half minute."""
    monkeypatch.setattr(registry, "Deadline", lambda seconds: Deadline(min(seconds, 2.0)))


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what the first line of each check that must see it says."""

    inject: Inject
    seen: Sequence[tuple[Check, str]]


def sees(check: Check, says: str, inject: Inject) -> Fault:
    return Fault(inject, [(check, says)])


def unconfined(key: str) -> Inject:
    """A node whose jobs are not held to what they asked for."""
    return edited("node01", CGROUP_CONF, f"{key}=yes", f"{key}=no", RESTART_SLURMD)


def conf(node: str, old: str, new: str) -> Inject:
    """A line of slurm.conf that is another on one machine."""
    then = RESTART_SLURMCTLD if node == "controller" else RESTART_SLURMD
    return edited(node, SLURM_CONF, old, new, then)


def apptainer_conf(directive: str, right: str, wrong: str) -> Inject:
    """A directive of apptainer.conf that is another on one machine."""
    return edited("node02", APPTAINER_CONF, f"{directive} = {right}", f"{directive} = {wrong}")


FAULTS = [
    # Slurm: nodes and daemons
    pytest.param(
        Fault(
            drained("node02", "bad fan"),
            [
                (jobs.test_all_nodes_are_idle_or_mixed, r"node02: state IDLE\+DRAIN\S*, reason 'bad fan'; expected"),
                (
                    jobs.test_multi_node_allocation,
                    r"job \d+: not ended within .* PENDING, reason Nodes required for job are DOWN, DRAINED",
                ),
            ],
        ),
        id="node drained",
        marks=pytest.mark.seen_to_fail("SLU-08", "SLU-21"),
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
    # the registry
    pytest.param(
        sees(
            registry.test_tree,
            f"controller: {REGISTRY}: custom-images is d 0755 root:slurm; expected",
            mode("controller", f"{REGISTRY}/custom-images", "0755", "0775"),
        ),
        id="registry folder not for the group",
        marks=pytest.mark.seen_to_fail("STO-30"),
    ),
    pytest.param(
        Fault(
            shared_file(CATALOG, f"echo 'images: [' >{CATALOG}"),
            [
                (registry.test_tree, r"controller: \.registry/catalog\.yaml cannot be read: ParserError.* line 2"),
                (registry.test_catalogue_is_the_files, r"controller: \.registry/catalog\.yaml cannot be read"),
                (registry.test_digest_from_build_to_every_node, r"controller: \.registry/catalog\.yaml cannot be read"),
                (images.test_images_are_whole, r"controller: \.registry/catalog\.yaml cannot be read"),
                (registry.test_images_named_in_jobs_exist, r"controller: \.registry/catalog\.yaml cannot be read"),
            ],
        ),
        id="catalogue cut short",
        marks=pytest.mark.seen_to_fail("STO-30", "STO-32", "CON-07", "CON-08", "CON-25"),
    ),
    pytest.param(
        Fault(
            shared_file(CATALOG, f"echo 'images: []' >{CATALOG}"),
            [
                (registry.test_tree, f"controller: {CATALOG} lists no image"),
                (
                    registry.test_images_named_in_jobs_exist,
                    r"container-hello\.sbatch:\d+: names base-images/base\.sif, ",
                ),
            ],
        ),
        id="catalogue empty",
        marks=pytest.mark.seen_to_fail("STO-30", "CON-25"),
    ),
    pytest.param(
        Fault(
            shared_file(SIF, f"printf X | dd of={SIF} bs=1 seek=5000000 conv=notrunc status=none"),
            [
                (registry.test_catalogue_is_the_files, f"controller: {SIF} has sha256 .* was changed or damaged"),
                (images.test_images_are_whole, f"controller: {SIF} reads with sha256 .*, the catalogue says"),
                (registry.test_digest_from_build_to_every_node, "controller: base-images/base.sif reads with sha256 "),
            ],
        ),
        id="one byte of an image changed",
        marks=pytest.mark.seen_to_fail("STO-32", "CON-07", "CON-08"),
    ),
    pytest.param(
        sees(
            registry.test_catalogue_is_the_files,
            f"controller: {REGISTRY}/custom-images/mine.sif is not in .registry/catalog.yaml; add it or remove",
            shell(
                "controller", f"cp {SIF} {REGISTRY}/custom-images/mine.sif", f"rm -f {REGISTRY}/custom-images/mine.sif"
            ),
        ),
        id="image that nobody registered",
        marks=pytest.mark.seen_to_fail("STO-32"),
    ),
    pytest.param(
        Fault(
            shell(
                "node02",
                f"head -c 1000000 {SIF} >/root/stale.sif && mount --bind /root/stale.sif {SIF}",
                f"umount {SIF}; rm -f /root/stale.sif",
            ),
            [
                (images.test_images_are_whole, f"node02: {SIF} reads with sha256 .*, the catalogue says"),
                (registry.test_digest_from_build_to_every_node, "node02: base-images/base.sif reads with sha256 "),
                (registry.test_container_under_slurm, f"node02: srun apptainer exec {SIF} ended with 255 .*squashfuse"),
            ],
        ),
        id="stale copy of an image on one node",
        marks=pytest.mark.seen_to_fail("CON-07", "CON-08", "CON-13"),
    ),
    # the shared storage
    pytest.param(
        Fault(
            unmounted("node02"),
            [
                (
                    registry.test_new_image_is_visible_everywhere,
                    "node02: .*, written on node01, reads as nothing after",
                ),
                (
                    registry.test_fallback_without_shared_storage,
                    "node02: registry-path says .*/mnt/shared is not mounted",
                ),
                (
                    containers.test_same_image_on_all_nodes_at_once,
                    "node02: srun of one container on each .*FATAL: .*lstat",
                ),
                (containers.test_shared_folder_bound, "node02: .* bound to /bound can't be written: .*no such file"),
            ],
        ),
        id="shared storage not mounted",
        marks=pytest.mark.seen_to_fail("STO-31", "STO-33", "CON-14", "CON-19"),
    ),
    pytest.param(
        Fault(
            shell("node01", "mount -o remount,bind,ro /mnt/shared", "mount -o remount,bind,rw /mnt/shared"),
            [
                (registry.test_new_image_is_visible_everywhere, "node01: .* can't be written: .*Read-only file system"),
                (containers.test_shared_folder_bound, "node01: .* bound to /bound can't be written: .*INFO"),
                (jobs.test_output_files_and_working_directory, r"job \d+ \(streams\) on node01: ended as FAILED"),
            ],
        ),
        id="shared storage read-only on one node",
        marks=pytest.mark.seen_to_fail("STO-31", "CON-19", "SLU-15"),
    ),
    pytest.param(
        sees(
            registry.test_fallback_without_shared_storage,
            "node02: /opt/containers, the registry to fall back on, does not exist",
            hidden("node02", "/opt/containers"),
        ),
        id="nothing to fall back on",
        marks=pytest.mark.seen_to_fail("STO-33"),
    ),
    pytest.param(
        sees(
            registry.test_fallback_without_shared_storage,
            "node02: registry-path failed with 127: .*not found",
            hidden("node02", "/usr/local/bin/registry-path"),
        ),
        id="registry-path missing",
        marks=pytest.mark.seen_to_fail("STO-33"),
    ),
    # containers
    pytest.param(
        Fault(
            hidden("node02", "/usr/bin/apptainer"),
            [
                (runtime.test_version_and_dependencies, "node02: `apptainer --version` says .*not found"),
                (registry.test_container_under_slurm, f"node02: srun apptainer exec {SIF} ended with 2"),
                (images.test_missing_or_corrupt_image, "node02: a container of a missing image failed with 'runuser: "),
            ],
        ),
        id="no apptainer on one node",
        marks=pytest.mark.seen_to_fail("CON-01", "CON-13", "CON-23"),
    ),
    pytest.param(
        sees(
            runtime.test_security_configuration,
            f"node02: {APPTAINER_CONF}: 'mount hostfs' is yes; expected no",
            apptainer_conf("mount hostfs", "no", "yes"),
        ),
        id="host's file systems mounted",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
    pytest.param(
        sees(
            runtime.test_security_configuration,
            f"node02: {ECL} is not TOML: ",
            edited("node02", ECL, "activated = false", "activated = maybe"),
        ),
        id="broken execution policy",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
    pytest.param(
        sees(
            runtime.test_security_configuration,
            "node02: /usr/bin/apptainer is set-uid; expected no set-uid program",
            mode("node02", "/usr/bin/apptainer", "u+s", "u-s"),
        ),
        id="apptainer set-uid",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
    pytest.param(
        sees(
            runtime.test_exec_run_binds_tmp_home,
            r"node02: inside, the files put there read .*/home/hpc/\S+': None",
            apptainer_conf("mount home", "yes", "no"),
        ),
        id="no home in containers",
        marks=pytest.mark.seen_to_fail("CON-04"),
    ),
    pytest.param(
        sees(
            security.test_escalation_is_denied,
            r"node02: in a container, write /hostetc/passwd \(host\) gave OK; expected one of EACCES",
            mode("node02", "/etc/passwd", "0666", "0644"),
        ),
        id="accounts writable by all",
        marks=pytest.mark.seen_to_fail("CON-05"),
    ),
    pytest.param(
        sees(
            runtime.test_namespaces,
            "node02: without options, a container has its own pid namespace",
            wrapped("node02", 'verb=$1; shift; exec /usr/bin/apptainer "$verb" --pid "$@"'),
        ),
        id="wrapper that isolates too much",
        marks=pytest.mark.seen_to_fail("CON-06"),
    ),
    pytest.param(
        sees(
            runtime.test_environment,
            "node02: without options, a container has .* of its caller; expected .*AI_HOW_SECRET",
            wrapped("node02", 'exec env -i HOME="$HOME" PATH=/usr/bin:/bin /usr/bin/apptainer "$@"'),
        ),
        id="wrapper that loses the environment",
        marks=pytest.mark.seen_to_fail("CON-20"),
    ),
    pytest.param(
        sees(
            images.test_missing_or_corrupt_image,
            "node02: a container of a missing image ended with 0: FATAL: ",
            wrapped("node02", '/usr/bin/apptainer "$@"; exit 0'),
        ),
        id="wrapper that hides failures",
        marks=pytest.mark.seen_to_fail("CON-23"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_goes_red_names_the_culprit_and_recovers(live: Live, fault: Fault) -> None:
    with fault.inject(live):
        for check, says in fault.seen:
            verdict = live.judge(check)
            assert verdict.kind == "red", f"{check.__name__} is {verdict.kind}: {verdict.text}"
            assert re.match(says, verdict.text.replace("\n", " ")), f"{check.__name__} says:\n{verdict.text}"
    live.settle()
    for check, _ in fault.seen:
        again = live.judge(check)
        # A figure is the host's, which others use meanwhile; what the fault broke is a fact.
        assert again.kind in {"green", "figure"}, f"{check.__name__} stays {again.kind}: {again.text}"


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


# the whole product, as its user runs it

SELECTED = ("SLU-31", "SLU-40", "STO-32", "CON-02")
WHOLE = [
    pytest.param(
        "SLU-31",
        "node02: Slurm has gres/gpu=2, the node has 1 GPU devices",
        shell("node02", "rm /dev/fakegpu1", "mknod -m 0666 /dev/fakegpu1 c 240 1"),
        id="SLU-31",
        marks=pytest.mark.seen_to_fail("SLU-31"),
    ),
    pytest.param(
        "SLU-40",
        r"node0\d: /var/log/slurm/prolog\.log has 0 lines for job \d+, expected one",
        everywhere(
            lambda node: edited(node, "/usr/lib/ai-how/prolog", "/var/log/slurm/prolog.log", "/dev/null"),
            "node01",
            "node02",
        ),
        id="SLU-40",
        marks=pytest.mark.seen_to_fail("SLU-40"),
    ),
    pytest.param(
        "STO-32",
        f"controller: {SIF} has sha256 ",
        shared_file(CATALOG, f"sed -i 's/sha256:..../sha256:0000/' {CATALOG}"),
        id="STO-32",
        marks=pytest.mark.seen_to_fail("STO-32"),
    ),
    pytest.param(
        "CON-02",
        f"node02: {APPTAINER_CONF}: 'allow setuid' is yes; expected no",
        apptainer_conf("allow setuid", "no", "yes"),
        id="CON-02",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of pytest: its status, what it printed, and the verdicts and reasons of its report by check."""

    status: int
    text: str
    verdict: str
    verdicts: dict[str, str]
    reasons: dict[str, str]


def run(live: Live, folder: Path) -> Ended:
    """Run the selected checks on the kept cluster, in a process of pytest of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AI_HOW_", "PYTEST_"))}
    (folder / "pytest.ini").write_text("[pytest]\n")
    argv = [
        sys.executable,
        "-m",
        "pytest",
        str(SUITE),
        f"--rootdir={SUITE.parents[1]}",
        "-c",
        str(folder / "pytest.ini"),
    ]
    argv += ["-p", "no:cacheprovider", "--color=no", "-k", " or ".join(SELECTED)]
    argv += [f"--cluster={live.file}", "--cluster-keep=always", f"--reports={folder}"]
    done = subprocess.run(argv, cwd=folder, env=clean, capture_output=True, text=True, timeout=120, check=False)
    (written,) = folder.glob("*/report.json")
    report = json.loads(written.read_text())
    results = {one["ids"][0]: one for one in report["results"]}
    return Ended(
        done.returncode,
        done.stdout,
        report["verdict"],
        {check: one["verdict"] for check, one in results.items()},
        {check: one["reason"] for check, one in results.items()},
    )


@pytest.mark.parametrize(("check", "says", "inject"), WHOLE)
def test_exactly_one_check_of_a_run_is_red(live: Live, tmp_path: Path, check: str, says: str, inject: Inject) -> None:
    with inject(live):
        ended = run(live, tmp_path)
    live.settle()
    assert ended.verdicts == {one: "failed" if one == check else "passed" for one in SELECTED}, ended.text
    assert (ended.status, ended.verdict) == (1, "unfit")
    assert re.match(says, ended.reasons[check]), ended.reasons[check]
    assert re.search(rf"^(E +)?(AssertionError: )?{says}", ended.text, re.MULTILINE), ended.text


def test_the_mended_cluster_is_fit(live: Live, tmp_path: Path) -> None:
    ended = run(live, tmp_path)
    assert ended.verdicts == dict.fromkeys(SELECTED, "passed"), ended.text
    assert (ended.status, ended.verdict) == (0, "fit")
