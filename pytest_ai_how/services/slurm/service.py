"""Slurm on a cluster: what the suites ask of it, and whether it is ready."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, Unpack, cast

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import Partition
from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.errors import AiHowError, CommandError, CommandTimeout, DeadlineExceeded
from pytest_ai_how.lease.jobs import jobs_folder
from pytest_ai_how.services.protocol import Cause
from pytest_ai_how.services.readiness import Daemon, causes
from pytest_ai_how.services.slurm.options import JobOptions, JobSpec, arguments, placed
from pytest_ai_how.services.slurm.records import FINAL, NEVER, JobRecord, NodeRecord, PartitionRecord, SacctRecord
from pytest_ai_how.services.slurm.values import document
from pytest_ai_how.shell import Result

T = TypeVar("T")

#: Seconds between two looks at a job, at most: what a wait may be late by.
POLL = 0.1
# SlurmctldPort and SlurmdPort of slurm.conf.j2
_SLURMCTLD, _SLURMD = 6817, 6818
#: Seconds that a record may need from slurmctld through slurmdbd into the database.
ACCOUNTING_LAG = 15.0


class Slurm:
    """Slurm's commands, run on the controller as the user that jobs run as. Several threads may share one.

    Jobs start in, and write to, :attr:`folder` on the shared storage, so that the controller can read what they
    wrote. Every verb raises :class:`~pytest_ai_how.errors.CommandError` when its command fails, unless said
    otherwise.
    """

    name = "slurm"
    needs: tuple[str, ...] = ("munge",)

    def __init__(self, cluster: Cluster, run: str = "run") -> None:
        self.cluster = cluster
        self.user = cluster.config.user
        self.run = run

    # what there is

    def query(self, *argv: str, check: bool = True, timeout: float = 30.0, input: str = "") -> Result:
        """Run a command on the controller as the job user."""
        return self.cluster.controller.run(*argv, check=check, timeout=timeout, input=input, user=self.user)

    def nodes(self) -> dict[str, NodeRecord]:
        """All nodes that slurmctld knows, by name."""
        found = self._show("node", "nodes")
        return {record.name: record for record in map(NodeRecord.of, found)}

    def partitions(self) -> dict[str, PartitionRecord]:
        """All partitions, by name."""
        found = self._show("partition", "partitions")
        return {record.name: record for record in map(PartitionRecord.of, found)}

    def jobs(self) -> dict[int, JobRecord]:
        """All jobs that slurmctld still knows, by id: pending, running, and ended less than MinJobAge ago."""
        return {record.id: record for record in map(JobRecord.of, self._show("job", "jobs"))}

    def job(self, id: int) -> JobRecord:
        """One job. Raises :class:`AiHowError` when slurmctld does not know it (any more)."""
        result = self.query("scontrol", "show", "job", str(id), "--json")
        for raw in document(result).get("jobs") or ():
            record = JobRecord.of(raw)
            if record.id == id:
                return record
        raise AiHowError(f"job {id}", "slurmctld does not know this job", cure=f"look for it with `sacct -j {id}`")

    # making jobs

    @cached_property
    def folder(self) -> str:
        """The folder of this run's jobs on the shared storage; made, as the job user, when first asked for."""
        storage = self.cluster.config.storage
        if storage.kind == "none":
            raise AiHowError(
                self.cluster.name,
                "jobs need a folder that all nodes see, and storage.kind is 'none'",
                cure="declare the shared file system under `storage:` in the cluster's YAML",
            )
        jobs = jobs_folder(self.cluster.config)
        folder = f"{jobs}/{self.run}"
        made = self.query("mkdir", "-p", folder, check=False)
        if not made.ok:
            # The mount belongs to root where nobody has opened it to the job user yet.
            self.cluster.controller.run("install", "-d", "-m", "0755", "-o", self.user, jobs, folder)
        return folder

    def try_submit(self, job: JobSpec | str | Sequence[str], **options: Unpack[JobOptions]) -> Result:
        """Hand a job (a :class:`JobSpec`, a script, or one command's arguments) to sbatch; return what it said."""
        spec = job if isinstance(job, JobSpec) else JobSpec(job, **options)
        return self.query(*spec.argv(self._defaults(spec)), input=spec.script, check=False)

    def submit(self, job: JobSpec | str | Sequence[str], **options: Unpack[JobOptions]) -> int:
        """Submit a job as :meth:`try_submit` does and return its id. Raises when sbatch refuses it."""
        result = self.try_submit(job, **options)
        if not result.ok:
            raise CommandError(result)
        return submitted(result)

    def srun(self, *argv: str, within: float = 60.0, **options: Unpack[JobOptions]) -> Result:
        """Run a command by srun and return its outcome, whatever its status.

        That it did not end ``within`` seconds is an outcome too: status -9, and on standard error what Slurm has of
        the job, which is then cancelled.
        """
        options.setdefault("chdir", self.folder)
        options = {**options, **placed(options, self._partitions)}
        try:
            return self.query("srun", *arguments(options), *argv, timeout=within, check=False)
        except CommandTimeout as error:
            return self._given_up(error)

    def _given_up(self, error: CommandTimeout) -> Result:
        """The outcome of an srun that did not end; ``srun: job 12 queued and waiting for resources`` (24.11.5)."""
        said, seen = error.result.stderr, ""
        if queued := re.search(r"^srun: job (\d+) queued", said, re.MULTILINE):
            listed = self.query("squeue", "--noheader", "--format=%T, reason %r", f"--jobs={queued[1]}", check=False)
            self.query("scancel", queued[1], check=False)
            seen = f"; job {queued[1]} is {listed.stdout.strip() or 'unknown to slurmctld'}"
        return replace(error.result, stderr=f"{said}srun did not end within {error.timeout:g} s{seen}\n")

    def cancel(self, *ids: int) -> Result:
        """Cancel jobs; those that have ended are no error."""
        return self.query("scancel", *map(str, ids))

    # waiting for jobs

    def until(self, id: int, *states: str, within: float = 60.0) -> JobRecord:
        """Wait until a job is in one of ``states`` and return it.

        Raises :class:`DeadlineExceeded` when late, and at once when the job ended in another state.
        """
        seen = ""

        def probe() -> JobRecord | None:
            nonlocal seen
            record = self.job(id)
            seen = f"{record.state}, reason {record.reason}"
            if set(states) & set(record.states):
                return record
            if record.final:
                raise DeadlineExceeded(f"job {id}", f"ended as {seen}", expected=" or ".join(states))
            return None

        what = f"{' or '.join(states)}"
        return self._wait(probe, within, what, f"job {id}", lambda: seen)

    def ended(self, *ids: int, within: float | Deadline = 60.0) -> dict[int, JobRecord]:
        """Wait until jobs have ended, by slurmctld's own record, and return them; an array's id stands for its tasks.

        Raises :class:`DeadlineExceeded` naming the jobs that had not, and at once for one that no waiting starts.
        """
        seen: dict[str, str] = {}

        def probe() -> bool:
            listed = self.query(
                "squeue", "--noheader", "--states=all", "--array", f"--user={self.user}", "--format=%A|%F|%T|%r"
            )
            rows = [line.strip().split("|", 3) for line in listed.stdout.splitlines()]
            mine = [row for row in rows if int(row[0]) in ids or int(row[1]) in ids]
            seen.clear()
            seen.update((row[0], f"{row[2]}, reason {row[3]}") for row in mine if row[2] not in FINAL)
            if stuck := {f"job {row[0]}": row[3] for row in mine if row[2] == "PENDING" and row[3] in NEVER}:
                reasons = " and ".join(sorted(set(stuck.values())))
                raise DeadlineExceeded(
                    ", ".join(stuck),
                    f"PENDING, reason {reasons}: will never start",
                    expected="less than what the partition gives",
                    cure="compare `scontrol show job` with `scontrol show partition` and `sacctmgr show qos`",
                )
            missing = set(ids) - {int(word) for row in mine for word in row[:2]}
            seen.update((str(id), "unknown to slurmctld") for id in missing)
            return not seen

        where = f"job {', '.join(map(str, ids))}"
        self._wait(probe, within, "ended", where, lambda: _shown(seen))
        records = self.jobs()
        return {id: job for id, job in records.items() if id in ids or (job.array is not None and job.array[0] in ids)}

    def wait(self, id: int, within: float = 60.0) -> SacctRecord:
        """Wait until a job has ended and return its accounting record."""
        for record in self.wait_all([id], within):
            if record.id == id:
                return record
        raise AiHowError(f"job {id}", "the accounting has no record under this id", expected="one record")

    def wait_all(self, ids: Iterable[int], within: float = 60.0) -> tuple[SacctRecord, ...]:
        """Wait until jobs have ended and return their accounting records, array tasks each with its own.

        Without accounting in the configuration, the records are slurmctld's.
        """
        deadline = Deadline(within * self.cluster.pace)
        jobs = self.ended(*ids, within=deadline)
        if not self._accounting:
            cluster = self.cluster.config.slurm.cluster if self.cluster.config.slurm else ""
            return tuple(SacctRecord.of_job(job, cluster) for job in jobs.values())
        seen: dict[str, str] = {}

        def probe() -> tuple[SacctRecord, ...] | None:
            seen.clear()
            try:
                records = self.sacct(*jobs)
            except CommandError as error:
                # slurmdbd may be away for a while; slurmctld keeps the records until it is back.
                seen["sacct"] = str(error).splitlines()[0]
                return None
            seen.update((str(id), "no record") for id in set(jobs) - {record.id for record in records})
            seen.update((str(record.id), record.state) for record in records if not record.final)
            return None if seen else records

        return wait_for(
            probe,
            within=max(deadline.left, ACCOUNTING_LAG * self.cluster.pace),
            what="final in the accounting",
            where=f"job {', '.join(map(str, jobs))}",
            at_most=POLL,
            last_seen=lambda: _shown(seen),
            cure=f"look at slurmdbd on {self.cluster.controller.name}: `sacctmgr show stats`, slurmdbd.log",
        )

    def sacct(self, *ids: int) -> tuple[SacctRecord, ...]:
        """The accounting's present records of these jobs, array tasks each with its own; maybe fewer than asked for."""
        result = self.query("sacct", "--json", f"--jobs={','.join(map(str, ids))}")
        return tuple(SacctRecord.of(raw) for raw in document(result).get("jobs") or ())

    def _wait(
        self, probe: Callable[[], T | None], within: float | Deadline, what: str, where: str, seen: Callable[[], str]
    ) -> T:
        """Look every :data:`POLL` seconds at most, for ``within`` seconds; both are longer where machines are slow."""
        pace = self.cluster.pace
        end = within if isinstance(within, Deadline) else within * pace
        return wait_for(probe, within=end, what=what, where=where, at_most=POLL * pace, last_seen=seen)

    # what jobs read and wrote

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file on the shared storage, as the job user; see :meth:`Node.write`."""
        self.cluster.controller.write(path, content, user=self.user)

    def output(self, id: int) -> str:
        """What a job wrote to its standard output, by the path that slurmctld names."""
        return self.read(self.job(id).stdout)

    def errors(self, id: int) -> str:
        """What a job wrote to its standard error."""
        return self.read(self.job(id).stderr)

    def read(self, path: str) -> str:
        """Read a file on the shared storage, as the job user."""
        return self.query("cat", "--", path).stdout

    # readiness

    def faults(self) -> tuple[str, ...]:
        """Why Slurm is not ready: a reason a line, the machine first; empty when it is ready.

        Only what may come by waiting is one: a node of ours that is still starting. What a drained node, or any node
        of a cluster that others made, means for the cluster is for the checks to say.
        """
        controller = self.cluster.controller.name
        try:
            nodes = self.nodes()
        except AiHowError as error:
            said = str(error).splitlines()[0].removeprefix(f"{controller}: ")
            return (f"{controller}: slurmctld does not answer: {said}; do: `systemctl status slurmctld` there",)
        if not self.cluster.config.is_ours:
            return ()
        found = []
        for name in self.compute:
            record = nodes.get(name)
            if record is None:
                found.append(f"{name}: not known to slurmctld; expected in slurm.conf as the cluster's YAML names it")
            elif not record.usable and "DRAIN" not in record.states:
                found.append(node_fault(record))
        return tuple(found)

    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with slurmctld and each slurmd: a unit that failed, a port that another program has taken."""
        if not self.cluster.config.is_ours:  # units and ports are known where slurm.conf is ours
            return ()
        nodes = [(self.cluster[name], Daemon("slurmd.service", _SLURMD)) for name in self.compute]
        return causes([(self.cluster.controller, Daemon("slurmctld.service", _SLURMCTLD)), *nodes])

    @property
    def compute(self) -> tuple[str, ...]:
        """The names of the configured compute nodes that start by themselves."""
        return tuple(node.name for node in self.cluster.config.on("compute") if node.auto_start)

    @property
    def _accounting(self) -> bool:
        slurm = self.cluster.config.slurm
        return slurm is None or slurm.accounting

    def _show(self, kind: str, key: str) -> list[dict[str, Any]]:
        result = self.query("scontrol", "show", kind, "--json")
        return cast("list[dict[str, Any]]", document(result).get(key) or [])

    def _defaults(self, job: JobSpec) -> JobOptions:
        pattern = "%x-%A_%a" if "array" in job.options else "%x-%j"
        return {
            "name": "check",
            "chdir": self.folder,
            "output": f"{self.folder}/{pattern}.out",
            "error": f"{self.folder}/{pattern}.err",
            **placed(job.options, self._partitions),
        }

    @property
    def _partitions(self) -> tuple[Partition, ...]:
        slurm = self.cluster.config.slurm
        return slurm.partitions if slurm else ()


def submitted(result: Result) -> int:
    """The job id in the answer of ``sbatch --parsable``: ``12`` or ``12;cluster``."""
    word = result.stdout.strip().split(";")[0]
    if not word.isdecimal():
        raise AiHowError(result.node, f"sbatch answered {result.stdout.strip()!r}", expected="a job id")
    return int(word)


def node_fault(record: NodeRecord) -> str:
    """Say in one line why a node is not usable."""
    reason = f"reason {record.reason!r}" if record.reason else "no reason set"
    return (
        f"{record.name}: Slurm has it as {record.state}, {reason}; expected IDLE, MIXED or ALLOCATED; "
        f"do: read slurmd's log on {record.name}"
    )


def _shown(seen: dict[str, str]) -> str:
    return ", ".join(f"{id} {state}" for id, state in list(seen.items())[:10])
