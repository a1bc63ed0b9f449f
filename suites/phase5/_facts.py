"""What is read of all machines for this phase: which kinds of MPI programs Slurm starts there."""

from __future__ import annotations

from pytest_ai_how.facts import Fact


def parse_plugins(text: str) -> tuple[str, ...]:
    r"""Read ``srun --mpi=list`` (24.11.5).

    >>> parse_plugins("MPI plugin types are...\n\tnone\n\tpmix\n\tpmi2\nspecific pmix plugin versions available: v5")
    ('none', 'pmix', 'pmi2')
    """
    found = tuple(line.strip() for line in text.splitlines() if line.startswith("\t"))
    if not found:
        raise ValueError("no list of plug-ins")
    return found


PLUGINS = Fact("MPI plug-ins of Slurm", ("srun", "--mpi=list"), parse_plugins)
