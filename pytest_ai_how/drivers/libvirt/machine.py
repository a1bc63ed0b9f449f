"""One virtual machine: its files on this host, and its domain in libvirt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.drivers.libvirt import api, names
from pytest_ai_how.drivers.protocol import State
from pytest_ai_how.errors import AiHowError, DeadlineExceeded, ProvisionError

_log = logging.getLogger(__name__)
# Seconds that a machine which was cut off may take to be gone; only QEMU in an uninterruptible wait needs more.
_CUT_OFF = 15.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A node, and the folder of this host that holds what is its own."""

    config: ClusterConfig
    node: NodeConfig
    folder: Path

    @property
    def name(self) -> str:
        """The domain's name."""
        return names.machine_name(self.config.name, self.node.name)

    @property
    def console(self) -> Path:
        """What the machine said since it was made, from one start to the next."""
        return self.folder / "console.log"

    @property
    def disk(self) -> Path:
        """The machine's own layer over the image."""
        return self.folder / "disk.qcow2"

    @property
    def initrd(self) -> Path:
        """The image's initramfs with the machine's own files behind it; root's alone."""
        return self.folder / "initrd"

    def domain(self, connection: api.Connection) -> api.Domain | None:
        """What libvirt knows of the machine: ours, or None."""
        found = api.find_domain(connection, names.machine_uuid(self.config.name, self.node.name))
        mark = names.machine_mark(self.config.name, self.node.name)
        return found if found is not None and names.owner_in(found.XMLDesc()) == mark else None

    def state(self, connection: api.Connection) -> State:
        """What the machine is in now."""
        domain = self.domain(connection)
        return "absent" if domain is None else _state(domain)

    def existing(self, connection: api.Connection) -> api.Domain:
        """The domain. Raises :class:`ProvisionError` when there is none."""
        domain = self.domain(connection)
        if domain is None:
            raise ProvisionError(
                self.node.name,
                f"there is no such machine: libvirt knows no domain {self.name} of ours",
                expected="a machine that was made",
                cure=f"pytest-ai-how down --cluster {self.config.name}, then bring it up again",
            )
        return domain

    def switch_off(self, connection: api.Connection, ask: Callable[[], object], *, force: bool, within: float) -> None:
        """Ask the machine to power off and wait; cut it off after ``within`` seconds, or at once.

        ``ask`` asks the machine's own init; one that can't be reached by it is sent the power button's signal.
        """
        domain = self.existing(connection)
        if _state(domain) == "off":
            return
        if not force:
            self._ask(domain, ask)
            if self._is_off(domain, Deadline(within)):
                return
            _log.warning("%s: did not power off within %g s and was cut off", self.node.name, within)
        api.destroy(domain)
        if not self._is_off(domain, Deadline(_CUT_OFF)):
            raise ProvisionError(
                self.node.name,
                f"can't be switched off: libvirt says state {domain.state()[0]} {_CUT_OFF:g} s after it was cut off",
                expected="a machine that is off",
                cure=f"read {self.console}",
            )

    def switch_on(self, connection: api.Connection) -> None:
        """Boot the machine, with the disk that it has. Raises :class:`ProvisionError` when it is running."""
        domain = self.existing(connection)
        if _state(domain) == "running":
            raise ProvisionError(self.node.name, "can't be switched on: is running", expected="a machine that is off")
        with api.naming(self.node.name, "can't be switched on"):
            domain.create()

    @staticmethod
    def _ask(domain: api.Domain, ask: Callable[[], object]) -> None:
        try:
            ask()
        except AiHowError as error:
            _log.info("%s: asked by its power button: %s", domain.name(), error.seen)
            api.tolerate_ended(domain.shutdown)

    @staticmethod
    def _is_off(domain: api.Domain, deadline: Deadline) -> bool:
        try:
            return wait_for(lambda: _state(domain) == "off", within=deadline, what="off", every=0.05, at_most=0.25)
        except DeadlineExceeded:
            return False


def _state(domain: api.Domain) -> State:
    return "off" if domain.state()[0] in api.OFF else "running"
