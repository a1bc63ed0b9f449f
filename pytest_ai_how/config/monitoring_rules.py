"""Rules about monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pytest_ai_how.config.plain import Plain, at
from pytest_ai_how.marked import KeyPath, Mistake, shown

_SECTION: KeyPath = ("monitoring",)
# What Debian lacks: nothing of ours installs it.
_NOT_OURS = {"grafana": "Grafana", "dcgm": "DCGM"}


def _monitoring(data: Plain) -> Iterator[Mistake]:
    section = data.get("monitoring")
    if not isinstance(section, Mapping):
        return
    kind, driver = section.get("kind", "none"), data.get("driver", "auto")
    for key, name in _NOT_OURS.items():
        if section.get(key) is None:
            continue
        if kind == "none":
            yield Mistake((*_SECTION, key), "is for monitoring.kind prometheus, but the kind is 'none'")
        elif driver in ("auto", "nspawn", "libvirt"):
            what = f"needs driver: ssh, but the driver is {shown(driver)}; no image of ours has {name}"
            yield Mistake((*_SECTION, key), what)


def _ports(data: Plain) -> Iterator[Mistake]:
    """Two daemons of one machine can't have one port."""
    ports = at(data, "monitoring", "ports")
    taken: dict[object, str] = {}
    for name, default in (("prometheus", 9090), ("alertmanager", 9093), ("node_exporter", 9100)):
        port = ports.get(name, default) if isinstance(ports, Mapping) else default
        if port in taken and isinstance(port, int):
            at_fault = name if isinstance(ports, Mapping) and name in ports else taken[port]
            what = f"{port} again; {taken[port]} and {name} are on one machine"
            yield Mistake((*_SECTION, "ports", at_fault), what)
        taken.setdefault(port, name)


MONITORING_RULES: tuple[Callable[[Plain], Iterator[Mistake]], ...] = (_monitoring, _ports)
