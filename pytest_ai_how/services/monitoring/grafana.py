"""Grafana, asked through its HTTP API with the token of a service account."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ai_how.errors import ConfigError, Problem
from pytest_ai_how.node import Node
from pytest_ai_how.services.monitoring.http import Reply, ask
from pytest_ai_how.shell import Result

# What a dashboard holds beside panels that ask: a row groups others, a text says itself.
_SILENT = ("row", "text", "news", "dashlist", "alertlist", "welcome")


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard and its queries, as Grafana keeps them."""

    dashboard: str
    title: str
    queries: tuple[Mapping[str, Any], ...]

    def __str__(self) -> str:
        return f"panel {self.title!r} of dashboard {self.dashboard!r}"


class Grafana:
    """Grafana at ``url``, asked on ``node``; ``secret`` is what curl is told to authenticate by.

    Every method but the first and the last raises :class:`~.http.ApiError` where it does not answer as documented.
    """

    def __init__(self, node: Node, url: str, secret: str = "") -> None:
        self.node, self.url, self._secret = node, url, secret

    def health(self) -> Reply:
        """Whether it serves, and its database too: ``{"database": "ok", "version": "11.1.0"}``."""
        return ask(self.node, f"{self.url}/api/health")

    def sources(self) -> tuple[dict[str, str], Result]:
        """The names of its data sources by their identifier."""
        reply = self._ask("datasources")
        return reply.read(lambda said: {str(one["uid"]): str(one["name"]) for one in said}), reply.result

    def source_health(self, uid: str) -> Reply:
        """Whether a data source answers: ``{"status": "OK", "message": "…"}``, else status 400."""
        return self._ask(f"datasources/uid/{uid}/health")

    def panels(self) -> tuple[tuple[Panel, ...], tuple[Result, ...]]:
        """All panels that ask for data, of all dashboards."""
        listed = self._ask("search?type=dash-db&limit=5000")
        replies = [self._ask(f"dashboards/uid/{uid}") for uid in listed.read(lambda said: [one["uid"] for one in said])]
        found = [panel for reply in replies for panel in reply.read(lambda said: list(parse_panels(said)))]
        return tuple(found), (listed.result, *(reply.result for reply in replies))

    def values(self, queries: Sequence[Mapping[str, Any]], since: str) -> tuple[int, Result]:
        """How many values queries give from ``since`` (``now-1h``) until now."""
        body = {"queries": list(queries), "from": since, "to": "now"}
        reply = ask(self.node, f"{self.url}/api/ds/query", body=body, secret=self._secret)
        return reply.read(parse_values), reply.result

    def takes(self, user: str, password: str) -> Reply:
        """Whether a user can log in with a password: status 200, else 401."""
        return ask(self.node, f"{self.url}/api/user", secret=f"user = {json.dumps(f'{user}:{password}')}\n")

    def _ask(self, path: str) -> Reply:
        return ask(self.node, f"{self.url}/api/{path}", secret=self._secret)


def authorization(file: str | None) -> str:
    """What tells curl to send the token in ``file``, a path on this machine. Raises ConfigError when it can't be read.

    Without a file Grafana is asked as nobody.
    """
    if file is None:
        return ""
    try:
        token = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError([Problem(file, 0, "monitoring.grafana.token", f"can't be read: {error.strerror}")]) from error
    return f"header = {json.dumps(f'Authorization: Bearer {token}')}\n"


def parse_panels(said: Any) -> Iterator[Panel]:
    """Read the answer of ``/api/dashboards/uid/…`` (grafana.com, Dashboard HTTP API, version 11), shortened::

        {"dashboard": {"title": "Nodes", "templating": {"list": [{"name": "node", "current": {"value": "node01"}}]},
          "panels": [{"type": "row", "panels": []}, {"type": "timeseries", "title": "Load",
            "datasource": {"uid": "P1"}, "targets": [{"refId": "A", "expr": "node_load1"}]}]}}

    A variable stands for its current value; all of its values are a pattern that fits everything.
    """
    board = said["dashboard"]
    values = {one["name"]: _value(one) for one in board.get("templating", {}).get("list", ())}
    for panel in _flat(board.get("panels", ())):
        queries = [
            {"datasource": panel.get("datasource"), **query}
            for query in panel.get("targets", ())
            if not query.get("hide")
        ]
        if panel["type"] not in _SILENT:
            told = tuple(_filled(query, values) for query in queries)
            yield Panel(board["title"], panel.get("title", ""), told)


def parse_values(said: Any) -> int:
    """Count the values in the answer of ``/api/ds/query`` (grafana.com, Data source HTTP API, version 11), shortened.

    >>> parse_values({"results": {"A": {"status": 200, "frames": [{"data": {"values": [[1, 2], [0.5, 0.7]]}}]}}})
    2
    """
    frames = [frame for result in said["results"].values() for frame in result.get("frames", ())]
    return sum(len(frame["data"]["values"][-1]) for frame in frames if frame["data"]["values"])


def _flat(panels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """A row that is folded holds its panels itself."""
    for panel in panels:
        yield panel
        yield from panel.get("panels", ())


def _value(variable: Mapping[str, Any]) -> str:
    value = variable.get("current", {}).get("value", "")
    values = [str(one) for one in (value if isinstance(value, list) else [value])]
    return ".*" if "$__all" in values else "|".join(values)


def _filled(query: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    def fill(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: fill(inner) for key, inner in part.items()}
        if not isinstance(part, str):
            return part
        for name, value in sorted(values.items(), key=lambda pair: -len(pair[0])):
            part = part.replace(f"${{{name}}}", value).replace(f"${name}", value)
        return part

    return {key: fill(part) for key, part in query.items()}
