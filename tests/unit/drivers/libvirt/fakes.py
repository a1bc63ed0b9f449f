"""A libvirt that is not there: it keeps definitions, and does what domains and networks do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_ai_how.drivers.libvirt import api, daemon

NO_SUPPORT, NO_DOMAIN, NO_NETWORK, INVALID = 3, 42, 43, 55
RUNNING, SHUTDOWN, OFF, CRASHED = 1, 4, 5, 6
INACTIVE = 2


class LibvirtError(Exception):
    """As libvirt-python's: a number and words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


@dataclass
class FakeDomain:
    """A domain; ``states`` are what it says from one question to the next, the last for ever.

    ``kept`` is what the next start would take, where that differs from ``xml``.
    """

    home: FakeLibvirt
    xml: str
    states: list[int] = field(default_factory=lambda: [OFF])
    calls: list[str] = field(default_factory=list)
    kept: str = ""

    @property
    def _root(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.xml)

    def name(self) -> str:
        return self._root.findtext("name", "")

    def uuid(self) -> str:
        return self._root.findtext("uuid", "")

    def XMLDesc(self, flags: int = 0) -> str:
        return self.kept if flags == INACTIVE and self.kept else self.xml

    def state(self) -> list[int]:
        return [self.states.pop(0) if len(self.states) > 1 else self.states[0], 0]

    def isActive(self) -> bool:
        return self.states[0] not in (OFF, CRASHED)

    def create(self) -> None:
        self.calls.append("create")
        self.states[:] = [RUNNING]

    def destroy(self) -> None:
        self.calls.append("destroy")
        if not self.isActive():
            raise LibvirtError(INVALID, "domain is not running")
        self.states[:] = [OFF]

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def undefineFlags(self, flags: int) -> None:
        self.calls.append(f"undefine {flags}")
        self.home.domains.remove(self)

    def undefine(self) -> None:
        self.calls.append("undefine")
        self.home.networks.remove(self)


@dataclass
class FakeLibvirt:
    """A connection; ``lacks`` are the methods that the daemon has no driver for, as on a fresh Debian 13."""

    domains: list[FakeDomain] = field(default_factory=list)
    networks: list[FakeDomain] = field(default_factory=list)
    pools: list[FakeDomain] = field(default_factory=list)
    model: str = "none"
    lacks: tuple[str, ...] = ()

    def defineXML(self, xml: str) -> FakeDomain:
        self.domains.append(FakeDomain(self, xml))
        return self.domains[-1]

    def networkDefineXML(self, xml: str) -> FakeDomain:
        self.networks.append(FakeDomain(self, xml))
        return self.networks[-1]

    def lookupByUUIDString(self, uuid: str) -> FakeDomain:
        return self._found(self.domains, "uuid", uuid, NO_DOMAIN)

    def lookupByName(self, name: str) -> FakeDomain:
        return self._found(self.domains, "name", name, NO_DOMAIN)

    def networkLookupByUUIDString(self, uuid: str) -> FakeDomain:
        return self._found(self.networks, "uuid", uuid, NO_NETWORK)

    def networkLookupByName(self, name: str) -> FakeDomain:
        return self._found(self.networks, "name", name, NO_NETWORK)

    def listAllDomains(self) -> list[FakeDomain]:
        return list(self.domains)

    def listAllNetworks(self) -> list[FakeDomain]:
        return self._listed("virConnectListAllNetworks", self.networks)

    def listAllStoragePools(self) -> list[FakeDomain]:
        return self._listed("virConnectListAllStoragePools", self.pools)

    def _listed(self, call: str, among: list[FakeDomain]) -> list[FakeDomain]:
        if call in self.lacks:
            raise LibvirtError(NO_SUPPORT, f"this function is not supported by the connection driver: {call}")
        return list(among)

    def getSecurityModel(self) -> list[str]:
        return [self.model, "0"]

    @staticmethod
    def _found(among: list[FakeDomain], key: str, wanted: str, code: int) -> FakeDomain:
        for one in among:
            if getattr(one, key)() == wanted:
                return one
        raise LibvirtError(code, f"no domain or network with matching {key} '{wanted}'")


def connect(monkeypatch: pytest.MonkeyPatch, libvirt: Any, *, private: bool = True) -> None:
    """Let every connection be to ``libvirt``, as the cluster's private daemon or as one that runs."""

    @contextmanager
    def connected(uri: str) -> Iterator[Any]:
        assert uri
        yield libvirt

    monkeypatch.setattr(api, "connected", connected)
    monkeypatch.setattr(daemon, "is_up", lambda cluster: private)
    monkeypatch.setattr(daemon, "address", lambda cluster, chosen: f"test:///{chosen}")
    monkeypatch.setattr(daemon, "running_daemon", lambda: "" if private else "test:///default")
