"""Programs over several nodes, and because of whom one goes wrong: run again by fewer nodes, or by each one alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import TypeVar

from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import Slurm

from ..phase6._slurm_nodes import node_faults
from ._ranks import WITHIN, Place

T = TypeVar("T")

#: Seconds for a program that is run again, and is not to wait for long on what hangs: on two busy CPUs the slowest of
#: them took 17 where all was well. And for all re-runs of one check.
AGAIN, IN_ALL = 45.0, 450.0
#: Ranks of a node that is tried alone: one would have nobody to talk to.
ALONE = 2


def everyone(slurm: Slurm) -> tuple[str, ...]:
    """All compute nodes; that one of them takes no jobs is a failure, as nothing that spans it would ever begin."""
    takes_all = "that all compute nodes take jobs"
    faults = node_faults(slurm.compute, slurm.nodes(), takes_all, lambda one: one.usable)
    assert not faults, "\n".join(faults)
    return several(slurm, slurm.compute)


def two(slurm: Slurm) -> tuple[str, str]:
    """Two compute nodes, that take jobs if there are two that do."""
    known = slurm.nodes()
    usable = sorted(slurm.compute, key=lambda name: not (name in known and known[name].usable))
    first, second, *_ = several(slurm, usable)
    return first, second


def several(slurm: Slurm, names: Sequence[str]) -> tuple[str, ...]:
    """The names, if they are at least two."""
    assert len(names) > 1, f"{slurm.cluster.name}: one compute node; a program that spans nodes needs two"
    return tuple(names)


def on_nodes(slurm: Slurm, evidence: Evidence, names: Sequence[str], per_node: int, check: Callable[[Place], T]) -> T:
    """What ``check`` returns of a program with so many ranks on each of these nodes.

    When it goes wrong it is run again by some of them, or, where they are too few for that, by each node alone, until
    node or link is known, and the failure begins with it. ``check`` must record no figure.
    """
    limits = chain([WITHIN], repeat(AGAIN))

    def together(some: tuple[str, ...]) -> T:
        return check(Place(some, per_node, next(limits)))

    def alone(one: tuple[str, ...]) -> T:
        return check(Place(one, max(ALONE, per_node), AGAIN))

    within = IN_ALL * slurm.cluster.pace
    return Culprit(evidence, within=within).of(names, together, least=2, alone=alone)
