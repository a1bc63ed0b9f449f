"""The checks of devices go red on hosts and files where a device can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_configs
from pytest_ai_how.config.models import PciDevice
from pytest_ai_how.report.evidence import Evidence
from suites.phase0 import test_devices as phase0
from tests.sysfs import build
from tests.unit.pci.samples import AUDIO_1, AUDIO_7, GPU_1, GPU_7, cluster, node

HPC, CLOUD = load_configs("workstation", environ={})


def test_the_reference_workstation_passes(tmp_path: Path, evidence: Evidence) -> None:
    tree = build(tmp_path, "workstation")
    tree.open_group(4242, "qemu-system-x86", "14")  # a machine of the cluster may run meanwhile
    phase0.test_devices_can_be_given(HPC, tree.read(), evidence)
    phase0.test_devices_can_be_given(CLOUD, tree.read(), evidence)
    assert "compute-01: 0000:01:00.0 10de:2805 gpu, bound to vfio-pci" in evidence.items[1].content
    phase0.test_one_owner_that_starts((HPC, CLOUD), evidence)
    assert evidence.items[-1].content.splitlines()[0] == (
        "0000:01:00.0: hpc-cluster/compute-01 starts 10de:2805, cloud-cluster/gpu-worker-01 off 10de:2805"
    )


@pytest.mark.seen_to_fail("PRV-07")
@pytest.mark.parametrize(
    ("capture", "devices", "said"),
    [
        ("one_gpu", (GPU_7,), "compute-01: 0000:07:00.0 is not there, expected a PCI device 10de:2504"),
        (
            "workstation",
            (GPU_1.model_copy(update={"device": "2789"}), AUDIO_1),
            'compute-01: 0000:01:00.0 is 10de:2805, expected 10de:2789 as the YAML says; set device: "2805"',
        ),
        ("workstation", (GPU_1,), "compute-01: 0000:01:00.0 shares IOMMU group 14 with 0000:01:00.1"),
        ("workstation", (AUDIO_1, GPU_1), "compute-01: the GPU 0000:01:00.0 comes after 0000:01:00.1"),
        (
            "shared_group",
            (GPU_1.model_copy(update={"address": "0000:03:00.0", "device": "2504"}),),
            "with 0000:04:00.0 (1b21:2142 USB controller), bound to xhci_hcd, which is not listed",
        ),
        ("console_on_the_gpu", (GPU_1,), "compute-01: 0000:01:00.0 shows this machine's console (boot VGA)"),
        ("console_on_the_gpu", (GPU_7,), "localhost: the kernel has no driver vfio-pci"),
        ("virtual_machine", (GPU_1,), "localhost: the IOMMU is off"),
    ],
)
def test_a_device_that_can_not_be_given(
    capture: str, devices: tuple[PciDevice, ...], said: str, tmp_path: Path, evidence: Evidence
) -> None:
    with pytest.raises(AssertionError) as caught:
        phase0.test_devices_can_be_given(
            cluster(node("compute-01", *devices)), build(tmp_path, capture).read(), evidence
        )
    assert said in str(caught.value)
    assert len(evidence.items) == 2, "what was seen is attached to a failure as well"


@pytest.mark.seen_to_fail("PRV-07", "PRV-08")
def test_no_device_is_no_pass(tmp_path: Path, no_evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match="hpc: no machine is given a device; nothing was put to the test"):
        phase0.test_devices_can_be_given(cluster(), build(tmp_path, "workstation").read(), no_evidence)
    with pytest.raises(AssertionError, match="no machine of any cluster is given a device; nothing was put"):
        phase0.test_one_owner_that_starts((cluster(),), no_evidence)


@pytest.mark.seen_to_fail("PRV-08")
def test_a_device_with_two_owners(evidence: Evidence) -> None:
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1), node("compute-02", GPU_7, AUDIO_7))
    cloud = cluster(node("gpu-worker-01", GPU_7, AUDIO_7), name="cloud")
    with pytest.raises(AssertionError) as caught:
        phase0.test_one_owner_that_starts((hpc, cloud), evidence)
    assert str(caught.value).startswith(
        "0000:07:00.0: cloud/gpu-worker-01 and hpc/compute-02 start by themselves with it, expected one owner at most"
    )
    twins = cluster(node("compute-01", GPU_1), node("compute-02", GPU_1))
    with pytest.raises(AssertionError, match="hpc/compute-01 and hpc/compute-02 start by themselves"):
        phase0.test_one_owner_that_starts((twins,), evidence)


@pytest.mark.seen_to_fail("PRV-08")
def test_a_slot_with_two_cards(evidence: Evidence) -> None:
    """The contradiction of the upstream example: 10de:2805 in one cluster, 10de:2789 in the other."""
    other = GPU_1.model_copy(update={"device": "2789"})
    cloud = cluster(node("gpu-worker-01", other, auto_start=False), name="cloud")
    with pytest.raises(AssertionError) as caught:
        phase0.test_one_owner_that_starts((cluster(node("compute-01", GPU_1)), cloud), evidence)
    said = "0000:01:00.0: is 10de:2805 in hpc/compute-01 and 10de:2789 in cloud/gpu-worker-01, expected one card"
    assert str(caught.value).startswith(said)
