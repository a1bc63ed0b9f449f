import subprocess

import pytest

from pytest_ai_how.config.models import Network
from pytest_ai_how.drivers.machines import network as module
from pytest_ai_how.drivers.machines.network import check_network, make_bridge
from pytest_ai_how.errors import HostError

from .sample import captured

LINKS, ROUTES = captured("ip-address.json"), captured("ip-route.json")


def network(subnet: str, bridge: str = "aihow-lab") -> Network:
    return Network.model_validate({"subnet": subnet, "bridge": bridge})


def test_free_subnet_and_bridge_pass() -> None:
    check_network(network("10.99.0.0/24"), "lab", LINKS, ROUTES)


@pytest.mark.parametrize(
    ("subnet", "named"),
    [
        ("10.83.0.0/24", "route 10.83.0.0/24 dev aihow-other"),
        ("10.83.0.128/25", "route 10.83.0.0/24 dev aihow-other"),
        ("10.0.0.0/8", "route 10.83.0.0/24 dev aihow-other"),
        ("192.0.2.0/28", "route 192.0.2.0/24 dev eth0"),
    ],
)
def test_subnet_in_use_names_the_route(subnet: str, named: str) -> None:
    with pytest.raises(HostError) as caught:
        check_network(network(subnet), "lab", LINKS, ROUTES)
    assert caught.value.seen == f"subnet {subnet} is in use: {named}"
    assert "network.subnet" in caught.value.cure


def test_default_route_is_no_conflict() -> None:
    check_network(network("10.99.0.0/24"), "lab", [], [{"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}])


def test_route_through_a_gateway_is_named() -> None:
    routes = [{"dst": "10.96.0.0/12", "gateway": "192.0.2.9", "dev": "eth0", "flags": []}]
    with pytest.raises(HostError, match=r"is in use: route 10\.96\.0\.0/12 via 192\.0\.2\.9 dev eth0"):
        check_network(network("10.99.0.0/24"), "lab", [], routes)


def test_address_without_a_route_is_a_conflict_too() -> None:
    with pytest.raises(HostError, match=r"is in use: aihow-other has the address 10\.83\.0\.1"):
        check_network(network("10.83.0.0/24"), "lab", LINKS, [])


def test_a_subnet_taken_while_we_made_the_bridge_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that look at the same time both find it free."""
    made: list[str] = []

    def ip(argv: list[str], *, input: str = "", **_: object) -> subprocess.CompletedProcess[str]:
        made.append(input)
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", ip)
    own = {"ifname": "aihow-lab", "addr_info": [{"family": "inet", "local": "10.99.0.1", "prefixlen": 24}]}
    monkeypatch.setattr(module, "host_links", lambda: [*LINKS, own])
    make_bridge(network("10.99.0.0/24"), "lab")
    other = own | {"ifname": "aihow-two"}
    monkeypatch.setattr(module, "host_links", lambda: [own, other])
    with pytest.raises(HostError, match=r"subnet 10\.99\.0\.0/24 is in use: aihow-two has the address 10\.99\.0\.1"):
        make_bridge(network("10.99.0.0/24"), "lab")
    assert "address add 10.99.0.1/24 dev aihow-lab" in made[0]


@pytest.mark.parametrize(
    ("cluster", "alias", "said", "cure"),
    [
        (
            "lab",
            "pytest-ai-how:lab",
            "belongs to a cluster 'lab' that this XDG_STATE_HOME does not know",
            "reap --force lab",
        ),
        ("lab", "pytest-ai-how:other", "belongs to cluster 'other'", "network.bridge"),
        ("lab", "", "belongs to something else", "network.bridge"),
        ("lab", "docker network", "belongs to something else", "network.bridge"),
    ],
)
def test_bridge_name_in_use_names_the_owner(cluster: str, alias: str, said: str, cure: str) -> None:
    links = [{"ifname": "aihow-lab", "ifalias": alias, "addr_info": []}]
    with pytest.raises(HostError) as caught:
        check_network(network("10.99.0.0/24"), cluster, links, ROUTES)
    assert said in caught.value.seen
    assert cure in caught.value.cure
