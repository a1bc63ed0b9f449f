"""The checks of monitoring go red for what was captured of a real Prometheus, and name the machine and the cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services import monitoring as services
from pytest_ai_how.services.monitoring import ApiError, Monitoring
from suites.phase1 import test_monitoring as checks

from .monitoring_fakes import Answer, captured, changed, facts, monitoring, said

LIMITS = load_limits("local")
TARGETS, ALERTS = "9090/api/v1/targets?state=active", "9093/api/v2/alerts"
CPU_TIME = (
    "9090/api/v1/query?query=sum by (job, instance) (deriv(node_cpu_seconds_total[8s])) "
    "unless on (job, instance) sum by (job, instance) (resets(node_cpu_seconds_total[8s])) > 0"
)
AGE = "9090/api/v1/query?query=time() - timestamp(node_memory_MemTotal_bytes)"
TOTAL = "9090/api/v1/query?query=node_memory_MemTotal_bytes"
NODE02 = "10.78.0.12:9100"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured does not change while it is waited for."""
    for name in ("ARRIVES", "RESENT"):
        monkeypatch.setattr(checks, name, 0.1)
    monkeypatch.setattr(services.service, "_SCRAPES", 0)
    wait_for = checks.wait_for
    monkeypatch.setattr(checks, "wait_for", lambda probe, **how: wait_for(probe, **how | {"within": Deadline(0.05)}))


def of_node02(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], None]:
    """Change the series of node02."""

    def apply(data: Any) -> None:
        [one] = [one for one in data["data"]["result"] if one["metric"]["instance"] == NODE02]
        change(one)

    return apply


def valued(value: str) -> Callable[[Any], None]:
    return of_node02(lambda one: one.update(value=[one["value"][0], value]))


def settings(evidence: Evidence, answers: dict[str, Answer], config: ClusterConfig | None = None) -> None:
    checks.test_settings(monitoring(answers, config), evidence)


def metrics(evidence: Evidence, answers: dict[str, Answer], **changes: dict[str, str]) -> None:
    measure = Measurements(LIMITS, evidence)
    checks.test_metrics(monitoring(answers), facts(evidence, **changes), evidence, measure)


def jobs(evidence: Evidence, answers: dict[str, Answer]) -> None:
    checks.test_no_dead_job(monitoring(answers), evidence, Measurements(LIMITS, evidence), LIMITS)


def test_all_is_green_on_a_healthy_cluster(evidence: Evidence) -> None:
    whole = captured()
    settings(evidence, whole)
    checks.test_targets_are_the_nodes(monitoring(whole), evidence)
    metrics(evidence, whole)
    jobs(evidence, whole)
    checks.test_alerts_arrive(monitoring(whole), "f00d", evidence)
    watched = monitoring(whole)
    checks.test_unprivileged(watched, watched.cluster, facts(evidence))


@pytest.mark.seen_to_fail("INF-27")
def test_settings_that_are_not_as_declared(evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^controller: Prometheus asks every 60 s, expected 2s as declared"):
        settings(evidence, captured("slow"))
    with pytest.raises(AssertionError, match=r"^controller: Prometheus could not load its configuration"):
        settings(evidence, captured("unloaded"))
    with pytest.raises(AssertionError, match=r"^controller: Prometheus, http.*9090.*does not answer: curl: \(7\) Fail"):
        settings(evidence, captured("no-prometheus"))
    config = load_config("local", environ={})
    longer = config.model_copy(update={"monitoring": config.monitoring.model_copy(update={"retention": "30d"})})
    with pytest.raises(AssertionError, match=r"keeps what it knows for 1\.296e\+06 s, expected 30d as declared"):
        settings(evidence, captured(), longer)

    def seldom(data: Any) -> None:
        for target in data["data"]["activeTargets"]:
            target["scrapeInterval"] = "1m"

    with pytest.raises(AssertionError, match=r"10\.78\.0\.1\d:9100.* and asked every 60 s, expected 2s"):
        settings(evidence, changed(captured(), TARGETS, seldom))
    with pytest.raises(AssertionError, match=r"status/config said .*JSONDecodeError"):
        settings(evidence, captured() | {"9090/api/v1/status/config": said("<html>a proxy's page</html>")})


@pytest.mark.seen_to_fail("INF-28")
def test_nodes_that_are_no_live_targets(evidence: Evidence) -> None:
    def check(*faults: str) -> None:
        checks.test_targets_are_the_nodes(monitoring(captured(*faults)), evidence)

    with pytest.raises(AssertionError, match=r"^node01, node02: no target of Prometheus, which asks controller; expec"):
        check("localhost-only")
    with pytest.raises(
        AssertionError, match=r"^node02: http.*9100/metrics of job 'node' is down \(.*connection refuse"
    ):
        check("stopped")
    with pytest.raises(AssertionError, match=r"^controller: .*targets does not answer: curl: \(7\)"):
        check("no-prometheus")

    def nothing(data: Any) -> None:
        data["data"]["activeTargets"] = []

    def strange(data: Any) -> None:
        for target in data["data"]["activeTargets"]:
            target["scrapeUrl"] = target["scrapeUrl"].replace("10.78.0.12", "10.78.0.99")

    for change, says in ((nothing, "asks no node-exporter .*only nothing"), (strange, "0.99:9100.*none of the nodes")):
        with pytest.raises(
            AssertionError, match=rf"^controller: Prometheus asks .*{says.partition('asks ')[2] or says}"
        ):
            checks.test_targets_are_the_nodes(monitoring(changed(captured(), TARGETS, change)), evidence)


@pytest.mark.seen_to_fail("INF-29")
def test_metrics_that_are_missing_old_or_not_true(evidence: Evidence) -> None:
    whole = captured()
    with pytest.raises(AssertionError, match=r"^node02: Prometheus has no node_cpu_seconds_total of it \(CPU\)"):
        metrics(evidence, captured("stopped"))
    with pytest.raises(AssertionError, match=r"^node02: node_memory_MemTotal_bytes is nan, which can't be \(memory\)"):
        metrics(evidence, changed(whole, TOTAL, valued("NaN")))
    with pytest.raises(AssertionError, match=r"^node02: .*MemTotal_bytes is 1024, but /proc/meminfo says 25276514304"):
        metrics(evidence, changed(whole, TOTAL, valued("1024")))
    with pytest.raises(LimitExceeded, match=r"monitoring\.metric_age is 61\.5 s, expected at most 60 s"):
        metrics(evidence, changed(whole, AGE, valued("61.5")))
    with pytest.raises(LimitExceeded, match=r"monitoring\.cpu_time is 0 fraction, expected at least 0\.85"):
        metrics(evidence, changed(whole, CPU_TIME, valued("0")))
    with pytest.raises(AssertionError, match=r"^node02: node_cpu_seconds_total is of 2 CPUs, but the machine has 64"):
        metrics(evidence, whole, cpus={"node02": "64"})
    gone = changed(whole, CPU_TIME, lambda data: data["data"].update(result=[]))
    with pytest.raises(AssertionError, match=r"^controller: no rate of node_cpu_seconds_total; expected samples"):
        metrics(evidence, gone)


@pytest.mark.seen_to_fail("INF-30")
def test_jobs_that_are_dead(evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^controller: .*:9341/metrics of job 'slurm' is down .* never answered"):
        jobs(evidence, captured("dead-job"))
    with pytest.raises(AssertionError, match=r"^controller: job 'dcgm' of Prometheus has no target, as 1 of 4 jobs"):
        jobs(evidence, captured("empty-job"))
    stopped = captured("stopped")
    jobs(evidence, stopped)  # a moment ago it answered: it may be starting again
    later = changed(stopped, "9090/api/v1/query?query=vector(time())", lambda data: data["data"]["result"][0].update(
        value=[0, str(float(data["data"]["result"][0]["value"][1]) + 121)]))  # fmt: skip
    with pytest.raises(LimitExceeded, match=r"monitoring\.target_down is 1\d\d\.\d+ s, expected at most 120 s"):
        jobs(evidence, later)
    none = changed(captured(), "9090/api/v1/status/config", lambda data: data["data"].update(
        yaml="global: {scrape_interval: 2s}"))  # fmt: skip
    with pytest.raises(AssertionError, match=r"^controller: Prometheus has no job at all"):
        jobs(evidence, none)


@pytest.mark.seen_to_fail("INF-31")
def test_alerts_that_do_not_arrive(evidence: Evidence) -> None:
    whole, synthetic = captured(), f"{ALERTS}#synthetic"

    def check(answers: dict[str, Answer]) -> None:
        checks.test_alerts_arrive(monitoring(answers), "f00d", evidence)

    with pytest.raises(AssertionError, match=r"^controller: Alertmanager, http.*9093.*does not answer: curl: \(7\)"):
        check(captured("no-alertmanager"))
    with pytest.raises(AssertionError, match=r"^controller: not in Alertmanager within .*no alert \{.*AiHowSynthetic"):
        check(whole | {synthetic: whole[ALERTS]})
    with pytest.raises(AssertionError, match=r"^controller: an alert that is handed in answers with 400: bad"):
        check(whole | {f"POST {ALERTS}": said("bad", 400)})

    def unsilenced(data: Any) -> None:
        for alert in data:
            alert["status"] |= {"state": "active", "silencedBy": []}

    with pytest.raises(AssertionError, match=r"^controller: the alert is active, silenced by nothing; expected \S{36}"):
        check(changed(whole, synthetic, unsilenced))

    def unheard(data: Any) -> None:
        for alert in data:
            alert["receivers"] = []

    with pytest.raises(AssertionError, match=r"^controller: Alertmanager has no receiver for the alert"):
        check(changed(whole, synthetic, unheard))
    with pytest.raises(
        AssertionError, match=r"^controller: not in Alertmanager within .*no alert \{'alertname': 'Watch"
    ):
        check(whole | {ALERTS: said([])})
    alone = changed(whole, "9090/api/v1/alertmanagers", lambda data: data["data"].update(activeAlertmanagers=[]))
    with pytest.raises(
        AssertionError, match=r"^controller: Prometheus sends alerts to nobody; expected Alertmanager at"
    ):
        check(alone)
    with pytest.raises(AssertionError, match=r"^controller: Prometheus has no alert Watchdog"):
        check(changed(whole, "9090/api/v1/alerts", lambda data: data["data"].update(alerts=[])))


@pytest.mark.seen_to_fail("INF-38")
def test_daemons_that_run_as_root(evidence: Evidence) -> None:
    watched = monitoring(captured())
    with pytest.raises(
        AssertionError, match=r"^node01: node-exporter, process \d+ \(prometheus-node\), runs as root; e"
    ):
        checks.test_unprivileged(watched, watched.cluster, facts(evidence, "root"))
    with pytest.raises(
        AssertionError, match=r"^node02: no process is known that listens on tcp 9100; expected node-exp"
    ):
        checks.test_unprivileged(watched, watched.cluster, facts(evidence, listening={"node02": ""}))
    with pytest.raises(AssertionError, match=r"^node02: the user of process \d+ at tcp 9100 is not known"):
        checks.test_unprivileged(watched, watched.cluster, facts(evidence, processes={"node02": "1 0 systemd"}))


def test_prometheus_that_does_not_answer_is_why_monitoring_is_not_ready() -> None:
    assert monitoring(captured()).faults() == ()
    early = changed(captured(), TARGETS, lambda data: data["data"].update(activeTargets=[]))
    [fault] = monitoring(early).faults()
    assert fault.endswith("has no target")
    [fault] = monitoring(captured("no-prometheus")).faults()
    assert fault.startswith("controller: Prometheus, http")
    assert "does not answer: curl: (7)" in fault


def test_a_refused_query_says_why() -> None:
    # Prometheus 2.53.3
    body = {"status": "error", "errorType": "bad_data", "error": "invalid parameter"}
    refused: Monitoring = monitoring({"9090/api/v1/query?query=(": said(body, 400)})
    with pytest.raises(ApiError, match=r"^controller: .*query answers with 400: .*invalid parameter"):
        refused.prometheus.query("(")
