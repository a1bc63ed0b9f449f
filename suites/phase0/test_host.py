"""The host can make the machines, and reaches them with a key that is its alone."""

from __future__ import annotations

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.shell import Result

from ._host import Able, Host, disks, major, table
from ._keys import Door, Keys

LOCAL = "localhost"


@pytest.mark.check("PRV-06")
@pytest.mark.requires("owned")
def test_host_can_make_the_machines(
    cluster_config: ClusterConfig, host: Host, able: Able, evidence: Evidence, measure: Measurements
) -> None:
    """The chosen driver refuses nothing, and this host has the memory that the machines are given.

    Machines that are up are not asked for again: that they run answers it. Memory then counts whole.
    """
    starting = [node for node in cluster_config.nodes if node.auto_start]
    assert starting, f"{cluster_config.name}: no machine starts by itself; nothing was put to the test"
    evidence.attach("this host and what the driver needs", table(cluster_config, host, able))
    refused = "\n".join(str(error) for error in able.refusals)
    evidence.attach("what the driver refuses", refused or "nothing")
    assert not able.refusals, refused
    measure.ceiling("host.cpus.planned", sum(node.cpus for node in starting), "count", node=LOCAL)
    measure("host.cpus", host.cpus, "count", node=LOCAL)
    # Huge pages are set aside, and not available; that they suffice is what the driver refuses otherwise.
    planned = sum(node.memory for node in starting if able.up or not node.hugepages)
    if planned:
        measure.ceiling("host.memory.planned", planned, "MiB", node=LOCAL)
        name = "host.memory" if able.facts.driver == "libvirt" else "host.memory.shared"
        measure(name, host.memory("MemTotal" if able.up else "MemAvailable"), "MiB", node=LOCAL)


@pytest.mark.check("PRV-06")
@pytest.mark.requires("owned", "hypervisor")
def test_hypervisor(
    cluster_config: ClusterConfig, host: Host, able: Able, evidence: Evidence, measure: Measurements
) -> None:
    """The hypervisor is new enough, no other is in its way, and no machine is larger than this host.

    That KVM boots machines is a note and no claim: to emulate them is a way that may be chosen. An IOMMU is asked for
    where devices are passed through, by PRV-07. What the machines' disks hold already counts as free for them.
    """
    evidence.attach("this host and what the driver needs", table(cluster_config, host, able))
    for name, said in host.versions.items():
        measure(f"host.{name}", major(said), "count", node=LOCAL)
    assert not host.rivals, (
        f"localhost: {' and '.join(host.rivals)} is loaded, expected no other hypervisor beside KVM; "
        "end its machines and unload it"
    )
    larger = [node for node in cluster_config.nodes if node.cpus > host.cpus]
    assert not larger, (
        f"{larger[0].name}: is given {larger[0].cpus} CPUs, and this host has {host.cpus}; expected no more; do: set "
        f"cpus: {host.cpus} in the YAML, or less"
    )
    measure.ceiling("host.disk.planned", disks(cluster_config), "GiB", node=LOCAL)
    measure("host.disk", (host.disk_free + host.disk_held) / 2**30, "GiB", node=LOCAL)


@pytest.mark.check("PRV-11")
@pytest.mark.requires("network")
def test_key_pair_opens_the_machines(keys: Keys, door: Door, evidence: Evidence) -> None:
    """The private half is nobody else's to read, the public half is that of it, and each machine lets it in."""
    assert door.answers, f"no machine was asked ({door.what}); nothing was put to the test"
    try:
        derived = keys.derived()
    except ValueError as error:
        raise AssertionError(f"{keys.private}: can't be read as a private key: {error}") from error
    evidence.attach("key pair", f"{keys.private}, mode {keys.mode:04o}\nof it: {derived}\nwritten: {keys.public}")
    for name, answer in door.answers.items():
        evidence.result(answer, f"{name}: id -un, by {door.what}")
    assert keys.mode == 0o600, f"{keys.private}: mode is {keys.mode:04o}, expected 0600; chmod 600 {keys.private}"
    if keys.public:
        written = keys.public.split()[:2]
        assert derived.split()[:2] == written, (
            f"{keys.private}: its public half is {derived}, the one beside it is {' '.join(written)}; expected a pair"
        )
    for name, answer in door.answers.items():
        said = last_word(answer)
        assert answer.ok, (
            f"{name}: does not let the key in ({door.what}): ssh exited with {answer.returncode}: {said}; expected a "
            "login by it, see the machine's authorized_keys and the modes of its folders"
        )


def last_word(answer: Result) -> str:
    """What ssh said last; not the dying word of a login's sshd whose client has gone, which may come after it."""
    said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return next((line for line in reversed(said) if not line.startswith("mm_log_handler: ")), "no output")
