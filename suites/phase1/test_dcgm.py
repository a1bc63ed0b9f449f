"""DCGM: every GPU is found, tells of itself as it is, and Prometheus knows what it tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.facts import Fact
from pytest_ai_how.limits import Limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.monitoring import Monitoring
from pytest_ai_how.services.monitoring.http import Reply, ask

from ._dcgm import METRICS, can_be
from ._gpus import loading, planned
from ._monitoring import answering, kept

pytestmark = pytest.mark.requires("gpu.real", "dcgm")

#: Seconds in which dcgm-exporter tells of what has changed: it collects every 30 (its --collect-interval), and a
#: figure that it collects is of the time before. The load that is to be seen lasts for longer.
FOLLOWS, LOAD = 120.0, 180


def parse_discovery(text: str) -> tuple[str, ...]:
    r"""The UUIDs of the GPUs that ``dcgmi discovery -l`` lists (DCGM 3 and 4), each once.

    >>> parse_discovery("1 GPU found.\n|        | Device UUID: GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52 |")
    ('GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52',)
    """
    return tuple(dict.fromkeys(re.findall(r"UUID: (GPU-[0-9a-f-]+)", text)))


def parse_metrics(text: str) -> Iterator[tuple[str, str, float]]:
    """Name, UUID and value of each metric of a GPU in dcgm-exporter's text (3.3).

    >>> next(parse_metrics('DCGM_FI_DEV_SM_CLOCK{gpu="0", UUID="GPU-604ac76c"} 139'))
    ('DCGM_FI_DEV_SM_CLOCK', 'GPU-604ac76c', 139.0)
    """
    for name, uuid, value in re.findall(r'^(DCGM_\w+)\{[^}]*UUID="([^"]+)"[^}]*\} (\S+)', text, re.MULTILINE):
        yield name, uuid, float(value)


DISCOVERED = Fact("the GPUs that DCGM finds", ("dcgmi", "discovery", "-l"), parse_discovery)


def with_gpus(cluster: Cluster) -> dict[str, int]:
    """How many real GPUs each machine that has some is declared to have."""
    found = {node.name: gpus for node in cluster.nodes if (gpus := len(planned(node.config)))}
    assert found, f"{cluster.name}: no machine that runs has a real GPU; nothing was checked"
    return found


@pytest.mark.check("INF-34")
def test_all_gpus_are_found(cluster: Cluster, facts: Facts) -> None:
    """DCGM finds as many GPUs on each machine as are declared."""
    wanted = with_gpus(cluster)
    for name, uuids in facts(DISCOVERED, wanted).items():
        assert len(uuids) == wanted[name], (
            f"{name}: DCGM finds {len(uuids)} GPUs ({', '.join(uuids) or 'none'}), expected {wanted[name]}; "
            "compare with nvidia-smi -L, and restart nvidia-dcgm after the driver"
        )


@pytest.mark.check("INF-35")
def test_exporter(cluster: Cluster, evidence: Evidence) -> None:
    """dcgm-exporter tells how busy, full and warm each GPU is, and what it draws."""
    for name, count in with_gpus(cluster).items():
        reply = exported(cluster, name)
        evidence.result(reply.result)
        for what in METRICS:
            of_each(name, reply, what, count)


def exported(cluster: Cluster, name: str) -> Reply:
    """What dcgm-exporter of a machine tells."""
    dcgm = cluster.config.monitoring.dcgm
    assert dcgm is not None, "required by the mark"
    return ask(cluster[name], f"http://{cluster[name].address}:{dcgm.port}/metrics")


def of_each(name: str, reply: Reply, what: str, count: int) -> dict[str, float]:
    """One of :data:`METRICS` by UUID. Raises :class:`AssertionError` unless each GPU of a machine has what can be."""
    metric, _ = METRICS[what]
    assert reply.status == 200, f"{name}: dcgm-exporter, {reply.url}, {reply.said}; expected status 200"
    values = {uuid: value for one, uuid, value in parse_metrics(reply.body) if one == metric}
    assert len(values) == count, f"{name}: {metric} is of {len(values)} GPUs ({what}), expected {count}"
    wrong = {uuid: value for uuid, value in values.items() if not can_be(what, value)}
    assert not wrong, (
        f"{name}: {metric} of {next(iter(wrong))} is {next(iter(wrong.values())):g}, which can't be ({what})"
    )
    return values


@pytest.mark.check("INF-36")
def test_prometheus_knows_all_gpus(monitoring: Monitoring, cluster: Cluster, evidence: Evidence) -> None:
    """Prometheus holds series of every GPU of every machine."""
    metric = METRICS["utilisation"][0]
    with answering():
        targets = kept(evidence, monitoring.prometheus.targets())
        series = kept(evidence, monitoring.prometheus.query(metric))
    found = monitoring.by_node(series, targets)
    for name, count in with_gpus(cluster).items():
        uuids = {one.labels.get("UUID", "") for one in found[name]} - {""}
        assert len(uuids) == count, (
            f"{name}: Prometheus holds {metric} of {len(uuids)} GPUs, expected {count}; see whether its job for "
            "dcgm-exporter has this machine as a target"
        )


@pytest.mark.check("INF-37")
@pytest.mark.exclusive
def test_utilisation_follows_a_load(
    cluster: Cluster, evidence: Evidence, measure: Measurements, limits: Limits
) -> None:
    """Each GPU's utilisation rises while it computes, and falls when it does no more."""
    busy = Busy(cluster, with_gpus(cluster), evidence)
    rise, fall = (limits.minimum(f"gpu.utilisation_{way}", "%") for way in ("rise", "fall"))
    idle = busy.once(lambda _, value: value + rise <= 100, "before the load")
    for gpu, value in idle.items():
        assert value + rise <= 100, (
            f"{gpu}: its utilisation is {value:g} % with no load of ours, expected at most {100 - rise:g} %; "
            "end what computes there"
        )
    with ExitStack() as loads:
        for name in busy.gpus:
            loads.enter_context(loading(cluster[name], LOAD, evidence))
        high = busy.once(lambda gpu, value: value - idle.get(gpu, value) >= rise, "under load")
    for gpu, value in idle.items():
        measure("gpu.utilisation_rise", max(high.get(gpu, value) - value, 0.0), "%", node=gpu)
    low = busy.once(lambda gpu, value: high.get(gpu, value) - value >= fall, "after the load")
    for gpu, value in high.items():
        measure("gpu.utilisation_fall", max(value - low.get(gpu, value), 0.0), "%", node=gpu)


@dataclass(frozen=True, slots=True)
class Busy:
    """How busy the GPUs of the machines are, as dcgm-exporter tells; ``gpus`` is how many each machine has."""

    cluster: Cluster
    gpus: Mapping[str, int]
    evidence: Evidence

    def once(self, good: Callable[[str, float], bool], when: str) -> dict[str, float]:
        """Per cent by machine and GPU, once all are ``good``, or as they are after a while."""
        replies: dict[str, Reply] = {}
        found: dict[str, float] = {}

        def there() -> bool:
            for name in self.gpus:
                replies[name] = exported(self.cluster, name)
            found.update(self._read(replies))
            return all(good(gpu, value) for gpu, value in found.items())

        try:
            with suppress(DeadlineExceeded):
                wait_for(there, within=FOLLOWS, what=f"utilisation as expected {when}", every=1.0, at_most=5.0)
        finally:
            for name, reply in replies.items():
                self.evidence.result(reply.result, f"{name}: dcgm-exporter {when}")
        return found

    def _read(self, replies: Mapping[str, Reply]) -> dict[str, float]:
        return {
            f"{name}, {uuid}": value
            for name, reply in replies.items()
            for uuid, value in of_each(name, reply, "utilisation", self.gpus[name]).items()
        }
