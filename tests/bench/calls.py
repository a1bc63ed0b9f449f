"""How long libvirt's calls take, in a private daemon as a cluster has it, without booting anything."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.libvirt import api, daemon, host
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.libvirt.xml import DomainXml, Files, Hypervisor, network_xml
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.state import cluster_state, private_folder
from pytest_ai_how.lease.undo import undo_all
from pytest_ai_how.lease.undoers import generic_undoers


class Timed:
    """An object of libvirt-python whose calls are timed, and the objects that they return as well."""

    def __init__(self, what: Any, seconds: dict[str, float]) -> None:
        self._what, self._seconds = what, seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._what, name)

        def call(*args: Any) -> Any:
            began = time.monotonic()
            try:
                result = found(*args)
            finally:
                self._seconds[name] = max(time.monotonic() - began, self._seconds.get(name, 0.0))
            is_object = type(result).__module__ == "libvirt"
            return Timed(result, self._seconds) if is_object else result

        return call


def longest_call() -> float:
    """Define, find and forget the network and machines of ``vm``; the seconds of the call that took longest."""
    return max(call_seconds().values())


def call_seconds() -> dict[str, float]:
    """The longest that each method took, in seconds."""
    config = load_config("vm").model_copy(update={"name": "bench"})
    seconds: dict[str, float] = {}
    with _daemon(config.name), api.connected(daemon.address(config.name, daemon.PRIVATE)) as plain:
        connection = Timed(plain, seconds)
        host.check_names(config, connection)
        network = connection.networkDefineXML(network_xml(config, own_bridge=True))
        xml = DomainXml(config, Hypervisor(Path("/usr/bin") / host.EMULATOR, kvm=False))
        files = Files(*(Path("/nowhere") / name for name in ("kernel", "initrd", "disk", "console")))
        for node in config.nodes:
            connection.defineXML(xml.of(node, files, ()))
        for node in config.nodes:
            machine = Machine(config, node, Path("/nowhere"))
            assert machine.state(connection) == "off"
            machine.existing(connection).undefineFlags(api.UNDEFINE_ALL)
        network.undefine()
    return seconds


@contextmanager
def _daemon(cluster: str) -> Iterator[None]:
    former = os.environ.get("XDG_STATE_HOME")
    with tempfile.TemporaryDirectory(prefix="ai-how-bench-") as folder:
        os.environ["XDG_STATE_HOME"] = folder
        try:
            state = private_folder(cluster_state(cluster))
            journal = Journal(state / "journal")
            journal.intend("directory", path=str(state / "machines"))
            try:
                daemon.start_private(cluster, journal)
                yield
            finally:
                undo_all(journal, generic_undoers("libvirt", state))
        finally:
            if former is None:
                del os.environ["XDG_STATE_HOME"]
            else:
                os.environ["XDG_STATE_HOME"] = former
