"""All compute nodes at once, by slurmctld's word: what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_ai_how.services.slurm import NodeRecord


def node_faults(
    names: Sequence[str], nodes: Mapping[str, NodeRecord], expected: str, sound: Callable[[NodeRecord], bool]
) -> list[str]:
    """What is wrong with the nodes of these names, the machine first: unknown, or not ``sound``, as is ``expected``."""
    found = []
    for name in names:
        record = nodes.get(name)
        if record is None:
            found.append(f"{name}: slurmctld does not know this node; expected it in slurm.conf")
        elif not sound(record):
            found.append(
                f"{name}: state {record.state}, reason {record.reason!r}; expected {expected}; "
                f"do: read slurmd's log there, then `scontrol update nodename={name} state=resume`"
            )
    return found
