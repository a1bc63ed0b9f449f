"""Running jobs for checks: what a cluster does wrong becomes a failure of the check that names the job or machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from pytest_ai_how.errors import CommandError, DeadlineExceeded
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import JobSpec, SacctRecord, Slurm


@dataclass(frozen=True, slots=True)
class Run:
    """A job that has ended: its accounting record and what it wrote to its standard output."""

    record: SacctRecord
    stdout: str

    @property
    def id(self) -> int:
        """The job's id."""
        return self.record.id

    @property
    def node(self) -> str:
        """The first node that it ran on."""
        return self.record.nodes[0] if self.record.nodes else "no node"

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"job {self.id} ({self.record.name}) on {','.join(self.record.nodes) or 'no node'}"


def roomiest(slurm: Slurm) -> str:
    """The compute node with most CPUs: more than one, as a node with one CPU has never two jobs at a time."""
    cpus = {name: record.cpus for name, record in slurm.nodes().items()}
    found = max(slurm.compute, key=cpus.__getitem__)
    assert cpus[found] > 1, (
        f"{found}: Slurm gives it {cpus[found]} CPU, and no compute node more, so that no two jobs can share one; "
        "expected several, as in the cluster's YAML; do: compare `cpus` there with slurm.conf"
    )
    return found


@contextmanager
def judged() -> Iterator[None]:
    """What did not happen in time is the cluster's failure, not the harness's."""
    try:
        yield
    except DeadlineExceeded as error:
        raise AssertionError(str(error)) from error


@contextmanager
def cancelling(slurm: Slurm) -> Iterator[list[int]]:
    """Cancel the jobs whose ids are put into the list when the block is left, however it is left."""
    ids: list[int] = []
    try:
        yield ids
    finally:
        if ids:
            slurm.cancel(*ids)


def submit(slurm: Slurm, job: JobSpec) -> int:
    """Submit a job; that sbatch refuses it is a failure."""
    try:
        return slurm.submit(job)
    except CommandError as error:
        said = error.result.stderr.strip() or error.result.stdout.strip()
        name = job.options.get("name", "check")
        raise AssertionError(
            f"{error.result.node}: sbatch refused job {name!r}: {said}; expected a job id; do: compare its options "
            "with `scontrol show node` and `scontrol show partition`"
        ) from error


def collect(slurm: Slurm, evidence: Evidence, ids: Sequence[int], within: float = 60.0) -> tuple[Run, ...]:
    """Wait for jobs; attach and return their records and outputs, array tasks each with its own."""
    try:
        with judged():
            records = slurm.wait_all(ids, within)
    except AssertionError:
        slurm.cancel(*ids)
        raise
    assert records, f"job {', '.join(map(str, ids))}: the accounting has no record of any of them"
    return tuple(_run(slurm, evidence, record) for record in records)


def run_jobs(slurm: Slurm, evidence: Evidence, jobs: Sequence[JobSpec], within: float = 60.0) -> tuple[Run, ...]:
    """Submit jobs together and collect them, in the order given."""
    ids = [submit(slurm, job) for job in jobs]
    found = {run.id: run for run in collect(slurm, evidence, ids, within)}
    missing = [id for id in ids if id not in found]
    assert not missing, f"job {', '.join(map(str, missing))}: the accounting has no record under this id"
    return tuple(found[id] for id in ids)


def run_job(slurm: Slurm, evidence: Evidence, job: JobSpec, within: float = 60.0) -> Run:
    """Submit one job and collect it."""
    return run_jobs(slurm, evidence, [job], within)[0]


def completed(run: Run) -> Run:
    """Return the run if the job completed; fail otherwise."""
    record = run.record
    assert (record.state, str(record.exit)) == ("COMPLETED", "0:0"), (
        f"{run.label}: ended as {record.state} with exit {record.exit}, expected COMPLETED with 0:0; "
        f"its output ends with {run.stdout[-200:]!r}"
    )
    return run


def ran_on(node: str, run: Run) -> Run:
    """Return the run if the job ran on the node that was asked for, and on no other; fail otherwise."""
    assert run.record.nodes == (node,), f"{run.label}: asked for {node} and ran elsewhere; expected it there alone"
    return run


def described(record: SacctRecord) -> str:
    """An accounting record as lines of evidence."""
    facts = asdict(record)
    return "\n".join(f"{key}: {value}" for key, value in facts.items())


def _run(slurm: Slurm, evidence: Evidence, record: SacctRecord) -> Run:
    number = f"{record.array[0]}_{record.array[1]}" if record.array else str(record.id)
    path = f"{slurm.folder}/{record.name}-{number}"
    evidence.attach(f"job {number} ({record.name}): accounting", described(record))
    read = slurm.query("cat", "--", f"{path}.out", check=False)
    evidence.result(read, f"job {number} ({record.name}): output")
    if record.state != "COMPLETED":
        evidence.result(slurm.query("cat", "--", f"{path}.err", check=False), f"job {number}: errors")
    return Run(record, read.stdout)
