from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.errors import AiHowError, CommandError, CommandTimeout, DeadlineExceeded
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.shell import Result
from tests.fakes import Script, fake_cluster

DATA = Path(__file__).parents[2] / "data" / "slurm"
MKDIR = {"mkdir -p": ""}


def slurm(script: Script) -> Slurm:
    return Slurm(fake_cluster({"controller": script}), run="r1")


def calls(slurm: Slurm) -> list[Any]:
    return slurm.cluster.controller.transport.calls  # type: ignore[attr-defined]  # a FakeTransport


def text(command: str) -> str:
    return (DATA / f"24.11.5-{command}.v0.0.42.json").read_text()


def nodes(**changes: object) -> str:
    found = json.loads(text("scontrol-node"))
    found["nodes"][1].update(changes)
    return json.dumps(found)


def job(id: int = 2, **changes: object) -> str:
    found = json.loads(text("scontrol-job"))
    found["jobs"] = [raw | changes for raw in found["jobs"] if raw["job_id"] == id]
    return json.dumps(found)


def test_ready_when_all_nodes_are_usable() -> None:
    assert slurm({"scontrol show node": nodes()}).faults() == ()


def test_a_node_that_is_down_is_named_with_its_reason() -> None:
    (fault,) = slurm({"scontrol show node": nodes(state=["DOWN", "NOT_RESPONDING"], reason="Not responding")}).faults()
    assert fault.startswith("node02: Slurm has it as DOWN+NOT_RESPONDING, reason 'Not responding'; expected IDLE")
    assert "do: read slurmd's log on node02" in fault


def test_a_node_that_somebody_drained_is_for_the_checks_to_judge() -> None:
    """Waiting brings no drained node back, and a run that waited could not say which check it fails."""
    assert slurm({"scontrol show node": nodes(state=["IDLE", "DRAIN"], reason="fan broken")}).faults() == ()


def test_a_down_node_of_a_cluster_that_others_made_is_for_the_checks_to_judge() -> None:
    down = {"scontrol show node": nodes(state=["DOWN"], reason="Not responding")}
    ours = fake_cluster({"controller": down})
    theirs = fake_cluster({"controller": down}, config=ours.config.model_copy(update={"driver": "ssh"}))
    assert Slurm(ours).faults()
    assert Slurm(theirs).faults() == ()


def test_a_configured_node_that_slurm_does_not_know_is_a_fault() -> None:
    (fault,) = slurm({"scontrol show node": nodes(name="other")}).faults()
    assert fault.startswith("node02: not known to slurmctld")


def test_slurmctld_that_does_not_answer_is_one_fault_of_the_controller() -> None:
    down = Result((), 1, stderr="slurm_load_node error: Unable to contact slurm controller (connect failure)\n")
    (fault,) = slurm({"scontrol show node": down}).faults()
    assert fault.startswith("controller: slurmctld does not answer: `scontrol show node --json` exited with 1")
    assert "Unable to contact slurm controller" in fault


def test_a_script_is_handed_over_by_standard_input_as_the_job_user() -> None:
    found = slurm({**MKDIR, "sbatch": "12\n"})
    assert found.submit("echo $HOME; sleep 1", mem=50, name="x;y") == 12
    call = calls(found)[-1]
    assert call.user == "hpc"
    assert call.input == b"#!/bin/sh\necho $HOME; sleep 1\n"
    assert call.argv[:2] == ("sbatch", "--parsable")
    assert {"--job-name=x;y", "--chdir=/mnt/shared/jobs/r1", "--output=/mnt/shared/jobs/r1/%x-%j.out"} <= set(call.argv)


def test_a_job_for_a_node_goes_to_a_partition_that_has_it() -> None:
    """Seen on a cluster whose default partition had its nodes with GPUs only: all the others were called broken."""
    service = slurm({**MKDIR, "sbatch": "3\n", "srun": "node02\n"})
    config = service.cluster.config
    assert config.slurm
    gpu, cpu = (config.slurm.partitions[0].model_copy(update={"name": name}) for name in ("gpu", "cpu"))
    gpu, cpu = gpu.model_copy(update={"nodes": ("node01",)}), cpu.model_copy(update={"nodes": ("node02",)})
    parts = config.slurm.model_copy(update={"partitions": (gpu, cpu.model_copy(update={"default": False}))})
    service.cluster.config = config.model_copy(update={"slurm": parts})  # type: ignore[misc]
    service.submit("true", nodelist="node02")
    service.srun("hostname", nodelist="node02")
    service.submit("true", nodelist="node01")
    service.submit("true", nodelist="node01,node02")
    said = [call.argv for call in calls(service) if "sbatch" in call.argv or "srun" in call.argv]
    assert ["--partition=cpu" in argv for argv in said] == [True, True, False, False]


def test_arguments_are_quoted_and_a_script_with_an_interpreter_stays_as_it_is() -> None:
    found = slurm({**MKDIR, "sbatch": "12;cluster\n"})
    assert found.submit(["echo", "a b", "$x"]) == 12
    assert calls(found)[-1].input == b"#!/bin/sh\necho 'a b' '$x'\n"
    found.submit("#!/usr/bin/python3\nprint(1)\n", array="0-1")
    assert calls(found)[-1].input.startswith(b"#!/usr/bin/python3\n")
    assert "--output=/mnt/shared/jobs/r1/%x-%A_%a.out" in calls(found)[-1].argv


def test_a_spec_carries_arguments_for_the_script() -> None:
    found = slurm({**MKDIR, "sbatch": "12\n"})
    assert found.submit(JobSpec("#!/bin/bash\n#SBATCH --time=1\n\nexit $1\n", args=("7", "a b"), mem=50)) == 12
    assert "--mem=50M" in calls(found)[-1].argv
    assert calls(found)[-1].input == b"#!/bin/bash\n#SBATCH --time=1\n\nset -- 7 'a b'\nexit $1\n"
    with pytest.raises(ValueError, match="python3': only a shell script"):
        JobSpec("#!/usr/bin/python3\n", args=("7",))


def test_a_refused_job_is_an_error_with_slurms_words() -> None:
    refused = Result(
        (), 1, stderr="sbatch: error: Batch job submission failed: Requested node configuration is not available\n"
    )
    with pytest.raises(CommandError, match=r"^controller: `sbatch .*Requested node configuration is not available"):
        slurm({**MKDIR, "sbatch": refused}).submit("true", gres="gpu:9")
    assert not slurm({**MKDIR, "sbatch": refused}).try_submit("true").ok


def test_an_answer_of_sbatch_that_is_no_job_id() -> None:
    with pytest.raises(AiHowError, match=r"^controller: sbatch answered ''"):
        slurm({**MKDIR, "sbatch": ""}).submit("true")


def test_the_folder_is_made_for_the_job_user_when_the_mount_is_roots() -> None:
    found = slurm({"mkdir": Result((), 1, stderr="mkdir: Permission denied"), "install": ""})
    assert found.folder == "/mnt/shared/jobs/r1"
    assert found.folder == "/mnt/shared/jobs/r1"
    assert [(call.argv[0], call.user) for call in calls(found)] == [("mkdir", "hpc"), ("install", None)]


def test_waiting_ends_with_the_record_of_the_accounting() -> None:
    found = slurm(
        {
            "squeue": ["2|2|RUNNING|None\n", "2|2|COMPLETING|None\n", "2|2|FAILED|NonZeroExitCode\n"],
            "scontrol show job": job(),
            "sacct": [json.dumps({"jobs": []}), text("sacct")],
        }
    )
    record = found.wait(2, within=20)
    assert (record.id, record.state, str(record.exit)) == (2, "FAILED", "7:0")
    assert [call.argv[0] for call in calls(found)] == ["squeue", "squeue", "squeue", "scontrol", "sacct", "sacct"]


def test_a_job_that_vanished_has_not_ended() -> None:
    found = slurm({"squeue": "", "scontrol": job()})
    with pytest.raises(DeadlineExceeded, match=r"^job 2: not ended within 0.2 s; last seen: 2 unknown to slurmctld"):
        found.ended(2, within=0.2)


def test_an_array_has_ended_when_all_its_tasks_have() -> None:
    found = slurm(
        {
            "squeue": ["12|12|COMPLETED|None\n16|12|RUNNING|None\n", "12|12|COMPLETED|None\n16|12|COMPLETED|None\n"],
            "scontrol": text("scontrol-job"),
        }
    )
    assert sorted(found.ended(12)) == [12, 16]


def test_waiting_for_a_state_ends_at_once_when_the_job_ended_otherwise() -> None:
    with pytest.raises(AiHowError, match=r"^job 2: ended as FAILED, reason NonZeroExitCode\n  expected: RUNNING"):
        slurm({"scontrol show job 2": job()}).until(2, "RUNNING")
    assert slurm({"scontrol show job 11": job(11)}).until(11, "RUNNING").nodes == ("node01",)


def test_an_unknown_job() -> None:
    with pytest.raises(AiHowError, match=r"^job 999: slurmctld does not know this job"):
        slurm({"scontrol show job 999": json.dumps({"jobs": []})}).job(999)


def test_output_is_read_where_slurmctld_says_it_is() -> None:
    found = slurm({"scontrol show job 2": job(), re.compile("^cat -- /mnt/shared/jobs/slurm-2.out$"): "hello\n"})
    assert found.output(2) == "hello\n"


def test_srun_returns_failures_too() -> None:
    found = slurm({**MKDIR, "srun": Result((), 7)})
    assert found.srun("sh", "-c", "exit 7", nodelist="node01", mem=10).returncode == 7
    assert calls(found)[-1].argv == (
        "srun",
        "--nodelist=node01",
        "--mem=10M",
        "--chdir=/mnt/shared/jobs/r1",
        "sh",
        "-c",
        "exit 7",
    )


QUEUED = (
    "srun: Required node not available (down, drained or reserved)\nsrun: job 154 queued and waiting for resources\n"
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (QUEUED, "did not end within 60 s; job 154 is PENDING, reason PartitionDown\n"),
        ("", "did not end within 60 s\n"),
    ],
)
def test_srun_that_does_not_end_is_an_outcome(said: str, expected: str) -> None:
    late = CommandTimeout(Result(("srun",), -9, "", said, node="controller"), 60.0)
    found = slurm({**MKDIR, "srun": late, "squeue": "PENDING, reason PartitionDown\n", "scancel": ""})
    result = found.srun("hostname")
    assert (result.returncode, result.stderr) == (-9, f"{said}srun {expected}")
    cancelled = [call.argv for call in calls(found) if call.argv[0] == "scancel"]
    assert cancelled == ([("scancel", "154")] if said else [])


def test_on_slow_machines_a_wait_is_longer() -> None:
    found = slurm({"squeue": "", "scontrol": job()})
    for node in found.cluster.nodes:
        node.pace = 2.0
    with pytest.raises(DeadlineExceeded, match=r"^job 2: not ended within 0.4 s"):
        found.ended(2, within=0.2)
