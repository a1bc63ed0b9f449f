"""Two looks at one cluster, and how they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ai_how.drivers.protocol import State
from pytest_ai_how.pci import Claim


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is of a cluster: by the driver, the kernel, and the cluster's own record.

    ``machines`` maps names to states, ``processes`` are (number, start, name) of all that carry the cluster's mark,
    ``entries`` what is in the journal to be undone, ``boots`` tells one start of a running machine from the next.
    """

    machines: Mapping[str, State]
    processes: frozenset[tuple[int, int, str]]
    entries: tuple[tuple[str, str], ...]
    boots: Mapping[str, str]
    claims: tuple[Claim, ...] = ()

    def __str__(self) -> str:
        lines = [f"{name}: {state}, boot {self.boots.get(name, 'none')}" for name, state in self.machines.items()]
        lines += [f"process {pid} ({name}), started {start}" for pid, start, name in sorted(self.processes)]
        lines += [f"journal: {kind} {data}" for kind, data in self.entries]
        return "\n".join([*lines, *(f"claim: {claim}" for claim in self.claims)])


def duplicates(facts: Facts) -> list[str]:
    """What is in the journal more than once."""
    return [" ".join(entry) for entry, count in Counter(facts.entries).items() if count > 1]


def differences(before: Facts, after: Facts) -> list[str]:
    """How two looks at a cluster differ, in words."""
    found = [
        f"{name} was {before.machines.get(name, 'absent')}, is {after.machines.get(name, 'absent')}"
        for name in sorted(before.machines.keys() | after.machines.keys())
        if before.machines.get(name) != after.machines.get(name)
    ]
    found += [f"{name} was started anew" for name, boot in before.boots.items() if after.boots.get(name, boot) != boot]
    found += [f"process {pid} ({name}) is new" for pid, _, name in sorted(after.processes - before.processes)]
    found += [f"process {pid} ({name}) is gone" for pid, _, name in sorted(before.processes - after.processes)]
    old, new = Counter(before.entries), Counter(after.entries)
    found += [f"journal: {' '.join(entry)} is new" for entry in new - old]
    return found + [f"journal: {' '.join(entry)} is gone" for entry in old - new]
