"""Switching the machines of a cluster off and on, and reaching them again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.protocol import Driver, Power, State
from pytest_ai_how.errors import AiHowError, HostKeyError

#: Seconds. A machine of systemd-nspawn answers after one, an emulated virtual machine after thirty.
ANSWERS_WITHIN = 300.0


class Machines:
    """The machines of ``cluster``, switched by the driver that made them.

    ``why_not_ours`` says why they are not ours to switch, if so. Raises :class:`AiHowError` then, and when the driver
    can't switch machines.
    """

    def __init__(self, driver: Driver, cluster: Cluster, why_not_ours: str = "") -> None:
        if why_not_ours or not isinstance(driver, Power):
            raise AiHowError(
                f"cluster {cluster.name!r}",
                f"its machines are not switched off or on: {why_not_ours or f'driver {driver.name} has no means to'}",
                expected="a cluster that we made",
                cure="mark the test with @pytest.mark.requires('owned')",
            )
        self._power: Power = driver
        self._cluster = cluster
        self._found: dict[str, State] = {}

    @property
    def config(self) -> ClusterConfig:
        """The cluster's configuration."""
        return self._cluster.config

    def state(self, node: str) -> State:
        """Whether the machine runs, is off, or is not there, from whoever runs it."""
        return self._power.state(self.config, node)

    def stop(self, node: str, *, force: bool = False, within: float = 60.0) -> float:
        """Switch a machine off and return how many seconds that took: asked first, cut off after ``within`` seconds.

        ``force`` cuts the power at once. Its disk stays, and our connection to it is dropped. Raises
        :class:`~pytest_ai_how.errors.ProvisionError` naming it.
        """
        self._found.setdefault(node, self.state(node))
        started = time.monotonic()
        try:
            self._power.stop(self.config, node, force=force, within=within)
        finally:
            self._cluster[node].transport.close()
        return time.monotonic() - started

    def start(self, node: str, within: float = ANSWERS_WITHIN) -> float:
        """Switch a machine on, wait until it answers over ssh, and return how many seconds that took.

        Raises :class:`~pytest_ai_how.errors.ProvisionError`, or DeadlineExceeded with the console's file named.
        """
        self._found.setdefault(node, self.state(node))
        started = time.monotonic()
        self._power.start(self.config, node)
        self.await_ssh(node, within)
        return time.monotonic() - started

    def restart(self, node: str, *, force: bool = False) -> float:
        """Switch a machine off and on, and return how many seconds it took until it answered again."""
        return self.stop(node, force=force) + self.start(node)

    def await_ssh(self, node: str, within: float = ANSWERS_WITHIN) -> None:
        """Wait until a machine answers over a new connection."""
        reached, said = self._cluster[node], "nothing yet"

        def answers() -> bool:
            nonlocal said
            try:
                reached.transport.close()
                return reached.run("uname", "-n", timeout=10.0).ok
            except HostKeyError:  # waiting does not make it another
                raise
            except AiHowError as error:
                said = error.seen
                return False

        console = self.consoles().get(node, "its console")
        wait_for(
            answers, within=within, what="answering over ssh", where=node, every=0.05, at_most=0.5,
            last_seen=lambda: said, cure=f"read {console}",
        )  # fmt: skip

    def consoles(self) -> Mapping[str, Path]:
        """The file that holds each machine's console since it was made, by node."""
        return self._power.consoles(self.config)

    def as_found(self) -> None:
        """Switch all machines that were switched back to what they were in before. All are tried.

        Raises an :class:`ExceptionGroup` with the error of each that could not be.
        """
        errors: list[AiHowError] = []
        for node, found in self._found.items():
            try:
                self._put_back(node, found)
            except AiHowError as error:
                errors.append(error)
        self._found.clear()
        if errors:
            raise ExceptionGroup(f"{errors[0]} ({len(errors)} machines are not as they were)", errors)

    def _put_back(self, node: str, found: State) -> None:
        now = self.state(node)
        if found == "running" and now == "off":
            self.start(node)
        elif found == "off" and now == "running":
            self.stop(node)
