"""BeeGFS's servers: what is installed, what runs and listens, who has registered, and who may connect."""

from __future__ import annotations

import pytest

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.beegfs import BeeGfs, Kind

from ._judged import judged
from ._units import listeners, unit

pytestmark = pytest.mark.requires("beegfs")

#: The ports that BeeGFS's servers listen on, by unit (doc.beegfs.io, network configuration); 8 adds gRPC.
PORTS = {
    "beegfs-mgmtd": (("tcp", 8008), ("udp", 8008)),
    "beegfs-meta": (("tcp", 8005), ("udp", 8005)),
    "beegfs-storage": (("tcp", 8003), ("udp", 8003)),
}
GRPC = ("tcp", 8010)
# The management daemon 8.3 depends on one from 8.3 on, not on that of its own release.
RELEASED_APART = "libbeegfs-license"


@pytest.mark.check("STO-01")
def test_versions(beegfs: BeeGfs, evidence: Evidence) -> None:
    """All packages of BeeGFS on all machines are of one release, and of the generation that is declared."""
    releases: dict[str, str] = {}
    for node, (packages, told) in beegfs.versions().items():
        evidence.result(told)
        assert packages, f"{node}: no package of BeeGFS is installed; expected those of {beegfs.generation}"
        together = [package for package in packages if package.name != RELEASED_APART]
        assert together, f"{node}: of BeeGFS only {RELEASED_APART} is installed; expected those of {beegfs.generation}"
        releases |= {f"{node}: {package.name}": package.release for package in together}
    first = next(iter(releases.values()))
    other = {where: release for where, release in releases.items() if release != first}
    assert not other, (
        f"{next(iter(other))} is {next(iter(other.values()))}, expected {first} as {next(iter(releases))} is"
    )
    assert f"{first}.".startswith(f"{beegfs.generation}."), (
        f"{next(iter(releases))} is {first}; expected generation {beegfs.generation}"
    )


@pytest.mark.check("STO-02")
def test_management(beegfs: BeeGfs, evidence: Evidence) -> None:
    """The management daemon runs, starts at boot and listens, in generation 8 for gRPC as well."""
    more = (GRPC,) if beegfs.generation == "8" else ()
    assert_serves(beegfs.cluster.controller, "beegfs-mgmtd", evidence, more)


@pytest.mark.check("STO-03")
def test_metadata(beegfs: BeeGfs, evidence: Evidence) -> None:
    """The metadata daemon runs, starts at boot and listens."""
    for name in beegfs.hosts("metadata"):
        assert_serves(beegfs.cluster[name], "beegfs-meta", evidence)


@pytest.mark.check("STO-04")
def test_storage(beegfs: BeeGfs, evidence: Evidence) -> None:
    """The storage daemon runs, starts at boot and listens on each storage node."""
    for name in beegfs.hosts("storage"):
        assert_serves(beegfs.cluster[name], "beegfs-storage", evidence)


def assert_serves(node: Node, name: str, evidence: Evidence, more: tuple[tuple[str, int], ...] = ()) -> None:
    """A unit is active and enabled, and its own main process listens on its ports."""
    found = unit(node, name, evidence)
    assert (found.active, found.enabled) == ("active", "enabled"), (
        f"{node.name}: {found}; expected active and enabled; read `journalctl -u {name}` there"
    )
    held = {(one.protocol, one.port): one.pids for one in listeners(node, evidence)}
    for protocol, port in (*PORTS[name], *more):
        pids = held.get((protocol, port))
        assert pids is not None, f"{node.name}: nothing listens on {protocol} {port}; expected {name}"
        assert found.pid in pids, (
            f"{node.name}: {protocol} {port} is held by process {', '.join(map(str, pids)) or 'of the kernel'}, "
            f"expected {name}, process {found.pid}"
        )


@pytest.mark.check("STO-10")
def test_registered(beegfs: BeeGfs, evidence: Evidence) -> None:
    """Servers and targets are those of the configuration, online and good: for each client, and for the manager."""
    for name, (client, told) in beegfs.clients().items():
        evidence.result(told, f"{name}: what the client knows")
        wrong = list(beegfs.differences(client))
        assert not wrong, f"{name}: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")
    controller = beegfs.cluster.controller.name
    # Before targets are asked for their space: that fails at the first server that is gone, and a minute passes until
    # clients know that it is.
    with judged():
        routes, told = beegfs.check_servers()
    evidence.result(told)
    gone = [route.server for route in routes if not route.reachable]
    assert not gone, f"{gone[0].name}: its {gone[0].kind} server does not answer {controller}"
    wanted = {(kind, host) for kind in ("management", "metadata", "storage") for host in beegfs.hosts(kind)}
    found = {(route.server.kind, route.server.name) for route in routes}
    assert found == wanted, f"{controller}: reaches {sorted(found)}, expected {sorted(wanted)}"
    for kind in ("metadata", "storage"):
        assert_targets(beegfs, kind, controller, evidence)


def assert_targets(beegfs: BeeGfs, kind: Kind, where: str, evidence: Evidence) -> None:
    """The management daemon has a target on each node that is to have one, and no other, all of them well."""
    with judged():
        targets, told = beegfs.targets(kind, space=True)
    evidence.result(told)
    on = sorted(target.server.name for target in targets)
    assert on == sorted(beegfs.hosts(kind)), (
        f"{where}: the management daemon has {kind} targets on {', '.join(on) or 'no node'}, expected one on "
        f"{', '.join(beegfs.hosts(kind))}"
    )
    for target in targets:
        assert target.well, f"{target.server.name}: {target} for the management daemon; expected Online Good"
        assert target.pool == "normal", (
            f"{target.server.name}: {kind} target {target.id} is in the capacity pool {target.pool!r}, expected "
            "normal; free space, or lower the tune*Limit settings of the management daemon"
        )


@pytest.mark.check("STO-37")
def test_authentication(beegfs: BeeGfs, evidence: Evidence) -> None:
    """Connections need the shared secret, which only root can read and which is the same everywhere (advisory)."""
    declared = beegfs.cluster.config.storage.beegfs
    assert declared is None or declared.authentication, (
        f"{beegfs.cluster.name}: storage.beegfs.authentication is false: whoever reaches the servers can read all data"
    )
    digests: dict[str, str] = {}
    for name, (client, _) in beegfs.clients().items():
        settings = client.settings if client else {}
        evidence.attach(f"{name}: what the client does", secrets_settings(settings))
        path = settings.get("connAuthFile", "")
        off = settings.get("connDisableAuthentication", "") in ("true", "1")
        assert path and not off, f"{name}: its client connects without authentication (connAuthFile is {path!r})"  # noqa: PT018  two ways to be off
        node = beegfs.cluster[name]
        mode = node.run("stat", "--format=%a %U", path, check=False)
        evidence.result(mode)
        assert mode.stdout.strip() == "400 root", f"{name}: {path} is {mode.stdout.strip()!r}, expected 400 root"
        digests[name] = node.run("sha256sum", "--", path).stdout.split()[0]
    first, *others = digests
    other = next((name for name in others if digests[name] != digests[first]), "")
    assert not other, f"{other}: its secret of BeeGFS is another one than that of {first}"


def secrets_settings(settings: object) -> str:
    """The settings that are about authentication, and nothing of the secret."""
    facts = dict(settings) if isinstance(settings, dict) else {}
    return "\n".join(f"{key} = {value}" for key, value in facts.items() if "Auth" in key) or "nothing is known"
