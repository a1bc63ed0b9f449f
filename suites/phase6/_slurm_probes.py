"""What is looked up on the nodes themselves, because Slurm's own word is what is being checked."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence

#: Character devices that are GPUs: simulated ones and NVIDIA's.
GPU_DEVICES = ("fakegpu[0-9]*", "nvidia[0-9]*")


@dataclass(frozen=True, slots=True)
class Traces:
    """What a job has on a node: processes (``pid command``) and cgroup directories."""

    node: str
    processes: tuple[str, ...]
    cgroups: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.processes or self.cgroups)

    def __str__(self) -> str:
        return "; ".join((*self.processes, *self.cgroups)) or "nothing"


def traces(node: Node, job: int, evidence: Evidence) -> Traces:
    """Find a job's processes (by SLURM_JOB_ID in their environment, read as root) and its cgroups on one node."""
    name = f"job {job} on {node.name}"
    # grep ends with 1 when no process fits and with 2 when one ended while it was read: its output decides.
    environ = node.sh(f"grep -lzsx 'SLURM_JOB_ID={job}' /proc/[0-9]*/environ", check=False)
    pids = [path.split("/")[2] for path in environ.stdout.split()]
    listed = node.run("ps", "-o", "pid=,args=", "-p", ",".join(pids), check=False) if pids else environ
    evidence.result(listed, f"{name}: processes")
    directories = node.run("find", "/sys/fs/cgroup", "-type", "d", "-name", f"job_{job}", check=False)
    evidence.result(directories, f"{name}: cgroups")
    processes = tuple(line.strip() for line in listed.stdout.splitlines()) if pids else ()
    return Traces(node.name, processes, tuple(directories.stdout.split()))


def first_traces(node: Node, job: int, evidence: Evidence) -> Traces:
    """Wait until a running job has a process (slurmctld says RUNNING before it has one), and return its traces.

    Whoever claims that nothing is left shows by this that the same look would have found it.
    """
    wait_for(
        lambda: traces(node, job, Evidence()).processes,
        within=20 * node.pace,
        what=f"running a process of job {job}",
        where=node.name,
        cure=f"read slurmd's log on {node.name}",
    )
    return traces(node, job, evidence)


def gpu_devices(node: Node, evidence: Evidence) -> tuple[str, ...]:
    """List the GPU devices in a node's /dev."""
    first, second = GPU_DEVICES
    named = ("find", "/dev", "-maxdepth", "1", "(", "-name", first, "-o", "-name", second, ")")
    # Not -type c: of a device that is mounted over a file the directory tells the file, and find believes it.
    listed = node.run(*named, "-exec", "test", "-c", "{}", ";", "-print")
    evidence.result(listed, f"{node.name}: GPU devices")
    return tuple(sorted(listed.stdout.split()))


def log_lines(node: Node, path: str, job: int, evidence: Evidence) -> tuple[str, ...]:
    """Return the lines of a prolog or epilog log that are about one job (``… job=12 user=…``)."""
    found = node.run("grep", "-wF", f"job={job}", path, check=False)
    evidence.result(found)
    return tuple(found.stdout.splitlines())
