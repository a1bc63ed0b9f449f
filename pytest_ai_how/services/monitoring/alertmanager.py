"""Alertmanager, asked through its HTTP API (v2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_ai_how.node import Node
from pytest_ai_how.services.monitoring.http import Reply, ask
from pytest_ai_how.services.monitoring.prometheus import Labels
from pytest_ai_how.shell import Result


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that Alertmanager holds. ``state`` is unprocessed, active or suppressed."""

    labels: Labels
    state: str
    silences: tuple[str, ...]
    receivers: tuple[str, ...]

    def has(self, labels: Labels) -> bool:
        """Whether it has all of ``labels``, and maybe more."""
        return labels.items() <= self.labels.items()


class Alertmanager:
    """Alertmanager at ``url``, asked on ``node``. Each answer comes with what it was read from.

    Every method raises :class:`~.http.ApiError` where it does not answer as it is documented.
    """

    def __init__(self, node: Node, url: str) -> None:
        self.node, self.url = node, url

    def ready(self) -> Reply:
        """Whether it is ready to serve: status 200."""
        return ask(self.node, f"{self.url}/-/ready")

    def alerts(self) -> tuple[tuple[Alert, ...], Result]:
        """All alerts that it holds, silenced ones too."""
        reply = ask(self.node, f"{self.url}/api/v2/alerts")
        return reply.read(lambda said: tuple(parse_alerts(said))), reply.result

    def post(self, labels: Labels, start: float, end: float) -> Reply:
        """Hand in an alert that lasts until ``end``, in seconds since 1970; again with another end to end it."""
        alert = {"labels": dict(labels), "startsAt": _time(start), "endsAt": _time(end)}
        return ask(self.node, f"{self.url}/api/v2/alerts", body=[alert])

    def silence(self, labels: Labels, start: float, end: float, why: str) -> tuple[str, Result]:
        """Let nobody be told about alerts with these labels; the silence's identifier."""
        matchers = [{"name": name, "value": value, "isRegex": False} for name, value in labels.items()]
        body: Mapping[str, Any] = {
            "matchers": matchers,
            "startsAt": _time(start),
            "endsAt": _time(end),
            "createdBy": "pytest-ai-how",
            "comment": why,
        }
        reply = ask(self.node, f"{self.url}/api/v2/silences", body=body)
        return reply.read(lambda said: str(said["silenceID"])), reply.result

    def end_silence(self, id: str) -> Reply:
        """Let a silence be over."""
        return ask(self.node, f"{self.url}/api/v2/silence/{id}", method="DELETE")


def parse_alerts(said: Any) -> Iterator[Alert]:
    """Read the answer of ``/api/v2/alerts`` (Alertmanager 0.28.1), shortened::

    [{"labels": {"alertname": "Watchdog", "severity": "none"}, "receivers": [{"name": "nobody"}],
      "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"}}]
    """
    for one in said:
        status = one["status"]
        receivers = tuple(receiver["name"] for receiver in one["receivers"])
        yield Alert(one["labels"], status["state"], tuple(status["silencedBy"]), receivers)


def _time(seconds: float) -> str:
    """RFC 3339, as its API takes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
