"""What the YAML says of what is beyond a cluster's own machines, and what it claims of machines that exist already."""

from __future__ import annotations

from ipaddress import IPv4Address

from pydantic import Field

from pytest_ai_how.config.forms import DebianPackage, DnsName, Model, Name, PortName, Url


class Peer(Model):
    """A service outside of the cluster, such as the API of a cloud cluster beside it."""

    name: Name
    address: IPv4Address
    port: int = Field(ge=1, le=65535)
    reachable: bool = Field(default=True, description="false: the two are isolated from each other")


class Outside(Model):
    """What machines may reach beyond their own network. All that is not named here is out of reach."""

    mirror: Url | None = Field(default=None, description="what packages come from; default: there is no way out")
    names: tuple[DnsName, ...] = Field(default=(), description="names that every machine resolves")
    peers: tuple[Peer, ...] = ()


class Claims(Model):
    """What is claimed of machines that exist already, beyond the rest of the file."""

    packages: tuple[DebianPackage, ...] = Field(default=(), description="Debian packages that every node has")
    ports: tuple[PortName, ...] = Field(
        default=(), description="what may listen besides our own roles' ports: tcp/9100, udp/68"
    )
