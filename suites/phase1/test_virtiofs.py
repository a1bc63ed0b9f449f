"""Directories of this host on virtual machines: there, as planned, both ways, and there again after a reboot."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig, VirtiofsMount
from pytest_ai_how.drivers.protocol import Power
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.machines import Machines
from pytest_ai_how.report.evidence import Evidence

from ._directories import Mounted, from_here, mounted, owner, table, there, wrong_mount

MISSING = Path("/var/empty/ai-how-no-such-directory")


@pytest.mark.check("INF-25")
def test_mounts(bringup: Bringup, cluster: Cluster, evidence: Evidence) -> None:
    """Every configured directory is mounted with its options and owner, and carries data both ways."""
    found = mounted(bringup.driver, cluster)
    assert found, f"cluster {cluster.name!r}: no directory of this host is mounted anywhere; nothing to check"
    for one in found:
        wrong = wrong_mount(one, table(one, evidence))
        assert not wrong, wrong
        seen, wanted = owner(one, evidence), f"{one.plan.owner} {one.plan.group} {int(one.plan.mode, 8):o}"
        assert seen == wanted, (
            f"{one.where}: belongs to {seen or 'nobody'}, expected {wanted}; change {one.plan.source} on this host"
        )
        reads_what_this_host_wrote(one, evidence)
        if one.plan.read_only:
            refuses_to_write(one, evidence)
        else:
            writes_what_this_host_reads(one, evidence)


def reads_what_this_host_wrote(one: Mounted, evidence: Evidence) -> None:
    """A file from this host has the same content on the machine."""
    with from_here(one) as (path, word):
        read = one.node.run("cat", there(one, path), check=False)
        evidence.result(read)
        assert read.stdout == word, (
            f"{one.where}: read {read.stdout or read.stderr.strip()!r}, expected {word!r} as {path} holds on this host"
        )


def writes_what_this_host_reads(one: Mounted, evidence: Evidence) -> None:
    """A file from the machine has the same content on this host, and is root's there as it is on the machine."""
    word = secrets.token_hex(16)
    path = Path(one.plan.source) / f".ai-how-{word[:8]}"
    try:
        wrote = one.node.run("dd", f"of={there(one, path)}", "status=none", input=word, check=False)
        evidence.result(wrote)
        read = path.read_text() if path.is_file() else ""
        assert wrote.ok, f"{one.where}: writing failed: {wrote.stderr.strip()}; expected a file on this host"
        assert read == word, f"{one.where}: wrote {word!r}, but {path} holds {read!r} on this host"
    finally:
        path.unlink(missing_ok=True)


def refuses_to_write(one: Mounted, evidence: Evidence) -> None:
    """A directory that is given to read can't be written to."""
    path = Path(one.plan.source) / f".ai-how-{secrets.token_hex(4)}"
    wrote = one.node.run("touch", there(one, path), check=False)
    evidence.result(wrote)
    written = path.exists()
    path.unlink(missing_ok=True)
    assert not wrote.ok, f"{one.where}: is read-only, but the machine could write to it"
    assert not written, f"{one.where}: is read-only, but {path} appeared on this host"


@pytest.mark.check("INF-26")
@pytest.mark.disruptive
def test_mounts_after_a_reboot(bringup: Bringup, cluster: Cluster, machines: Machines, evidence: Evidence) -> None:
    """After a reboot the directories are mounted again; with one missing on this host the machine does not start."""
    found = mounted(bringup.driver, cluster)
    assert found, f"cluster {cluster.name!r}: no directory of this host is mounted anywhere; nothing to check"
    node = found[-1].node
    here = [one for one in found if one.node.name == node.name]
    with from_here(here[0]) as (path, word):
        boot = node.run("cat", "/proc/sys/kernel/random/boot_id").stdout
        machines.stop(node.name)
        refused = start_refused(bringup.driver, cluster.config, node.name)
        evidence.attach("start without the directory", refused or "not refused")
        assert machines.state(node.name) == "off", f"{node.name}: started although {MISSING} is missing on this host"
        assert str(MISSING) in refused, (
            f"{node.name}: the start without {MISSING} said {refused or 'nothing'!r}, expected a refusal with its path"
        )
        machines.start(node.name)
        assert node.run("cat", "/proc/sys/kernel/random/boot_id").stdout != boot, f"{node.name}: was not booted anew"
        read = node.run("cat", there(here[0], path), check=False)
        evidence.result(read)
    for one in here:
        wrong = wrong_mount(one, table(one, evidence))
        assert not wrong, f"{wrong} (after a reboot)"
    assert read.stdout == word, (
        f"{here[0].where}: read {read.stdout or read.stderr.strip()!r} after a reboot, expected {word!r} from this host"
    )


def start_refused(driver: object, config: ClusterConfig, node: str) -> str:
    """What the driver says to starting ``node`` with a directory that this host does not have."""
    assert isinstance(driver, Power), "the fixture `machines` has asked"
    extra = VirtiofsMount(tag="ai-how-missing", source=str(MISSING), mount="/srv/ai-how-missing")
    nodes = tuple(
        one.model_copy(update={"virtiofs": (*one.virtiofs, extra)}) if one.name == node else one for one in config.nodes
    )
    try:
        driver.start(config.model_copy(update={"nodes": nodes}), node)
    except AiHowError as error:
        return str(error)
    return ""
