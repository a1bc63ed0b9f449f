"""What a machine is, from what the kernel tells of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_ai_how.config.machines import Gpus, PciDevice
from pytest_ai_how.drivers.machines.reality import PARTS, Reality, planned
from pytest_ai_how.drivers.nspawn import NspawnDriver, power
from pytest_ai_how.drivers.nspawn.reality import shape, wire
from pytest_ai_how.errors import ProvisionError

from .sample import config

# `ip -json -details address` in a node, and on its host (iproute2 6.1, Debian 12), shortened.
INSIDE = json.loads("""[
 {"ifindex": 1, "ifname": "lo", "mtu": 65536,
  "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
 {"ifindex": 2, "link_index": 41, "ifname": "host0", "mtu": 1500, "linkinfo": {"info_kind": "veth"},
  "addr_info": [{"family": "inet", "local": "10.99.0.11", "prefixlen": 24},
                {"family": "inet6", "local": "fe80::1", "prefixlen": 64}]}]""")
OUTSIDE = json.loads("""[
 {"ifindex": 2, "ifname": "eth0", "mtu": 1500, "addr_info": []},
 {"ifindex": 40, "ifname": "aihow-lab", "mtu": 1500, "addr_info": []},
 {"ifindex": 41, "ifname": "vb-aihow-lab1Q", "mtu": 1500, "master": "aihow-lab", "addr_info": []}]""")


def test_the_wire_is_followed_to_its_bridge() -> None:
    assert wire(INSIDE, OUTSIDE) == {"bridge": "aihow-lab", "mtu": "1500", "address": "10.99.0.11/24"}


@pytest.mark.parametrize(
    ("inside", "outside", "part", "told"),
    [
        (INSIDE[:1], OUTSIDE, "bridge", "no interface"),
        (INSIDE[:1], OUTSIDE, "address", "no address"),
        (INSIDE, OUTSIDE[:2], "bridge", "no bridge"),
        (INSIDE, [{**OUTSIDE[2], "master": "docker0"}], "bridge", "docker0"),
        ([*INSIDE, {**INSIDE[1], "ifname": "host1", "mtu": 9000, "addr_info": []}], OUTSIDE, "mtu", "1500, 9000"),
    ],
)
def test_a_wire_that_is_another_is_told(
    inside: list[dict[str, Any]], outside: list[dict[str, Any]], part: str, told: str
) -> None:
    assert wire(inside, outside)[part] == told


def test_the_plan_names_all_parts() -> None:
    lab = config()
    assert tuple(planned(lab, lab.nodes[1])) == PARTS
    assert planned(lab, lab.nodes[1])["memory"] == "1024 MiB"
    card = PciDevice(address="0000:01:00.0", vendor="10de", device="2805")
    given = lab.nodes[1].model_copy(update={"gpus": Gpus(kind="passthrough", count=1, devices=(card,))})
    assert planned(lab, given)["pci"] == "0000:01:00.0"
    tuned = lab.nodes[1].model_copy(update={"cpu_model": "EPYC", "hugepages": "2M", "pinning": (4, 6)})
    parts = ("cpu_model", "hugepages", "pinning")
    assert [planned(lab, tuned)[part] for part in parts] == ["EPYC", "2M", "4 6"]
    assert [planned(lab, lab.nodes[1])[part] for part in parts] == ["not configured", "none", "none"]


def test_a_machine_that_does_not_run_has_no_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "marked", lambda mark: ())
    with pytest.raises(ProvisionError, match="^node01: does not run"):
        shape(power.machine(config(), "node01"))


def test_the_nspawn_driver_tells_reality() -> None:
    assert issubclass(NspawnDriver, Reality)
