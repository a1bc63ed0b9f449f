"""A run with every verdict in it, for the tests of the writers."""

from __future__ import annotations

from pytest_ai_how.report.assemble import assemble
from pytest_ai_how.report.items import Attachment, Measurement, Step
from pytest_ai_how.report.model import Absent, CheckResult, Row, Run, RunReport, Severity, Verdict

BASE = 1_790_000_000.0
TITLES = {"TASK-041": "BeeGFS performance testing", "TASK-042": "SLURM integration testing"}
ROWS = (
    Row(id="STO-18", title="Sequential write", tasks=("TASK-041",), phase="phase6"),
    Row(id="STO-21", title="Random read", severity=Severity.INFORMATIONAL, tasks=("TASK-041",), phase="phase6"),
    Row(
        id="SLU-12",
        title="srun on each node",
        criterion="each host name comes back",
        severity=Severity.BLOCKING,
        tasks=("TASK-042",),
        phase="phase6",
    ),
    Row(id="SLU-13", title="sbatch runs", severity=Severity.BLOCKING, tasks=("TASK-042", "TASK-041"), phase="phase6"),
    Row(id="SLU-31", title="GPU isolation", severity=Severity.BLOCKING, tasks=("TASK-042",), phase="phase6"),
    Row(id="SLU-32", title="A real GPU computes", severity=Severity.BLOCKING, tasks=("TASK-042",), phase="phase6"),
    Row(id="INF-01", title="VM running", severity=Severity.BLOCKING, phase="phase1"),
    Row(id="INF-02", title="Domain features", phase="phase1"),
)
RUN = Run(
    id="20261123-160000-a1b2",
    cluster="local",
    driver="nspawn",
    started=BASE,
    ended=BASE + 200,
    version="0.1.0",
    command="pytest suites/phase6 --cluster=local",
    host={"kernel": "6.1.0", "cgroup": "hybrid v1"},
    absent=(Absent(name="gpu.real", reason="simulated devices"),),
)
DESELECTED = {"INF-01": "not in suites/phase6"}


def row(name: str, severity: Severity = Severity.DEFAULT, *tasks: str) -> Row:
    return Row(id=name, title=f"claim {name}", severity=severity, tasks=tasks or ("TASK-042",), phase="phase6")


def item(verdict: Verdict, *ids: str, reason: str = "", nodeid: str = "", seconds: float = 1.0) -> CheckResult:
    nodeid = nodeid or f"suites/phase6/test_task042.py::test_{'_'.join(ids).lower().replace('-', '_')}"
    return CheckResult(nodeid=nodeid, verdict=verdict, ids=ids, reason=reason, started=BASE, seconds=seconds)


def results() -> tuple[CheckResult, ...]:
    said = Attachment(name="node02: srun hostname", content="node02$ srun hostname\nexit status 1 after 0.10 s\n")
    figure = Measurement(
        metric="storage.seq_write",
        value=12.3,
        unit="MiB/s",
        node="node01",
        ceiling=100.0,
        fraction=0.123,
        limit="at least 40 MiB/s (40% of storage.raw.seq_write, 100 MiB/s)",
        where="configs/limits/local.yaml:12",
        source="STO-18",
        verdict="exceeded",
        reason="storage.seq_write is 12.3 MiB/s, expected at least 40 MiB/s",
    )
    step = Step(text="ask node02", ok=False, started=BASE, seconds=0.1, attachments=(0,))
    return (
        item(
            Verdict.FAILED, "SLU-12", reason="node02: srun hostname exited with 1 <b>&\x1b[0m", seconds=2.0
        ).model_copy(
            update={
                "attachments": (said, Attachment.of("raw", b"\xff\x00bin", kind="application/octet-stream")),
                "steps": (step,),
                "node": "node02",
                "trace": "test_task042.py:12: AssertionError\x00",
                "location": "suites/phase6/test_task042.py:12",
                "worker": "gw1",
            }
        ),
        item(Verdict.PASSED, "SLU-13", seconds=46.2).model_copy(update={"attachments": (said,)}),
        item(Verdict.BLOCKED, "SLU-31", reason="blocked: step 'slurm' failed: node02: no answer"),
        item(Verdict.NOT_APPLICABLE, "SLU-32", reason="no gpu.real: simulated devices", seconds=0.0),
        item(Verdict.FAILED, "STO-18", reason="node01: storage.seq_write is 12.3 MiB/s").model_copy(
            update={"measurements": (figure,)}
        ),
        item(Verdict.BROKEN, "STO-21", reason="node01: fio did not end within 60 s and was killed"),
        item(Verdict.NO_EVIDENCE, nodeid="tests/test_site.py::test_own", reason="nothing was measured"),
    )


def report() -> RunReport:
    return assemble(RUN, results(), ROWS, titles=TITLES, deselected=DESELECTED)
