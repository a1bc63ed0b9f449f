"""DCGM: every GPU is found, tells of itself, and Prometheus knows what it tells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.facts import Fact
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.monitoring import Monitoring
from pytest_ai_how.services.monitoring.http import ask

from ._monitoring import answering, kept

pytestmark = pytest.mark.requires("gpu.real", "dcgm")

#: What dcgm-exporter tells by default (its default-counters.csv), by what it is about, with what is possible at most.
METRICS = {
    "utilisation": ("DCGM_FI_DEV_GPU_UTIL", 100.0),
    "memory": ("DCGM_FI_DEV_FB_USED", math.inf),
    "temperature": ("DCGM_FI_DEV_GPU_TEMP", 200.0),
    "power": ("DCGM_FI_DEV_POWER_USAGE", math.inf),
}
#: From here on a number says that there is no value: DCGM_INT64_BLANK of dcgm_structs.h.
BLANK = float(0x7FFFFFFFFFFFFFF0)


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
    found = {node.name: gpus for node in cluster.nodes if (gpus := _real(node.config))}
    assert found, f"{cluster.name}: no machine that runs has a real GPU; nothing was checked"
    return found


def _real(node: NodeConfig) -> int:
    return node.gpus.count if node.gpus and node.gpus.kind != "simulated" else 0


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
    dcgm = cluster.config.monitoring.dcgm
    assert dcgm is not None, "required by the mark"
    for name, count in with_gpus(cluster).items():
        reply = ask(cluster[name], f"http://{cluster[name].address}:{dcgm.port}/metrics")
        evidence.result(reply.result)
        assert reply.status == 200, f"{name}: dcgm-exporter, {reply.url}, {reply.said}; expected status 200"
        told = list(parse_metrics(reply.body))
        for what, (metric, most) in METRICS.items():
            values = {uuid: value for one, uuid, value in told if one == metric}
            assert len(values) == count, f"{name}: {metric} is of {len(values)} GPUs ({what}), expected {count}"
            wrong = {uuid: value for uuid, value in values.items() if not 0 <= value <= min(most, BLANK - 1024)}
            assert not wrong, (
                f"{name}: {metric} of {next(iter(wrong))} is {next(iter(wrong.values())):g}, which can't be ({what})"
            )


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
