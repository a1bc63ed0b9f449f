"""Monitoring: Prometheus runs as declared and sees every machine, and its alerts arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.monitoring import seconds
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.limits import Limits
from pytest_ai_how.listening import LISTENING
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.monitoring import Alert, Monitoring, Series, Target
from pytest_ai_how.services.monitoring.prometheus import Labels
from pytest_ai_how.shell import Result

from ._facts import CPUS, MEMORY
from ._monitoring import PROCESSES, answering, asked, gives, kept

pytestmark = pytest.mark.requires("monitoring")

#: What a machine must tell of itself, by what it is about. Of a network only what goes through a real interface counts.
METRICS = {
    "CPU": "node_cpu_seconds_total",
    "memory": "node_memory_MemTotal_bytes",
    "free memory": "node_memory_MemAvailable_bytes",
    "disk": "node_disk_written_bytes_total",
    "network": 'node_network_transmit_bytes_total{device!="lo"}',
}
MIB = 2**20
#: A slope needs two samples; in so many intervals there are some, even when one scrape was missed.
INTERVALS = 4
#: Seconds. Alertmanager tells of an alert when it has stored it; a silence is known at once.
ARRIVES = 10.0
#: Seconds after which Prometheus tells an alert again, by default (--rules.alert.resend-delay).
RESENT = 60.0


@pytest.mark.check("INF-27")
def test_settings(monitoring: Monitoring, evidence: Evidence) -> None:
    """Prometheus is ready, loaded its configuration, and keeps and asks for as long and as often as is declared."""
    where, wanted = monitoring.cluster.controller.name, monitoring.config
    ready = monitoring.prometheus.ready()
    evidence.result(ready.result)
    assert ready.status == 200, f"{where}: Prometheus, {ready.url}, {ready.said}; read `journalctl -u prometheus` there"
    with answering():
        settings, told = monitoring.prometheus.settings()
        targets = monitoring.exporters(kept(evidence, monitoring.prometheus.targets()))
    for answer in told:
        evidence.result(answer)
    assert settings.loaded, f"{where}: Prometheus could not load its configuration and goes on with an older one"
    assert settings.retention == seconds(wanted.retention), (
        f"{where}: Prometheus keeps what it knows for {settings.retention:g} s, expected {wanted.retention} as declared"
    )
    assert settings.interval == wanted.interval, (
        f"{where}: Prometheus asks every {settings.interval:g} s, expected {wanted.scrape_interval} as declared"
    )
    other = next((target for target in targets if target.interval != wanted.interval), None)
    assert other is None, f"{where}: {other} and asked every {other.interval:g} s, expected {wanted.scrape_interval}"


@pytest.mark.check("INF-28")
def test_targets_are_the_nodes(monitoring: Monitoring, evidence: Evidence) -> None:
    """The node-exporters that Prometheus asks are those of all nodes, and each answers."""
    where = monitoring.cluster.controller.name
    with answering():
        targets = asked(monitoring, evidence)
    exporters = monitoring.exporters(targets)
    assert exporters, (
        f"{where}: Prometheus asks no node-exporter (port {monitoring.config.ports.node_exporter}), "
        f"only {', '.join(target.url for target in targets) or 'nothing'}"
    )
    strange = [target for target in exporters if not monitoring.node_of(target.host)]
    assert not strange, f"{where}: Prometheus asks {strange[0].url}, which is none of the nodes"
    seen = [monitoring.node_of(target.host) for target in exporters]
    missing = [node.name for node in monitoring.cluster.nodes if node.name not in seen]
    assert not missing, (
        f"{', '.join(missing)}: no target of Prometheus, which asks {', '.join(seen)}; expected every node; "
        "complete scrape_configs"
    )
    down = [f"{node}: {target}" for node, target in zip(seen, exporters, strict=True) if target.health != "up"]
    assert not down, f"{down[0]}; expected up" + (f" ({len(down)} of {len(seen)} are not)" if down[1:] else "")


@pytest.mark.check("INF-29")
@pytest.mark.reads(MEMORY, CPUS)
def test_metrics(monitoring: Monitoring, facts: Facts, evidence: Evidence, measure: Measurements) -> None:
    """Every node tells of its CPUs, memory, disks and network: all of it, of now, and what its kernel says, too."""
    with answering():
        targets = monitoring.exporters(asked(monitoring, evidence))
        values = {what: gives(monitoring, targets, metric, evidence) for what, metric in METRICS.items()}
        ages = gives(monitoring, targets, f"time() - timestamp({METRICS['memory']})", evidence)
    for node in monitoring.cluster.nodes:
        for what, series in values.items():
            found = [one.last for one in series[node.name]]
            assert found, f"{node.name}: Prometheus has no {METRICS[what]} of it ({what}); expected one at least"
            wrong = [value for value in found if not math.isfinite(value) or value < 0]
            assert not wrong, f"{node.name}: {METRICS[what]} is {wrong[0]:g}, which can't be ({what})"
        assert ages[node.name], f"{node.name}: the age of {METRICS['memory']} is not known; expected one"
        measure("monitoring.metric_age", max(one.last for one in ages[node.name]), "s", node=node.name)
    for name, memory in facts(MEMORY).items():
        told, free = (values[what][name][0].last for what in ("memory", "free memory"))
        assert told == memory * MIB, (
            f"{name}: {METRICS['memory']} is {told:.0f}, but /proc/meminfo says {memory * MIB:.0f} bytes"
        )
        assert free <= told, f"{name}: {METRICS['free memory']} is {free:.0f}, more than the memory of {told:.0f} bytes"
    with answering():
        busy = rates(monitoring, targets, evidence)
    for name, count in facts(CPUS).items():
        cpus = {one.labels.get("cpu") for one in values["CPU"][name]}
        assert len(cpus) == count, f"{name}: {METRICS['CPU']} is of {len(cpus)} CPUs, but the machine has {count}"
        assert busy[name], f"{name}: no rate of {METRICS['CPU']}; expected samples of several scrapes"
        measure("monitoring.cpu_time", busy[name][0].last / count, "fraction", node=name)


def rates(monitoring: Monitoring, targets: tuple[Target, ...], evidence: Evidence) -> dict[str, tuple[Series, ...]]:
    """CPU seconds of all kinds in a second of each machine, once there are samples enough.

    ``deriv`` goes by all samples. ``rate`` goes by a guess beyond them, far off on a machine that has just started;
    ``irate`` goes by two, and a busy host reads each unevenly late. A machine that started anew within the window has
    no slope until that is past.
    """
    window = math.ceil(INTERVALS * monitoring.config.interval)
    metric = f"{METRICS['CPU']}[{window}s]"
    by = "by (job, instance)"
    query = f"sum {by} (deriv({metric})) unless on (job, instance) sum {by} (resets({metric})) > 0"
    found: dict[str, tuple[Series, ...]] = {}

    def all_there() -> bool:
        nonlocal found
        found = gives(monitoring, targets, query, evidence)
        return all(found.values())

    with suppress(DeadlineExceeded):
        wait_for(all_there, within=2 * window, what="two samples of each node's CPU time", every=0.5)
    return found


@pytest.mark.check("INF-30")
def test_no_dead_job(monitoring: Monitoring, evidence: Evidence, measure: Measurements, limits: Limits) -> None:
    """Each job has targets, and each target answers, or did so a moment ago."""
    where = monitoring.cluster.controller.name
    with answering():
        settings, told = monitoring.prometheus.settings()
        targets = asked(monitoring, evidence)
    evidence.result(told[0])
    assert settings.jobs, f"{where}: Prometheus has no job at all; expected one at least"
    empty = [job for job in settings.jobs if job not in {target.job for target in targets}]
    assert not empty, (
        f"{where}: job {empty[0]!r} of Prometheus has no target, as {len(empty)} of {len(settings.jobs)} jobs; "
        "expected one at least; remove the job, or mend its list of targets"
    )
    for target in targets:
        if target.health != "up":
            measure("monitoring.target_down", down_for(monitoring, target, limits, evidence), "s",
                    node=monitoring.node_of(target.host) or target.host)  # fmt: skip


def down_for(monitoring: Monitoring, target: Target, limits: Limits, evidence: Evidence) -> float:
    """Seconds since a target answered. One that never did so in the time that is allowed, twice over, is dead."""
    gate = limits["monitoring.target_down"].gate
    assert gate is not None, f"{limits.where('monitoring.target_down')}: has no gate"
    assert gate.max is not None, f"{limits.where('monitoring.target_down')}: has no maximum"
    window = math.ceil(2 * gate.max)
    query = f'up{{job="{target.job}",instance="{target.instance}"}}[{window}s]'
    with answering():
        series = kept(evidence, monitoring.prometheus.query(query))
        now = kept(evidence, monitoring.prometheus.query("vector(time())"))[0].last
    answered = [at for one in series for at, value in one.values if value]
    where = monitoring.node_of(target.host) or target.host
    assert answered, (
        f"{where}: {target}, and never answered in the last {window} s; expected up; "
        "start what it is to ask, or remove the target"
    )
    return now - max(answered)


@pytest.mark.check("INF-31")
def test_alerts_arrive(monitoring: Monitoring, run_id: str, evidence: Evidence) -> None:
    """Alertmanager is ready, takes an alert that is handed in, and has every alert that fires in Prometheus.

    The alert of the check is silenced beforehand: it arrives, and nobody is called for it.
    """
    alertmanager, where = monitoring.alertmanager, monitoring.cluster.controller
    ready = alertmanager.ready()
    evidence.result(ready.result)
    assert ready.status == 200, (
        f"{where.name}: Alertmanager, {ready.url}, {ready.said}; read `journalctl -u prometheus-alertmanager` there"
    )
    labels = {"alertname": "AiHowSynthetic", "severity": "none", "run": run_id}
    start = float(where.run("date", "+%s").stdout)
    end = start + 2 * ARRIVES
    with answering():
        silence = kept(evidence, alertmanager.silence(labels, start, end, "pytest-ai-how looks whether alerts arrive"))
        try:
            handed = alertmanager.post(labels, start, end)
            evidence.result(handed.result)
            assert handed.status == 200, f"{where.name}: an alert that is handed in {handed.said}; expected status 200"
            (arrived,) = (one for one in held(monitoring, [labels], ARRIVES, evidence) if one.has(labels))
        finally:
            evidence.result(alertmanager.post(labels, start, float(where.run("date", "+%s").stdout)).result)
            evidence.result(alertmanager.end_silence(silence).result)
    assert silence in arrived.silences, (
        f"{where.name}: the alert is {arrived.state}, silenced by {arrived.silences or 'nothing'}; expected {silence}"
    )
    assert arrived.receivers, f"{where.name}: Alertmanager has no receiver for the alert {labels}; mend its route"
    from_prometheus(monitoring, evidence)


def from_prometheus(monitoring: Monitoring, evidence: Evidence) -> None:
    """What fires in Prometheus is in Alertmanager. On machines that we made, one alert always fires."""
    where, port = monitoring.cluster.controller.name, monitoring.config.ports.alertmanager
    with answering():
        known = senders(monitoring, port, evidence)
        firing = kept(evidence, monitoring.prometheus.firing())
    assert any(f":{port}/" in url for url in known), (
        f"{where}: Prometheus sends alerts to {', '.join(known) or 'nobody'}; expected Alertmanager at port {port}"
    )
    if monitoring.cluster.config.is_ours:
        assert any(alert.get("alertname") == "Watchdog" for alert in firing), (
            f"{where}: Prometheus has no alert Watchdog, which fires always; its rules are not evaluated"
        )
    with answering():
        held(monitoring, firing, RESENT + 2 * monitoring.config.interval, evidence)


def senders(monitoring: Monitoring, port: int, evidence: Evidence) -> tuple[str, ...]:
    """Where Prometheus sends alerts, once Alertmanager is among it, or as it is after a while."""
    told = monitoring.prometheus.alertmanagers()

    def there() -> bool:
        nonlocal told
        told = monitoring.prometheus.alertmanagers()
        return any(f":{port}/" in url for url in told[0])

    with suppress(DeadlineExceeded):
        wait_for(there, within=ARRIVES, what="Alertmanager known to Prometheus", every=0.2)
    return kept(evidence, told)


def held(monitoring: Monitoring, wanted: Sequence[Labels], within: float, evidence: Evidence) -> tuple[Alert, ...]:
    """Alertmanager's alerts once all that are ``wanted`` are among them."""
    answers: list[tuple[tuple[Alert, ...], Result]] = []

    def missing() -> list[Labels]:
        return [dict(one) for one in wanted if not any(alert.has(one) for alert in answers[-1][0])]

    def there() -> bool:
        answers.append(monitoring.alertmanager.alerts())
        return not missing()

    try:
        wait_for(there, within=within, what="in Alertmanager", where=monitoring.cluster.controller.name, every=0.2,
                 last_seen=lambda: f"no alert {missing()[0]} among {len(answers[-1][0])}")  # fmt: skip
    finally:
        for _, answer in answers[-1:]:
            evidence.result(answer)
    return answers[-1][0]


@pytest.mark.check("INF-38")
def test_unprivileged(monitoring: Monitoring, cluster: Cluster, current: Facts) -> None:
    """What listens on the ports of monitoring does not run as root."""
    ports = monitoring.config.ports
    everywhere = {ports.node_exporter: "node-exporter"}
    controller = {ports.prometheus: "Prometheus", ports.alertmanager: "Alertmanager"}
    processes, listeners = current(PROCESSES), current(LISTENING)
    for node in cluster.nodes:
        for port, name in {**everywhere, **(controller if "controller" in node.roles else {})}.items():
            pids = {
                pid for one in listeners[node.name] if (one.protocol, one.port) == ("tcp", port) for pid in one.pids
            }
            assert pids, f"{node.name}: no process is known that listens on tcp {port}; expected {name}"
            unknown = sorted(pids - processes[node.name].keys())
            assert not unknown, f"{node.name}: the user of process {unknown[0]} at tcp {port} is not known ({name})"
            roots = [pid for pid in sorted(pids) if processes[node.name][pid].uid == 0]
            assert not roots, (
                f"{node.name}: {name}, process {roots[0]} ({processes[node.name][roots[0]].program}), runs as root; "
                "expected a user of its own; give its unit User="
            )
