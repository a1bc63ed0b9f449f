"""What a job is and asks for: the options of sbatch and srun that checks use, typed, and their command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from pytest_ai_how.config.models import Partition
from pytest_ai_how.shell import quote


class JobOptions(TypedDict, total=False):
    """What a job asks for. ``mem`` is MiB per node, ``time`` minutes or Slurm's ``[days-]hh:mm:ss``, ``begin`` seconds.

    ``export`` is the value of ``--export``; ``requeue=False`` is ``--no-requeue``; ``immediate`` (srun only) is how
    many seconds to wait for resources; ``overcommit`` lets more tasks onto a node than it has CPUs; ``resv_ports`` is
    how many ports of ``MpiParams`` a step gets for itself on each of its nodes; ``kill_on_bad_exit`` ends a step with
    the first task that fails.
    """

    partition: str
    nodes: int
    ntasks: int
    ntasks_per_node: int
    cpus: int
    mem: int
    gres: str
    time: int | str
    name: str
    array: str
    dependency: str
    export: str
    nodelist: str
    exclusive: bool
    chdir: str
    requeue: bool
    hold: bool
    begin: int
    output: str
    error: str
    immediate: int
    mpi: str
    overcommit: bool
    resv_ports: int
    kill_on_bad_exit: bool


def placed(options: JobOptions, partitions: Sequence[Partition]) -> JobOptions:
    """Where to run a job that names its nodes, or how many, and no partition: the default one may not have all nodes.

    Nothing where the default partition has them, or none has: Slurm's own word is wanted then.

    >>> gpu = Partition(name="gpu", nodes=("node01",), default=True)
    >>> both = (gpu, Partition(name="all", nodes=("node01", "node02")))
    >>> placed({"nodelist": "node02"}, both), placed({"nodes": 2}, both), placed({"nodes": 1}, both)
    ({'partition': 'all'}, {'partition': 'all'}, {})
    """
    if "partition" in options:
        return {}
    wanted = set(filter(None, options.get("nodelist", "").split(",")))
    having = [one for one in partitions if wanted <= set(one.nodes) and options.get("nodes", 1) <= len(one.nodes)]
    return {} if not having or any(one.default for one in having) else {"partition": having[0].name}


class JobSpec:
    """A batch job: a script, or the arguments of one command, with arguments for the script and sbatch's options.

    Text without an interpreter line is a POSIX shell script. ``args`` become ``$1 …`` of a shell script; a script of
    another interpreter takes none (:class:`ValueError`).
    """

    def __init__(self, script: str | Sequence[str], args: Sequence[str] = (), **options: Unpack[JobOptions]) -> None:
        text = script if isinstance(script, str) else quote(script)
        text = text if text.startswith("#!") else f"#!/bin/sh\n{text}\n"
        self.script = _with_arguments(text, args) if args else text
        self.options = options

    def argv(self, defaults: JobOptions) -> tuple[str, ...]:
        """The command that submits it; the script goes to its standard input."""
        return ("sbatch", "--parsable", *arguments({**defaults, **self.options}))


def _with_arguments(script: str, args: Sequence[str]) -> str:
    """Set the positional parameters before the first command, and so after the ``#SBATCH`` lines.

    sbatch takes arguments only for a script that is a file on the controller, and this one comes by standard input.
    """
    lines = script.splitlines(keepends=True)
    if not lines[0].split("/")[-1].startswith(("sh", "bash", "dash")):
        raise ValueError(f"{lines[0].strip()!r}: only a shell script can be given arguments")
    first = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "".join([*lines[:first], f"set -- {quote(args)}\n", *lines[first:]])


_FLAGS = {"cpus": "--cpus-per-task", "name": "--job-name"}


def arguments(options: Mapping[str, object]) -> tuple[str, ...]:
    """Return the options as ``--name=value`` arguments, the same for sbatch and srun.

    Each option is one argument, so that a value can neither become another option nor end them.
    """
    found: list[str] = []
    for name, value in options.items():
        flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
        if value is True:
            found.append(flag)
        elif value is False:
            found += ["--no-requeue"] if name == "requeue" else []
        elif name == "mem":
            found.append(f"{flag}={value}M")
        elif name == "begin":
            found.append(f"{flag}=now+{value}")
        else:
            found.append(f"{flag}={value}")
    return tuple(found)
