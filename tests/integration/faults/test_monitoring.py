"""Faults of monitoring, those of the reference system among them: a job where nothing listens, one that asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_ai_how.config.monitoring import seconds
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.services.monitoring import Monitoring
from suites.phase1 import test_monitoring as checks

from .cases import NEEDED, Fault, put_to_the_test, sees
from .inject import Inject, edited, shell, stopped
from .live import SUBNET, Live

pytestmark = NEEDED

CONFIG, RELOAD = "/etc/prometheus/prometheus.yml", "systemctl reload prometheus"
EXPORTER = "prometheus-node-exporter"
DROP_IN = f"/run/systemd/system/{EXPORTER}.service.d"
AGAIN = f"systemctl daemon-reload && systemctl restart {EXPORTER}"


def job(name: str, targets: str) -> str:
    """One more job, in front of the others."""
    return f"scrape_configs:\n  - job_name: {name}\n    static_configs: [{{targets: [{targets}]}}]"


def scraped(inject: Inject) -> Inject:
    """A fault that Prometheus has met: it asked every target since."""

    @contextmanager
    def around(live: Live) -> Iterator[None]:
        with inject(live):
            query = f"min(timestamp(up)) > {live.controller.run('date', '+%s.%N').stdout.strip()}"
            prometheus = Monitoring(live.cluster).prometheus
            wait_for(lambda: prometheus.query(query)[0], within=30.0, what="all targets asked", every=0.2)
            yield

    return around


FAULTS = [
    pytest.param(
        sees(
            checks.test_settings,
            "controller: Prometheus asks every 60 s, expected 2s as declared",
            edited("controller", CONFIG, "scrape_interval: 2s", "scrape_interval: 1m", RELOAD),
        ),
        id="asked too seldom",
        marks=pytest.mark.seen_to_fail("INF-27"),
    ),
    pytest.param(
        Fault(
            scraped(stopped("node02", EXPORTER)),
            [
                (checks.test_targets_are_the_nodes, r"node02: http.*:9100/metrics of job 'node' is down .*refused"),
                (checks.test_metrics, r"node02: Prometheus has no node_cpu_seconds_total of it \(CPU\)"),
                (checks.test_unprivileged, r"node02: no process is known that listens on tcp 9100"),
            ],
        ),
        id="node-exporter stopped",
        marks=pytest.mark.seen_to_fail("INF-28", "INF-29", "INF-38"),
    ),
    pytest.param(
        sees(
            checks.test_no_dead_job,
            r"controller: http.*:9341/metrics of job 'slurm' is down .*, and never answered in the last 240 s",
            edited("controller", CONFIG, "scrape_configs:", job("slurm", f"'{SUBNET}.10:9341'"), RELOAD),
        ),
        id="job where nothing listens",
        marks=pytest.mark.seen_to_fail("INF-30"),
    ),
    pytest.param(
        sees(
            checks.test_no_dead_job,
            "controller: job 'dcgm' of Prometheus has no target, as 1 of 4 jobs",
            edited("controller", CONFIG, "scrape_configs:", job("dcgm", ""), RELOAD),
        ),
        id="job that asks nobody",
        marks=pytest.mark.seen_to_fail("INF-30"),
    ),
    pytest.param(
        sees(
            checks.test_alerts_arrive,
            r"controller: Alertmanager, http.*:9093/-/ready, does not answer: curl: \(7\)",
            stopped("controller", "prometheus-alertmanager"),
        ),
        id="Alertmanager stopped",
        marks=pytest.mark.seen_to_fail("INF-31"),
    ),
    pytest.param(
        sees(
            checks.test_unprivileged,
            r"node01: node-exporter, process \d+ \(prometheus-node\), runs as root",
            shell(
                "node01",
                f"mkdir -p {DROP_IN} && printf '[Service]\\nUser=root\\n' >{DROP_IN}/root.conf && {AGAIN}",
                f"rm -rf {DROP_IN} && {AGAIN}",
            ),
        ),
        id="node-exporter as root",
        marks=pytest.mark.seen_to_fail("INF-38"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_goes_red_names_the_culprit_and_recovers(live: Live, fault: Fault) -> None:
    def settled(inject: Inject) -> Inject:
        @contextmanager
        def around(live: Live) -> Iterator[None]:
            all_known(live)
            with inject(live):
                all_known(live, broken=True)
                yield
            all_known(live)

        return around

    put_to_the_test(live, Fault(settled(fault.inject), fault.seen))


def all_known(live: Live, *, broken: bool = False) -> None:
    """Wait until Prometheus has the targets of its configuration, and asks them as often.

    Unless something is ``broken``, each has been asked since, and Alertmanager answers. Prometheus takes over what it
    was told seconds later, and what it knew of a target from before lives on until that has answered again.
    """
    found = Monitoring(live.cluster)

    def known() -> bool:
        if found.faults() or (not broken and found.alertmanager.ready().status != 200):
            return False
        configured = live.controller.read(CONFIG)
        every = re.findall(r"scrape_interval: (\S+)", configured)
        targets = found.prometheus.targets()[0]
        return (
            {target.url.split("/")[2] for target in targets} == set(re.findall(rf"{SUBNET}\.\d+:\d+", configured))
            and {target.interval for target in targets} == set(map(seconds, every))
            and (broken or all(target.health != "unknown" for target in targets))
        )

    wait_for(known, within=30.0, what="all targets known", where="controller", every=0.2)
