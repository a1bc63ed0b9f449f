"""GPUs that compute: in the machines that were given them, with one driver, and well."""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements

from ._facts import KERNEL, KERNEL_LOG
from ._gpus import CARDS, DKMS, LOADED, SMI, gemm, installed_for, planned, with_gpus, xids
from ._rates import Card, Rates, known_cards, program, rates

pytestmark = pytest.mark.requires("gpu.real")
#: Seconds for a small product on each GPU; the first call of a driver that nobody uses takes ten of them.
WITHIN = 120.0
#: Seconds for measuring all GPUs of a machine one after the other; the first import of PyTorch may take twenty of them.
RATES_WITHIN = 300.0


def having(cluster: Cluster) -> tuple[Node, ...]:
    """The machines with GPUs; none at all is no pass."""
    found = with_gpus(cluster)
    assert found, f"{cluster.name}: no machine is to have a GPU; nothing was looked at"
    return found


@pytest.mark.check("INF-19")
@pytest.mark.requires("hardware.own")
@pytest.mark.reads(CARDS)
def test_gpus_are_where_they_are_to_be(cluster: Cluster, facts: Facts) -> None:
    """Each machine has the GPUs that are configured for it, by their numbers, and no other has any of NVIDIA's."""
    having(cluster)
    found = facts(CARDS)
    for node in cluster.nodes:
        wanted, seen = planned(node.config), [card.ids for card in found[node.name] if card.nvidia]
        fits = len(wanted) == len(seen) and all(
            one.startswith(want) for want, one in zip(sorted(wanted), sorted(seen), strict=True)
        )
        assert fits, f"{node.name}: has the GPUs {', '.join(seen) or 'none'}, configured {', '.join(wanted) or 'none'}"


@pytest.mark.check("INF-20")
@pytest.mark.reads(SMI)
def test_driver(cluster: Cluster, facts: Facts) -> None:
    """The driver tells each GPU that is configured, and is of one version on all machines."""
    nodes = having(cluster)
    found = facts(SMI, [node.name for node in nodes])
    first = nodes[0].name
    for node in nodes:
        here, wanted = found[node.name], len(planned(node.config))
        assert len(here) == wanted, f"{node.name}: nvidia-smi tells of {len(here)} GPUs, configured {wanted}"
        other = [gpu.driver for gpu in here if gpu.driver != found[first][0].driver]
        assert not other, f"{node.name}: its driver is {other[0]}, {first} has {found[first][0].driver}; expected one"


@pytest.mark.check("INF-21")
@pytest.mark.reads(LOADED, CARDS)
def test_nouveau_is_absent(cluster: Cluster, facts: Facts) -> None:
    """No machine has nouveau loaded, which would hold the GPUs that NVIDIA's driver is to have."""
    having(cluster)
    for name, loaded in facts(LOADED).items():
        assert "nouveau" not in loaded, f"{name}: nouveau is loaded; blacklist it, and boot again"
    for name, cards in facts(CARDS).items():
        held = [card for card in cards if card.nvidia and card.driver != "nvidia"]
        assert not held, f"{name}: {held[0].address} is held by {held[0].driver or 'no driver'}, expected nvidia"


@pytest.mark.check("INF-22")
@pytest.mark.requires("kernel.own", "root")
@pytest.mark.reads(KERNEL_LOG)
def test_no_xid(cluster: Cluster, facts: Facts) -> None:
    """Since they booted the kernels of machines with GPUs have told of no error of a GPU."""
    for name, log in facts(KERNEL_LOG, [node.name for node in having(cluster)]).items():
        found = xids(log)
        assert not found, f"{name}: {len(found)} errors of GPUs in the kernel's log, first: {found[0].strip()}"


@pytest.mark.check("INF-23")
def test_gpus_multiply(cluster: Cluster, evidence: Evidence) -> None:
    """Each GPU multiplies two matrices, and every element is right."""
    for node in having(cluster):
        done = node.run("python3", "-", input=gemm(), check=False, timeout=WITHIN)
        evidence.result(done)
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        assert done.ok, f"{node.name}: the product on its GPUs ended with {done.returncode}: {said}"
        devices, wanted = json.loads(done.stdout)["devices"], len(planned(node.config))
        assert len(devices) == wanted, f"{node.name}: {len(devices)} GPUs compute, configured {wanted}"
        wrong = [one for one in devices if one["wrong"]]
        assert not wrong, (
            f"{node.name}: {wrong[0]['name']} at {wrong[0]['bus']} got {wrong[0]['wrong']} elements of a product wrong"
        )


@pytest.mark.check("INF-23")
@pytest.mark.requires("pytorch")
@pytest.mark.exclusive
def test_gpus_are_as_fast_as_their_kind(
    cluster: Cluster, pytorch: Runtime, evidence: Evidence, measure: Measurements
) -> None:
    """Each GPU moves memory and multiplies at a good part of what its maker says that it can at most.

    What configs/cards.yaml does not know is measured and recorded all the same.
    """
    cards, user = known_cards(), cluster.config.user if pytorch.image else None
    for node in having(cluster):
        told = node.run(*pytorch.argv("-", gpus=True), input=program(), check=False, timeout=RATES_WITHIN, user=user)
        evidence.result(told)
        found, wanted = rates(told), len(planned(node.config))
        assert len(found) == wanted, f"{node.name}: PyTorch sees {len(found)} GPUs, configured {wanted}"
        for gpu in found:
            where = f"{node.name}: {gpu.label}"
            assert not gpu.wrong, f"{where}: got {gpu.wrong} elements of a product in {gpu.type} wrong"
            judged(measure, gpu, cards.get(gpu.name), where)


def judged(measure: Measurements, gpu: Rates, card: Card | None, where: str) -> None:
    """Record what a GPU did, by what its card can do at most; one that nobody knows is judged by nothing."""
    for part, value, unit in (("memory", gpu.memory, "GB/s"), ("matrix", gpu.matrix, "TFLOP/s")):
        if card is None:
            measure(f"gpu.{part}.unrated", value, unit, node=where, samples=gpu.samples)
        else:
            measure.ceiling(f"gpu.{part}.ceiling", getattr(card, part), unit, node=where)
            measure(f"gpu.{part}", value, unit, node=where, samples=gpu.samples)


@pytest.mark.check("INF-24")
@pytest.mark.requires("kernel.own", "dkms")
@pytest.mark.reads(DKMS, KERNEL)
def test_module_is_built(cluster: Cluster, facts: Facts) -> None:
    """DKMS has NVIDIA's module installed for the kernel that runs."""
    names = [node.name for node in having(cluster)]
    kernels = facts(KERNEL, names)
    for name, status in facts(DKMS, names).items():
        assert installed_for(status, kernels[name]), (
            f"{name}: DKMS has no module of NVIDIA for {kernels[name]}; it has {'; '.join(status)}"
        )
