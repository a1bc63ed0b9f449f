"""Prometheus, asked through its HTTP API (v1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from pytest_ai_how.config.monitoring import seconds
from pytest_ai_how.node import Node
from pytest_ai_how.services.monitoring.http import Reply, ask
from pytest_ai_how.shell import Result

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that is scraped. ``health`` is up, down, or unknown before the first time."""

    job: str
    instance: str
    url: str
    health: str
    error: str
    interval: float

    @property
    def host(self) -> str:
        """The name or address that is asked."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port that is asked."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def __str__(self) -> str:
        said = f" ({self.error})" if self.error else ""
        return f"{self.url} of job {self.job!r} is {self.health}{said}"


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one series, each with the time in seconds since 1970."""

    labels: Labels
    values: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1][1]


@dataclass(frozen=True, slots=True)
class Settings:
    """What Prometheus runs with: retention and interval in seconds, the names of its jobs.

    ``loaded`` tells whether it could load its configuration the last time that it tried.
    """

    retention: float
    interval: float
    jobs: tuple[str, ...]
    loaded: bool


class Prometheus:
    """Prometheus at ``url``, asked on ``node``. Each answer comes with what it was read from.

    Every method raises :class:`~.http.ApiError` where it does not answer as it is documented.
    """

    def __init__(self, node: Node, url: str) -> None:
        self.node, self.url = node, url

    def ready(self) -> Reply:
        """Whether it is ready to serve: status 200."""
        return ask(self.node, f"{self.url}/-/ready")

    def settings(self) -> tuple[Settings, tuple[Result, ...]]:
        """What it runs with, by itself."""
        replies = [self._ask(f"status/{part}") for part in ("config", "flags", "runtimeinfo")]
        interval, jobs = replies[0].read(lambda said: parse_config(said["data"]["yaml"]))
        # Without a limit of time, one of size may hold: then there is no time to tell.
        kept = replies[1].read(lambda said: seconds(str(said["data"]["storage.tsdb.retention.time"])))
        loaded = replies[2].read(lambda said: bool(said["data"]["reloadConfigSuccess"]))
        return Settings(kept, interval, jobs, loaded), tuple(reply.result for reply in replies)

    def targets(self) -> tuple[tuple[Target, ...], Result]:
        """Everything that is scraped."""
        reply = self._ask("targets", {"state": "active"})
        return reply.read(lambda said: tuple(parse_targets(said))), reply.result

    def query(self, text: str) -> tuple[tuple[Series, ...], Result]:
        """What an expression of PromQL is now. A range in it (``up[1m]``) gives all values of that time."""
        reply = self._ask("query", {"query": text})
        return reply.read(lambda said: tuple(parse_series(said))), reply.result

    def alertmanagers(self) -> tuple[tuple[str, ...], Result]:
        """The addresses that alerts are sent to."""
        reply = self._ask("alertmanagers")
        return reply.read(lambda said: tuple(one["url"] for one in said["data"]["activeAlertmanagers"])), reply.result

    def firing(self) -> tuple[tuple[Labels, ...], Result]:
        """The labels of each alert that fires."""
        reply = self._ask("alerts")
        firing = reply.read(lambda said: tuple(a["labels"] for a in said["data"]["alerts"] if a["state"] == "firing"))
        return firing, reply.result

    def _ask(self, path: str, query: Mapping[str, str] | None = None) -> Reply:
        return ask(self.node, f"{self.url}/api/v1/{path}", query=query)


def parse_config(text: str) -> tuple[float, tuple[str, ...]]:
    r"""The scrape interval in seconds, and the names of the jobs, of a configuration as Prometheus tells it.

    >>> parse_config("global: {scrape_interval: 15s}\nscrape_configs: [{job_name: node}]")
    (15.0, ('node',))
    """
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    jobs = tuple(str(one["job_name"]) for one in config.get("scrape_configs") or ())
    return seconds(str(config["global"]["scrape_interval"])), jobs


def parse_targets(said: Any) -> Iterator[Target]:
    """Read the answer of ``/api/v1/targets`` (Prometheus 2.53.3), shortened::

    {"status": "success", "data": {"activeTargets": [{
      "labels": {"instance": "localhost:9100", "job": "node"}, "scrapeUrl": "http://localhost:9100/metrics",
      "health": "down", "lastError": "Get ...: connect: connection refused", "scrapeInterval": "15s"}]}}
    """
    for one in said["data"]["activeTargets"]:
        labels = one["labels"]
        yield Target(
            labels["job"],
            labels["instance"],
            one["scrapeUrl"],
            one["health"],
            one["lastError"],
            seconds(one["scrapeInterval"]),
        )


def parse_series(said: Any) -> Iterator[Series]:
    """Read the answer of ``/api/v1/query`` (Prometheus 2.53.3): a vector has one ``value``, a matrix ``values``.

    >>> said = {"metric": {"instance": "n:9100"}, "value": [1795726668.5, "2.5"]}
    >>> next(parse_series({"data": {"resultType": "vector", "result": [said]}})).last
    2.5
    """
    if said["data"]["resultType"] not in ("vector", "matrix"):
        raise ValueError(f"a {said['data']['resultType']}, expected a vector or a matrix")
    for one in said["data"]["result"]:
        values = one["values"] if "values" in one else [one["value"]]
        yield Series(one["metric"], tuple((float(at), float(value)) for at, value in values))
