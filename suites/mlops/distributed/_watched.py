"""What monitoring saw of the GPUs of a job: DCGM tells, and Prometheus keeps it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from contextlib import suppress

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.monitoring import Monitoring, Series, Target

from ...phase1._dcgm import METRICS, can_be
from ...phase1._monitoring import answering, kept
from .._metrics import Rank
from .._trained import Trained

METRIC = METRICS["utilisation"][0]


def watched(monitoring: Monitoring, trained: Trained, gpus: int, evidence: Evidence) -> None:
    """Hold Prometheus to having told of each GPU of a job, on the job's machines and in its time."""
    wanted, ended = uuids(trained.ranks()), trained.ended
    assert len(wanted) == gpus, (
        f"{trained.label}: its processes tell of {len(wanted)} GPUs ({', '.join(wanted) or 'none'}), expected {gpus}"
    )
    with answering():
        targets = kept(evidence, monitoring.prometheus.targets())
        interval = _interval(monitoring, targets)
        query = over(METRIC, ended.started, ended.ended + interval)
        series = _told(monitoring, query, wanted, interval, evidence)
    mine = [one for name in ended.nodes for one in monitoring.by_node(series, targets).get(name, ())]
    for uuid in wanted:
        values = [value for one in mine if one.labels.get("UUID") == uuid for _, value in one.values]
        evidence.attach(f"{METRIC} of {uuid} during job {ended.id}", f"{len(values)} samples: {values}")
        assert values, (
            f"{trained.label}: Prometheus holds no {METRIC} of {uuid} from the time of the job ({query}); expected one "
            f"each {interval:g} s; do: see INF-35 and INF-36"
        )
        wrong = [value for value in values if not can_be("utilisation", value)]
        assert not wrong, f"{trained.label}: {METRIC} of {uuid} was {wrong[0]:g}, which can't be; do: see INF-35"


def uuids(ranks: Iterable[Rank]) -> tuple[str, ...]:
    """The GPUs of processes as DCGM calls them: PyTorch leaves out what they begin with."""
    return tuple(dict.fromkeys(f"GPU-{one.gpu.removeprefix('GPU-')}" for one in ranks if one.gpu))


def over(metric: str, since: float, until: float) -> str:
    """The query for all samples of a metric between two points in Unix time (PromQL, its ``@`` modifier).

    >>> over("up", 1795449001.2, 1795449091)
    'up[90s] @ 1795449091'
    """
    end = math.ceil(until)
    return f"{metric}[{end - math.floor(since)}s] @ {end}"


def _interval(monitoring: Monitoring, targets: Iterable[Target]) -> float:
    """Seconds between two scrapes of dcgm-exporter."""
    dcgm = monitoring.config.dcgm
    assert dcgm is not None, "required by the mark"
    return max((one.interval for one in targets if one.port == dcgm.port), default=monitoring.config.interval)


def _told(
    monitoring: Monitoring, query: str, wanted: Collection[str], interval: float, evidence: Evidence
) -> tuple[Series, ...]:
    """What the query gives once it has all that is wanted, or after two scrapes: a job may just have ended."""
    answers = [monitoring.prometheus.query(query)]

    def there() -> bool:
        if not _has(answers[-1][0], wanted):
            answers.append(monitoring.prometheus.query(query))
        return _has(answers[-1][0], wanted)

    with suppress(DeadlineExceeded):
        wait_for(there, within=2 * interval, what=f"each GPU of the job in {METRIC}", every=0.2)
    return kept(evidence, answers[-1])


def _has(series: Iterable[Series], wanted: Collection[str]) -> bool:
    return set(wanted) <= {one.labels.get("UUID", "") for one in series}
