"""Making a cluster ready, step by step, once for all who share it.

Steps are data: ``machines`` (the driver makes them), ``ssh`` (each answers), then one for each service, which only
waits: nodes come up by themselves, and nothing is installed or repaired on a running node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import Literal, TypeVar, cast

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.drivers.protocol import Contacts, Deploys, Driver, Paced, Warms
from pytest_ai_how.errors import AiHowError, HostKeyError, StepFailed
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.record import Claim
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Progress
from pytest_ai_how.services.protocol import Filled, Installed, Service
from pytest_ai_how.waiting import await_ready

A = TypeVar("A")
B = TypeVar("B")
ServiceFactory = Callable[[Cluster], Service]

#: Where the product's own services are: imported when they are asked for.
SERVICES: Mapping[str, str] = MappingProxyType(
    {
        "munge": "pytest_ai_how.services.munge:Munge",
        "slurm": "pytest_ai_how.services.slurm:Slurm",
        "accounting": "pytest_ai_how.services.accounting:Accounting",
        "beegfs": "pytest_ai_how.services.beegfs:BeeGfs",
        "storage": "pytest_ai_how.services.storage:Storage",
        "apptainer": "pytest_ai_how.services.apptainer:Apptainer",
        "registry": "pytest_ai_how.services.registry:Registry",
        "monitoring": "pytest_ai_how.services.monitoring:Monitoring",
    }
)
MACHINES, SSH, WARM = "machines", "ssh", "warm"
#: Seconds. A service is ready one to three seconds after its machine booted; a loaded host has taken twenty.
SSH_WITHIN, READY_WITHIN = 60.0, 90.0
#: BeeGFS's metadata server alone takes 30 to 46 seconds for its first start in an emulated machine, ten times that on a
#: loaded host, and clients wait for it.
_READY_LATE: Mapping[str, float] = MappingProxyType({"beegfs": 900.0})
# The last looks before a service is ready are what a bring-up is late by.
_LOOK_FIRST, _LOOK_AT_MOST = 0.03, 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``fingerprint`` is asked for when all that it ``needs`` is done."""

    name: str
    needs: tuple[str, ...]
    fingerprint: Callable[[], str]
    action: Callable[[], dict[str, str]]


class Bringup:
    """The steps of one cluster. ``services`` adds to, or replaces, the product's own by name.

    Every method raises :class:`StepFailed` where a step failed, :class:`~pytest_ai_how.errors.StepBlocked` when it
    had failed before in this run.
    """

    def __init__(
        self,
        config: ClusterConfig,
        driver: Driver,
        lease: Lease,
        progress: Progress,
        services: Mapping[str, ServiceFactory] = MappingProxyType({}),
        ready_within: float = READY_WITHIN,
    ) -> None:
        self.config, self.driver, self.lease, self.progress = config, driver, lease, progress
        self._factories = {**{name: _imported(path) for name, path in SERVICES.items()}, **services}
        self._ready_within = ready_within
        self._built: tuple[str, Cluster, dict[str, Service]] | None = None
        self._building = threading.Lock()
        self._abandoned = threading.Event()
        # How the driver has just reached all machines, which need not be asked again; '' where it has not.
        self._reached: Literal["", "continued", "contacted"] = ""

    def cluster(self) -> Cluster:
        """The cluster, with every machine answering over its transport."""
        self._ensure(self._first())
        return self._current()[0]

    def ready(self, name: str) -> Service:
        """The service ``name``, ready, and before it all that it needs."""
        return self.ready_all([name])[name]

    def ready_all(self, names: Iterable[str]) -> dict[str, Service]:
        """Several services; those that don't need each other are waited for side by side."""
        wanted = list(names)
        for name in wanted:
            if name not in self._factories:
                raise AiHowError("bring-up", f"no service is called {name!r}", expected=_listed(self._factories))
        self._ensure(self._first())
        self._ensure(wanted)
        return {name: self._service(name) for name in wanted}

    def close(self) -> None:
        """Drop the kept connections."""
        if self._built:
            self._built[1].close()
            self._built = None

    # the order of things

    def _ensure(self, targets: Iterable[str]) -> None:
        for level in self._levels(targets):
            self._ensure_level([self._step(name) for name in level])

    def _first(self) -> list[str]:
        """What comes before anything else: who is to continue from machines that were ready makes all ready first."""
        return [WARM] if self.config.bringup == "restore" and isinstance(self.driver, Warms) else [SSH]

    def _levels(self, targets: Iterable[str]) -> list[list[str]]:
        """What ``targets`` need, in groups that don't need each other, each after all that it needs."""
        depth: dict[str, int] = {}

        def visit(name: str, path: tuple[str, ...]) -> int:
            if name in path:
                raise AiHowError("bring-up", f"services need each other: {' -> '.join((*path, name))}")
            if name not in depth:
                depth[name] = 1 + max((visit(need, (*path, name)) for need in self._needs(name)), default=-1)
            return depth[name]

        for target in targets:
            visit(target, ())
        if self._were_ready:  # none waits for another to start
            services = depth.keys() - {MACHINES, SSH, WARM}
            depth.update(dict.fromkeys(services, 1 + depth.get(SSH, 0)))
        levels = sorted(set(depth.values()))
        return [[name for name, at in depth.items() if at == level] for level in levels]

    def _needs(self, name: str) -> tuple[str, ...]:
        if name == MACHINES:
            return ()
        if name == WARM:
            return (SSH, *services_of(self.config))
        return (MACHINES,) if name == SSH else (SSH, *self._service(name).needs)

    def _ensure_level(self, steps: list[Step]) -> None:
        """One step runs in this thread, where an interrupt reaches it; several side by side."""
        if len(steps) == 1:
            self._ensure_step(steps[0])
            return
        ended = self._side_by_side(self._ensure_step, steps)
        errors = [error for future in ended if (error := future.exception())]
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"also: {other}")
            raise errors[0]

    def _ensure_step(self, step: Step) -> None:
        self.lease.ensure(step.name, step.fingerprint(), step.action)

    # the steps

    def _step(self, name: str) -> Step:
        if name == MACHINES:
            return Step(name, (), lambda: self.driver.fingerprint(self.config), self._make_machines)
        if name == WARM:
            return Step(name, self._needs(name), lambda: self.lease.stamp(MACHINES), self._keep_warm)
        # A run looks for itself, once: a kept machine may have died since.
        action = self._reach_machines if name == SSH else lambda: self._await(name)
        return Step(name, self._needs(name), lambda: f"{self.lease.run_id} {self.lease.stamp(MACHINES)}", action)

    def _make_machines(self) -> dict[str, str]:
        self.progress.say(self.config.name, f"making {len(self.config.nodes)} machines ({self.driver.name})")
        self.driver.check(self.config)
        self.driver.up(self.config, self.lease.journal.of(MACHINES))
        contacted = isinstance(self.driver, Contacts) and self.driver.contacted
        self._reached = "continued" if self._were_ready else "contacted" if contacted else ""
        return {node.name: str(node.address) for node in self.config.nodes}

    def _keep_warm(self) -> dict[str, str]:
        assert isinstance(self.driver, Warms), "see _first"
        if not self.driver.is_warm(self.config):
            self.progress.say(self.config.name, "keeping the machines for the next time")
            self.driver.keep_warm(self.config)
        return {}

    def _reach_machines(self) -> dict[str, str]:
        if self._reached:
            return {node.name: self._reached for node in self.config.nodes}
        self.progress.say(self.config.name, "asking this machine" if self.driver.name == "host" else "waiting for ssh")
        deadline = Deadline(SSH_WITHIN * self._pace)
        nodes = self._current()[0].nodes
        ended = self._side_by_side(lambda node: self._reach(node, deadline), nodes)
        return {node.name: future.result() for node, future in zip(nodes, ended, strict=True)}

    def _reach(self, node: Node, deadline: Deadline) -> str:
        said = "nothing yet"

        def name() -> str:
            nonlocal said
            self._stop_if_abandoned()
            try:
                return node.run("uname", "-n", timeout=10.0).stdout.strip()
            except HostKeyError:  # waiting does not make it another
                raise
            except AiHowError as error:
                said = error.seen
                return ""

        cure = f"pytest-ai-how down --cluster {self.config.name}, then bring it up again" if self.lease.attached else ""
        what = "answering over ssh"
        found = wait_for(
            name, within=deadline, what=what, where=node.name, every=_LOOK_FIRST, at_most=_LOOK_AT_MOST,
            last_seen=lambda: said, cure=cure,
        )  # fmt: skip
        if self._pace > 1.0 and not self._were_ready:
            self._leave_to_boot(node, deadline)
        return found

    def _leave_to_boot(self, node: Node, deadline: Deadline) -> None:
        """Let a slow machine start all its services in peace: each look at one takes it a second of its only CPU.

        Nothing is decided here. One that does not get so far is asked for each service all the same.
        """
        with suppress(AiHowError):
            node.run(
                "systemctl", "is-system-running", "--wait", check=False, timeout=max(deadline.left / self._pace, 1.0)
            )

    def _await(self, name: str) -> dict[str, str]:
        service = self._service(name)
        if self._reached == "continued" and isinstance(service, Installed):
            return {}
        self.progress.say(self.config.name, f"waiting for {name}")
        if isinstance(service, Filled) and service.deployed and isinstance(self.driver, Deploys):
            self.driver.deploy(self.config, self._current()[0].controller)
        within = max(self._ready_within * self._pace, _READY_LATE.get(name, 0.0))
        await_ready(service, within, self.config.name, self._stop_if_abandoned, self._pace)
        return {}

    @cached_property
    def _were_ready(self) -> bool:
        """Whether the machines were ready before, with all services, and now continue; asked before they are made."""
        return self._first() == [WARM] and cast(Warms, self.driver).is_warm(self.config)

    @property
    def _pace(self) -> float:
        return self.driver.pace if isinstance(self.driver, Paced) else 1.0

    def _stop_if_abandoned(self) -> None:
        if self._abandoned.is_set():
            raise StepFailed("bring-up", "was interrupted")

    def _side_by_side(self, call: Callable[[A], B], values: Sequence[A]) -> list[Future[B]]:
        """Call for each value in a thread of its own, until all have ended. An interrupt does not wait for them."""
        pool = ThreadPoolExecutor(len(values), thread_name_prefix="bring-up")
        try:
            futures = [pool.submit(call, value) for value in values]
            wait(futures)
        except BaseException:
            # Else the threads would look on for machines that are gone, and the process could not end.
            self._abandoned.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return futures

    # the objects

    def _service(self, name: str) -> Service:
        if name not in self._factories:
            raise AiHowError("bring-up", f"no service is called {name!r}", expected=_listed(self._factories))
        cluster, services = self._current()
        with self._building:
            if name not in services:
                services[name] = self._factories[name](cluster)
            return services[name]

    def _current(self) -> tuple[Cluster, dict[str, Service]]:
        """The cluster and its services as they are now: machines that were made anew have new host keys."""
        stamp = self.lease.stamp(MACHINES)
        with self._building:
            if self._built is None or self._built[0] != stamp:
                if self._built:
                    self._built[1].close()
                ways = {node.name: self.driver.transport(self.config, node.name) for node in self.config.nodes}
                nodes = [Node(node, ways[node.name], self._pace) for node in self.config.nodes]
                self._built = (stamp, Cluster(self.config, nodes), {})
            return self._built[1], self._built[2]


def claim(config: ClusterConfig, driver: Driver) -> Claim:
    """What :meth:`Lease.acquire` is to look for: a cluster of this configuration, made by this driver."""
    return Claim(driver.name, driver.fingerprint(config), config.model_dump(mode="json"))


def left_faulty(why: str, *, ours: bool) -> str:
    """What becomes of a cluster that an earlier run left with a fault in it (:attr:`Lease.spoilt`), in words."""
    if ours:
        return f"{why}: it was taken down, and is made anew"
    return (
        f"warning: {why}, which may still be there: its machines are not ours to make anew\n"
        "  do: see in that test what it breaks, and undo it on the machines before you trust a verdict"
    )


def services_of(config: ClusterConfig) -> tuple[str, ...]:
    """The names of the product's services that work on a cluster of this configuration goes through.

    Monitoring only looks on: who asks for it waits for it, and nobody else.
    """
    has_storage = config.storage.kind != "none"
    has_containers = config.containers.runtime != "none"
    has = {
        "munge": config.slurm is not None,
        "slurm": config.slurm is not None,
        "accounting": config.slurm is not None and config.slurm.accounting,
        "beegfs": config.storage.kind == "beegfs",
        "storage": has_storage,
        "apptainer": has_containers,
        "registry": has_containers and has_storage,
    }
    return tuple(name for name in SERVICES if has.get(name))


def _imported(path: str) -> ServiceFactory:
    module, _, name = path.partition(":")

    def make(cluster: Cluster) -> Service:
        return cast(ServiceFactory, getattr(import_module(module), name))(cluster)

    return make


def _listed(names: Iterable[str]) -> str:
    return f"one of {', '.join(sorted(names))}"
