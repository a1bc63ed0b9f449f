"""What monitoring needs on each machine: where its daemons listen, what is scraped, where alerts go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pytest_ai_how.config.models import ClusterConfig, NodeConfig

# Seconds. Prometheus's own default, which must not be longer than the time between two scrapes.
_SCRAPE_TIMEOUT = 10.0
_EVERYWHERE = MappingProxyType({"/etc/default/prometheus-node-exporter": "monitoring/node-exporter.j2"})
_CONTROLLER = MappingProxyType(
    {
        "/etc/default/prometheus": "monitoring/prometheus.j2",
        "/etc/prometheus/prometheus.yml": "monitoring/prometheus.yml.j2",
        "/etc/prometheus/ai-how.rules.yml": "monitoring/rules.yml.j2",
        "/etc/default/prometheus-alertmanager": "monitoring/alertmanager.j2",
        "/etc/prometheus/alertmanager.yml": "monitoring/alertmanager.yml.j2",
    }
)


def monitoring_names(config: ClusterConfig) -> Mapping[str, Any]:
    """What the templates ``monitoring/*`` know beside what all templates know."""
    monitoring = config.monitoring
    longest = monitoring.interval <= _SCRAPE_TIMEOUT
    return {
        "monitoring": monitoring,
        # A machine that is left off would be a target that never answers.
        "watched": [node for node in config.nodes if node.auto_start],
        "scrape_timeout": monitoring.scrape_interval if longest else f"{_SCRAPE_TIMEOUT:g}s",
    }


def monitoring_files(
    config: ClusterConfig, node: NodeConfig, text: Callable[[str], str]
) -> Iterator[tuple[str, bytes, int]]:
    """Path, content and mode of the files on ``node``; ``text`` renders a template for it. None without monitoring."""
    if config.monitoring.kind == "none":
        return
    templates = {**_EVERYWHERE, **(_CONTROLLER if "controller" in node.roles else {})}
    for path, template in templates.items():
        yield path, text(template).encode(), 0o644
