"""Grafana: it is well, its data sources answer, its dashboards show data, and it has no password that all know."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.monitoring import Monitoring
from pytest_ai_how.services.monitoring.grafana import Grafana, authorization

from ._monitoring import answering, kept

pytestmark = pytest.mark.requires("grafana")

#: How far back a panel is to have data; a cluster that nobody used has that of its machines.
SINCE = "now-1h"
#: Grafana's own (its defaults.ini), and what the reference system has.
DEFAULT = ("admin", "admin")


def grafana_of(monitoring: Monitoring) -> Grafana:
    """Grafana on the controller."""
    config, controller = monitoring.config.grafana, monitoring.cluster.controller
    assert config is not None, "required by the mark"
    return Grafana(controller, f"http://{controller.address}:{config.port}", authorization(config.token))


@pytest.mark.check("INF-32")
def test_dashboards_show_data(monitoring: Monitoring, evidence: Evidence) -> None:
    """Grafana and its database are well, each data source answers, and each panel's queries give values."""
    grafana, where = grafana_of(monitoring), monitoring.cluster.controller.name
    health = grafana.health()
    evidence.result(health.result)
    with answering():
        database = health.read(lambda said: str(said["database"]))
        sources = kept(evidence, grafana.sources())
        panels, told = grafana.panels()
    for answer in told:
        evidence.result(answer)
    assert database == "ok", f"{where}: Grafana's database is {database!r}, expected 'ok'"
    assert sources, f"{where}: Grafana has no data source; expected Prometheus at least"
    for uid, name in sources.items():
        reply = grafana.source_health(uid)
        evidence.result(reply.result)
        assert reply.status == 200, f"{where}: Grafana's data source {name!r} {reply.said}; expected status 200"
    assert panels, f"{where}: Grafana has no dashboard with a panel that asks for data; nothing was checked"
    for panel in panels:
        assert panel.queries, f"{where}: {panel} asks for nothing; give it a query, or remove it"
        with answering():
            values = kept(evidence, grafana.values(panel.queries, SINCE))
        assert values, f"{where}: {panel} has no value since {SINCE}; expected one at least; mend its queries"


@pytest.mark.check("INF-33")
def test_default_credentials(monitoring: Monitoring, evidence: Evidence) -> None:
    """Grafana does not let in who knows its first password (advisory)."""
    reply, where = grafana_of(monitoring).takes(*DEFAULT), monitoring.cluster.controller.name
    evidence.result(reply.result)
    assert reply.status != 200, f"{where}: Grafana takes {'/'.join(DEFAULT)}; change the password of its administrator"
    assert reply.status in (401, 403), (
        f"{where}: whether Grafana takes {'/'.join(DEFAULT)} is not known: it {reply.said}"
    )
