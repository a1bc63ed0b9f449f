"""The devices that the YAML gives to machines: there, as it says, and wanted by one machine at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.pci import Host, plan
from pytest_ai_how.pci.inventory import as_data
from pytest_ai_how.report.evidence import Evidence

pytestmark = pytest.mark.requires("gpu.passthrough")


@pytest.mark.check("PRV-07")
def test_devices_can_be_given(cluster_config: ClusterConfig, pci_host: Host, evidence: Evidence) -> None:
    """Each device exists, is what the YAML says, comes with its whole IOMMU group, and vfio-pci may have it.

    Asked of the kernel, by /sys. Whether another machine has the device just now is not judged here: see PRV-19.
    """
    idle = Host(pci_host.functions, pci_host.iommu, pci_host.vfio)
    found = plan(cluster_config, idle)
    wanted = [one.device.address for one in found.assignments]
    assert wanted, f"{cluster_config.name}: no machine is given a device; nothing was put to the test"
    groups = {one.function.group for one in found.assignments if one.function}
    there = [one for one in pci_host.functions.values() if one.address in wanted or one.group in groups - {""}]
    evidence.attach("this host's functions and their groups", json.dumps(as_data(pci_host, there), indent=1))
    evidence.attach("devices", "\n".join(f"{one.machine}: {one}" for one in found.assignments))
    assert not found.refusals, "\n".join(map(str, found.refusals))


@pytest.mark.check("PRV-08")
def test_one_owner_that_starts(file_clusters: Sequence[ClusterConfig], evidence: Evidence) -> None:
    """Of all machines of all clusters in the file that name a device, at most one starts by itself.

    The others may have it later, once that one is off. They must mean the same card by it.
    """
    found = plan(file_clusters, Host({}, iommu=True, vfio="loaded")).assignments
    assert found, "no machine of any cluster is given a device; nothing was put to the test"
    by_address = {
        one.device.address: [other for other in found if other.device.address == one.device.address] for one in found
    }
    lines = [
        f"{address}: " + ", ".join(f"{one.owner} {'starts' if one.starts else 'off'} {one.device.ids}" for one in users)
        for address, users in by_address.items()
    ]
    evidence.attach("machines by device", "\n".join(lines))
    for address, users in by_address.items():
        owners = sorted({one.owner for one in users if one.starts})
        assert len(owners) <= 1, (
            f"{address}: {' and '.join(owners)} start by themselves with it, expected one owner at most; "
            "say auto_start: false on the others"
        )
        ids = {one.device.ids: one.owner for one in users}
        assert len(ids) == 1, (
            f"{address}: is {' and '.join(f'{seen} in {owner}' for seen, owner in ids.items())}, "
            "expected one card in one slot; see pytest-ai-how inventory pci"
        )
