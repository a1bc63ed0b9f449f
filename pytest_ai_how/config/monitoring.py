"""What the YAML says about monitoring."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from pytest_ai_how.config.forms import Duration, HostFile, Model, Port

# The units of Prometheus's durations in seconds (prometheus.io, "Configuration", <duration>).
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


class MonitoringPorts(Model):
    """Where the daemons listen, on the address of their machine alone."""

    prometheus: Port = 9090
    alertmanager: Port = 9093
    node_exporter: Port = 9100


class Grafana(Model):
    """Grafana on the controller of an existing cluster."""

    port: Port = 3000
    token: HostFile | None = Field(default=None, description="the file with the token of a service account")


class Dcgm(Model):
    """dcgm-exporter on the machines with GPUs of an existing cluster."""

    port: Port = 9400


class Monitoring(Model):
    """Prometheus and Alertmanager on the controller, node-exporter on all machines."""

    kind: Literal["prometheus", "none"] = "none"
    retention: Duration = "15d"
    scrape_interval: Duration = "15s"
    ports: MonitoringPorts = MonitoringPorts()
    grafana: Grafana | None = None
    dcgm: Dcgm | None = None

    @property
    def interval(self) -> float:
        """Seconds from one scrape to the next."""
        return seconds(self.scrape_interval)


def seconds(duration: str) -> float:
    """A duration as Prometheus writes it, in seconds. Raises ValueError for another form.

    >>> seconds("15d"), seconds("1m30s"), seconds("0s")
    (1296000.0, 90.0, 0.0)
    """
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    if not parts or "".join(map("".join, parts)) != duration:
        raise ValueError(f"not a duration of Prometheus: {duration!r}")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)
