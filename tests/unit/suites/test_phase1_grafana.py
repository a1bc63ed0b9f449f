"""The checks of Grafana go red. No machine of ours has it: the answers have the form of its documentation (11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import ConfigError
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.monitoring import Monitoring
from pytest_ai_how.services.monitoring.grafana import authorization, parse_panels
from pytest_ai_how.transport.fake import FakeTransport
from suites.phase1 import test_grafana as checks

from .monitoring_fakes import Answer, monitoring, said

TOKEN = "glsa_not-a-real-token"
BOARD = {
    "title": "Nodes",
    "templating": {"list": [{"name": "node", "current": {"value": ["$__all"]}}]},
    "panels": [
        {"type": "row", "title": "folded", "panels": [{"type": "stat", "title": "Up", "targets": [{"refId": "A"}]}]},
        {"type": "text", "title": "Read me"},
        {"type": "timeseries", "title": "Load", "datasource": {"uid": "P1"},
         "targets": [{"refId": "A", "expr": 'node_load1{node=~"$node"}'}, {"refId": "B", "hide": True}]},
    ],
}  # fmt: skip
WELL: dict[str, Answer] = {
    "3000/api/health": said({"commit": "5b85c4c2fc", "database": "ok", "version": "11.1.0"}),
    "3000/api/datasources": said([{"id": 1, "uid": "P1", "name": "Prometheus", "type": "prometheus"}]),
    "3000/api/datasources/uid/P1/health": said({"message": "Successfully queried the Prometheus API.", "status": "OK"}),
    "3000/api/search?type=dash-db&limit=5000": said([{"id": 2, "uid": "D1", "title": "Nodes", "type": "dash-db"}]),
    "3000/api/dashboards/uid/D1": said({"meta": {"slug": "nodes"}, "dashboard": BOARD}),
    "POST 3000/api/ds/query": said({"results": {"A": {"status": 200, "frames": [{"data": {"values": [[1], [0.5]]}}]}}}),
    "3000/api/user": said({"message": "Invalid username or password"}, 401),
}


@pytest.fixture
def config(tmp_path: Path) -> ClusterConfig:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    site = load_config("site", environ={"HOME": "/root"})
    assert site.monitoring.grafana is not None
    grafana = site.monitoring.grafana.model_copy(update={"token": str(tmp_path / "token")})
    return site.model_copy(update={"monitoring": site.monitoring.model_copy(update={"grafana": grafana})})


def dashboards(config: ClusterConfig, **answers: Answer) -> Monitoring:
    evidence, watched = Evidence(), monitoring({**WELL, **answers}, config)
    checks.test_dashboards_show_data(watched, evidence)
    assert evidence.samples
    return watched


@pytest.mark.seen_to_fail("INF-32")
def test_grafana_that_shows_nothing(config: ClusterConfig) -> None:
    dashboards(config)
    empty = said({"results": {"A": {"status": 200, "frames": [{"data": {"values": [[], []]}}]}}})
    asks_nothing = {"title": "Nodes", "panels": [{"type": "stat", "title": "Up", "targets": []}]}
    cases: dict[str, tuple[str, Answer]] = {
        "3000/api/health": (r"Grafana's database is 'failing'", said({"database": "failing"})),
        "3000/api/datasources": (r"Grafana has no data source", said([])),
        "3000/api/datasources/uid/P1/health": (
            r"Grafana's data source 'Prometheus' answers with 400: refused",
            said("refused", 400),
        ),
        "3000/api/search?type=dash-db&limit=5000": (r"Grafana has no dashboard with a panel", said([])),
        "3000/api/dashboards/uid/D1": (
            r"panel 'Up' of dashboard 'Nodes' asks for nothing",
            said({"dashboard": asks_nothing}),
        ),
        "POST 3000/api/ds/query": (r"panel 'Up' of dashboard 'Nodes' has no value since now-1h", empty),
    }
    for path, (says, answer) in cases.items():
        with pytest.raises(AssertionError, match=rf"^controller: {says}"):
            dashboards(config, **{path: answer})
    with pytest.raises(AssertionError, match=r"^controller: http.*:3000/api/datasources answers with 401: no"):
        dashboards(config, **{"3000/api/datasources": said("no", 401)})


@pytest.mark.seen_to_fail("INF-33")
def test_a_password_that_all_know(config: ClusterConfig) -> None:
    def check(answer: Answer) -> None:
        checks.test_default_credentials(monitoring({"3000/api/user": answer}, config), Evidence())

    check(WELL["3000/api/user"])
    with pytest.raises(AssertionError, match=r"^controller: Grafana takes admin/admin; change the password"):
        check(said({"login": "admin"}))
    with pytest.raises(
        AssertionError, match=r"^controller: whether Grafana takes admin/admin is not known: it answers wi"
    ):
        check(said("bad gateway", 502))


def test_the_token_is_given_to_curl_where_nobody_sees_it(config: ClusterConfig) -> None:
    transport = dashboards(config).cluster.controller.transport
    assert isinstance(transport, FakeTransport)
    assert not any(TOKEN in word for call in transport.calls for word in call.argv)
    assert sum(TOKEN.encode() in call.input for call in transport.calls) > 3
    with pytest.raises(ConfigError, match=r"^/nowhere/token.*can't be read: No such file"):
        authorization("/nowhere/token")


def test_variables_of_a_dashboard_are_filled_in() -> None:
    up, load = parse_panels({"dashboard": BOARD})
    assert (up.title, load.title) == ("Up", "Load")
    assert [query["expr"] for query in load.queries] == ['node_load1{node=~".*"}']
    assert load.queries[0]["datasource"] == {"uid": "P1"}
