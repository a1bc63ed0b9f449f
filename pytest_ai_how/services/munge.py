"""MUNGE: who a Slurm message comes from."""

from __future__ import annotations

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.node import Node
from pytest_ai_how.services.protocol import Cause
from pytest_ai_how.services.readiness import Daemon, causes

# munge(1): -n takes no input. unmunge(1) prints "STATUS:          Success (0)" (MUNGE 0.5.16).
_SUCCESS = "Success (0)"


class Munge:
    """munged on every machine, all with one key."""

    name = "munge"
    needs: tuple[str, ...] = ()

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def credential(self, node: str) -> str:
        """A credential of an empty message, made on ``node``. Raises CommandError when munged does not answer."""
        return self.cluster[node].run("munge", "-n", timeout=10.0).stdout.strip()

    def faults(self) -> tuple[str, ...]:
        """Why a machine can't decode what the controller encoded."""
        controller = self.cluster.controller
        made = controller.run("munge", "-n", check=False, timeout=10.0)
        if not made.ok:
            said = made.stderr.strip() or "no output"
            return (f"{controller.name}: munge exited with {made.returncode}: {said}",)
        found = self.cluster.all.map(lambda node: self._refusal(node, made.stdout))
        return tuple(said for said in found.values() if said)

    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with the munged of each machine that we made."""
        if not self.cluster.config.is_ours:  # elsewhere a unit may have another name
            return ()
        return causes([(node, Daemon("munge.service")) for node in self.cluster.all])

    def _refusal(self, node: Node, credential: str) -> str:
        decoded = node.run("unmunge", input=credential, check=False, timeout=10.0)
        if decoded.ok and _SUCCESS in decoded.stdout:
            return ""
        said = (decoded.stderr.strip() or decoded.stdout.strip() or "no output").splitlines()[0]
        source = self.cluster.controller.name
        return f"{node.name}: unmunge of {source}'s credential exited with {decoded.returncode}: {said}"
