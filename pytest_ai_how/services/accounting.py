"""Slurm's accounting: slurmdbd answers, and knows the cluster, the account and the job user."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import ConfigError, Problem
from pytest_ai_how.services.protocol import Cause
from pytest_ai_how.services.readiness import Daemon, causes
from pytest_ai_how.shell import Result

# sacctmgr(1): "-nP" writes one record a line, without a title, fields divided by "|".
_FIELDS = ("cluster", "account", "user")
_TIMEOUT = 20.0
# DbdPort of slurmdbd.conf.j2
_SLURMDBD = 6819


@dataclass(frozen=True, slots=True)
class Association:
    """A user's place in accounting; ``user`` is empty for the account itself."""

    cluster: str
    account: str
    user: str


class Accounting:
    """slurmdbd, asked through sacctmgr on the controller."""

    name = "accounting"
    needs: tuple[str, ...] = ("munge",)

    def __init__(self, cluster: Cluster) -> None:
        if cluster.config.slurm is None:
            raise ConfigError([Problem(cluster.name, 1, "slurm", "accounting needs a slurm section")])
        self.cluster, self.config = cluster, cluster.config.slurm

    def associations(self) -> tuple[Association, ...]:
        """All associations. Raises CommandError when slurmdbd does not answer."""
        told = self._sacctmgr("show", "associations", f"format={','.join(_FIELDS)}", check=True)
        return parse_associations(told.stdout)

    def controller_port(self) -> int:
        """The port by which slurmctld is registered with slurmdbd; 0 when it is not connected."""
        told = self._sacctmgr("show", "cluster", self.config.cluster, "format=controlport", check=True)
        return int(told.stdout.strip() or 0)

    def faults(self) -> tuple[str, ...]:
        """Why accounting is not ready."""
        where = self.cluster.controller.name
        told = self._sacctmgr("show", "associations", f"format={','.join(_FIELDS)}", check=False)
        if not told.ok:
            said = (told.stderr.strip() or told.stdout.strip() or "no output").splitlines()[-1]
            return (f"{where}: sacctmgr exited with {told.returncode}: {said}",)
        wanted = Association(self.config.cluster, self.config.account, self.cluster.config.user)
        known = parse_associations(told.stdout)
        if not any(each.cluster == wanted.cluster for each in known):
            return (f"{where}: slurmdbd does not know cluster {wanted.cluster!r}",)
        if wanted not in known:
            return (
                f"{where}: slurmdbd has no user {wanted.user!r} in account {wanted.account!r} of {wanted.cluster!r}",
            )
        if not self.controller_port():
            return (f"{where}: slurmctld of cluster {wanted.cluster!r} is not connected to slurmdbd",)
        return ()

    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with slurmdbd: a unit that failed, a port that another program has taken."""
        if not self.cluster.config.is_ours:  # units and ports are known where slurmdbd.conf is ours
            return ()
        return causes([(self.cluster.controller, Daemon("slurmdbd.service", _SLURMDBD))])

    def _sacctmgr(self, *argv: str, check: bool) -> Result:
        return self.cluster.controller.run("sacctmgr", "-nP", *argv, check=check, timeout=_TIMEOUT)


def parse_associations(text: str) -> tuple[Association, ...]:
    """Read ``sacctmgr -nP show associations format=cluster,account,user`` (Slurm 24.11.5).

    ::

        local|root|
        local|root|root
        local|default|hpc

    Raises ValueError naming a line of another form.
    """
    found = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != len(_FIELDS):
            raise ValueError(f"not an association of sacctmgr: {line!r}")
        found.append(Association(*fields))
    return tuple(found)
