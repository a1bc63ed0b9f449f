"""Monitoring of a cluster: Prometheus and Alertmanager on the controller, node-exporter on all machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import Monitoring as Config
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import ConfigError, DeadlineExceeded, Problem
from pytest_ai_how.services.monitoring.alertmanager import Alertmanager
from pytest_ai_how.services.monitoring.http import ApiError
from pytest_ai_how.services.monitoring.prometheus import Prometheus, Series, Target
from pytest_ai_how.shell import Result

# A target is new for one interval, and one that was missed may be late by another.
_SCRAPES = 3
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class Monitoring:
    """Prometheus, Alertmanager, and which of what they tell belongs to which machine."""

    name = "monitoring"
    needs: tuple[str, ...] = ()

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.config = cluster, _required(cluster)
        controller, ports = cluster.controller, self.config.ports
        self.prometheus = Prometheus(controller, f"http://{controller.address}:{ports.prometheus}")
        self.alertmanager = Alertmanager(controller, f"http://{controller.address}:{ports.alertmanager}")

    def faults(self) -> tuple[str, ...]:
        """Why it is not ready: Prometheus is not, or knows no target yet, as in its first 5 s.

        How its targets are, and who else there is, is for checks to judge.
        """
        where = self.cluster.controller.name
        ready = self.prometheus.ready()
        if ready.status != 200:
            return (f"{where}: Prometheus, {ready.url}, {ready.said}",)
        try:
            targets, _ = self.prometheus.targets()
        except ApiError as error:
            return (f"{where}: {error.seen}",)
        return () if targets else (f"{where}: Prometheus, {self.prometheus.url}, has no target",)

    def settled(self, every: Callable[[Target], bool], what: str) -> tuple[tuple[Target, ...], Result]:
        """All targets once ``every`` one of them is as wanted, or as they are after some scrapes.

        A machine that has just started, and a target that is new, is asked for the first time within an interval.
        """
        answers = [self.prometheus.targets()]

        def fits() -> bool:
            return all(map(every, answers[-1][0]))

        def fit() -> bool:
            answers.append(self.prometheus.targets())
            return fits()

        longest = max((target.interval for target in answers[0][0]), default=self.config.interval)
        if not fits():
            with suppress(DeadlineExceeded):
                wait_for(fit, within=_SCRAPES * longest, what=what, where=self.cluster.controller.name, every=0.2)
        return answers[-1]

    def node_of(self, host: str) -> str:
        """The machine that a name or address stands for; '' for none. What is local is the controller."""
        if host in _THIS_MACHINE:
            return self.cluster.controller.name
        return next((n.name for n in self.cluster.nodes if host in (n.address, n.name)
                     or host.startswith(f"{n.name}.")), "")  # fmt: skip

    def exporters(self, targets: Iterable[Target]) -> tuple[Target, ...]:
        """Those of ``targets`` that are node-exporters, by their port."""
        return tuple(target for target in targets if target.port == self.config.ports.node_exporter)

    def by_node(self, series: Iterable[Series], targets: Iterable[Target]) -> dict[str, tuple[Series, ...]]:
        """The series that ``targets`` gave, by machine; machines with none are there too."""
        nodes = {(target.job, target.instance): self.node_of(target.host) for target in targets}
        found: dict[str, list[Series]] = {node.name: [] for node in self.cluster.nodes}
        for one in series:
            node = nodes.get((one.labels.get("job", ""), one.labels.get("instance", "")), "")
            if node in found:
                found[node].append(one)
        return {node: tuple(listed) for node, listed in found.items()}


def _required(cluster: Cluster) -> Config:
    if cluster.config.monitoring.kind == "none":
        raise ConfigError([Problem(cluster.name, 1, "monitoring", "monitoring.kind is none")])
    return cluster.config.monitoring
