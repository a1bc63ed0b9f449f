"""In which order checks run: what others wait for first, then phase by phase, what breaks things last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import PurePath

FOLDER = "suites"
# The folders under suites/ in the order they run.
PHASES = (
    "phase0",
    "phase1",
    "phase2",
    "phase3",
    "phase4",
    "phase5",
    "phase6",
    "mlops/training",
    "mlops/distributed",
    "mlops/oumi",
    "mlops/inference",
    "mlops/pipeline",
)
_RANK = {phase: rank for rank, phase in enumerate(PHASES, start=1)}


@cache
def rank_of(path: str) -> int:
    """The place of a test file's phase in the order, by the folders that it lies in; 0 outside of any phase."""
    folders = PurePath(path).parts[:-1]
    for end in range(len(folders), 0, -1):
        for words in (1, 2):
            if rank := _RANK.get("/".join(folders[max(0, end - words) : end])):
                return rank
    return 0


def gate_depths(checks: Iterable[str], gates_of: Callable[[str], Iterable[str]]) -> Mapping[str, int]:
    """The gates among ``checks`` that another of them waits for, with how many gates they themselves wait for in a row.

    A gate that runs in order of its depth never runs before one that it waits for itself.
    """
    selected = frozenset(checks)
    waits = {check: [gate for gate in gates_of(check) if gate in selected] for check in selected}
    depths: dict[str, int] = {}

    def depth(check: str, path: tuple[str, ...]) -> int:
        if check not in depths:
            before = [gate for gate in waits[check] if gate not in path]
            depths[check] = max((depth(gate, (*path, gate)) + 1 for gate in before), default=0)
        return depths[check]

    wanted = {gate for gates in waits.values() for gate in gates}
    return {gate: depth(gate, (gate,)) for gate in sorted(wanted)}
