"""Training on this machine as it is, by the Slurm that runs on it: our own driver, transport and launcher.

Slurm's commands are programs that answer as 24.11.5 does and run what is handed in at once; the interpreter is one that
leaves what a real training left.
"""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.capabilities import declared_absent
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.host import HostDriver
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.undo import undo_all
from pytest_ai_how.lease.undoers import generic_undoers
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.munge import Munge
from pytest_ai_how.services.slurm import Slurm
from suites.mlops._trainer import Trainer
from suites.mlops.training import test_training as checks
from suites.mlops.training._run import request_of, work_of
from tests.unit.suites.mlops_fakes import DATA, scale
from tests.unit.suites.task042_fakes import PARTITIONS, FakeJob, new_measure, nodes_json

NODE = "box"
ME = pwd.getpwuid(os.geteuid()).pw_name
PROGRAMS = {
    # It runs the job before it says the number, in the folder and into the files that are asked for.
    "sbatch": """id=$(($(cat "$0.ids" 2>/dev/null || echo 0) + 1))
echo $id >"$0.ids"
echo "$@" >>"$0.called"
for word; do
  case $word in
    --chdir=*) cd "${word#*=}" ;;
    --output=*) out=$(echo "${word#*=}" | sed "s/%j/$id/") ;;
    --error=*) err=$(echo "${word#*=}" | sed "s/%j/$id/") ;;
  esac
done
sh -s >"$out" 2>"$err" || exit 1
echo $id
""",
    "srun": """while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
""",
    "scontrol": """case $2 in
  node) if [ "$3" = --json ]; then cat "$0.nodes"; elif [ "$3" != box ]; then echo "Node $3 not found"; exit 1; fi ;;
  partition) cat "$0.partitions" ;;
  job) if [ "$3" = --json ]; then cat "$0.jobs"; else cat "$0.job-$3"; fi ;;
esac
""",
    "squeue": 'cat "$0.listed"\n',
    "sacct": 'for word; do case $word in --jobs=*) cat "$0.job-${word#*=}" ;; esac; done\n',
    "munge": "echo MUNGE:x\n",
    "unmunge": 'cat >/dev/null; echo "STATUS: Success (0)"\n',
    # The interpreter.
    "python": """for word; do case $word in --out=*) out=${word#*=} ;; esac; done
case $1 in
  */train.py) cp "$0.metrics" "$out/metrics.json"; cp "$0.ranks" "$out/ranks.json"; echo "by $OMP_NUM_THREADS" ;;
esac
""",
}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Slurm's commands, first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    times = (1795449000, 1795449001, 1795449091)
    jobs = [FakeJob(name, id, nodes=NODE, times=times) for id, name in enumerate(("stage", "train"), 1)]
    nodes = json.loads(nodes_json())["nodes"][:1]
    nodes[0] |= {"name": NODE, "gres": ""}
    texts = {
        "scontrol.nodes": json.dumps({"nodes": nodes}),
        "scontrol.partitions": PARTITIONS,
        "scontrol.jobs": json.dumps({"jobs": [job.raw(job.state) for job in jobs]}),
        "squeue.listed": "".join(f"{job.id}|{job.id}|COMPLETED|None\n" for job in jobs),
        "python.metrics": (DATA / "training-metrics.json").read_text(),
        "python.ranks": (DATA / "training-ranks.json").read_text(),
    }
    for job in jobs:
        texts[f"scontrol.job-{job.id}"] = json.dumps({"jobs": [job.raw(job.state)]})
        texts[f"sacct.job-{job.id}"] = json.dumps({"jobs": [job.accounted()]})
    for name, text in texts.items():
        (folder / name).write_text(text)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def config(place: Path, python: Path) -> ClusterConfig:
    found = ClusterConfig.model_validate(
        {
            "version": 1,
            "name": "unit-host",
            "driver": "host",
            "launcher": "slurm",
            "python": str(python),
            "nodes": [{"name": NODE, "roles": ["controller", "compute"], "address": "127.0.0.1"}],
            "storage": {"kind": "scratch", "mount": str(place)},
            "slurm": {"cluster": "box", "partitions": [{"name": "gpu", "nodes": [NODE], "default": True}]},
            "containers": {"runtime": "none"},
        }
    )
    return found.model_copy(update={"user": ME})  # root may not be named in a YAML, and may run this test


def test_training_by_the_slurm_of_this_machine(lease: Lease, programs: Path, evidence: Evidence) -> None:
    place = programs.resolve().parent / "work"
    wanted, driver = config(place, programs / "python"), HostDriver()
    assert {"slurm", "accounting", "pytorch", "shared-storage"}.isdisjoint(declared_absent(wanted))
    driver.check(wanted)
    driver.up(wanted, lease.journal.of("machines"))
    cluster = Cluster(wanted, [Node(wanted.controller, driver.transport(wanted, NODE))])
    slurm = Slurm(cluster, run="r1")
    assert Munge(cluster).faults() == slurm.faults() == ()
    trainer = Trainer(SlurmLauncher(slurm), Once(lease), cluster, "", "r9", python=str(programs / "python"))
    request = request_of(trainer, work_of(scale()), evidence)
    assert (request.on, request.partition) == ((NODE,), "gpu")
    checks.test_time(trainer, scale(), evidence, new_measure())
    checks.test_metrics(trainer, scale(), evidence)
    found = trainer.trained("train", work_of(scale()), request)
    assert (found.ended.id, found.ended.nodes, found.stdout) == ("2", (NODE,), "by 1\n")
    assert found.out == f"{slurm.folder}/mlops-r9/train"
    assert Path(found.out).is_relative_to(place)
    assert Path(found.out, "metrics.json").owner() == ME
    stage, train = (programs / "sbatch.called").read_text().splitlines()
    assert "--job-name=stage" in stage
    assert "--nodelist=box" in train
    undo_all(lease.journal.of("machines"), generic_undoers("host", programs.parent))
    assert not place.exists(), "what jobs wrote goes with it"


def test_a_process_on_the_only_machine_is_killed_whatever_that_calls_itself(
    lease: Lease, programs: Path, tmp_path: Path
) -> None:
    wanted, killed = config(tmp_path / "work", programs / "python"), programs / "kill"
    killed.write_text('#!/bin/sh\necho "$@" >"$0.called"\n')
    killed.chmod(0o755)
    cluster = Cluster(wanted, [Node(wanted.controller, HostDriver().transport(wanted, NODE))])
    trainer = Trainer(SlurmLauncher(Slurm(cluster)), Once(lease), cluster, "", "r9")
    trainer._kill("what-it-calls-itself", "4711")
    assert (programs / "kill.called").read_text() == "-KILL 4711\n"
