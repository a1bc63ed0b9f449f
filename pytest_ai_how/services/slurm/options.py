"""The options of sbatch and srun that checks use, typed, and their command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class JobOptions(TypedDict, total=False):
    """What a job asks for. ``mem`` is MiB per node, ``time`` minutes or Slurm's ``[days-]hh:mm:ss``, ``begin`` seconds.

    ``export`` is the value of ``--export``; ``requeue=False`` is ``--no-requeue``; ``immediate`` (srun only) is how
    many seconds to wait for resources.
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
