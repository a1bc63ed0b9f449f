"""The checks of the host go red where machines can't be made, and for a key pair that is none or opens nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.config.capabilities import declared_absent
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.libvirt.host import check_room
from pytest_ai_how.drivers.machines.identity import make_pair, write_private
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import HostError, TransportError
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from suites.phase0 import test_host as phase0
from suites.phase0._host import Able, Host, major, read_host
from suites.phase0._keys import Door, Keys, knock_at_machines
from tests.fakes import Switchboard

VM = load_config("vm", environ={})
MEMINFO = "MemTotal:       24576000 kB\nMemFree:         1024000 kB\nMemAvailable:   20480000 kB\n"
# Debian 13; /proc/modules of a workstation (6.12), shortened
VERSIONS = {
    "qemu": "QEMU emulator version 10.0.3 (Debian 1:10.0.3+ds-0+deb13u1)",
    "libvirt": "libvirtd (libvirt) 11.3.0",
}
MODULES = "kvm_intel 413696 4 - Live 0x0000000000000000\nvfio_pci 16384 0 - Live 0x0000000000000000\n"
HOST = Host(12, MEMINFO, Path("/var"), 2**40, MODULES, "uid=0(root) gid=0(root) groups=0(root)", VERSIONS)
ABLE = Able(HostFacts("libvirt", ("machines run by KVM",)), up=False, refusals=())


def able(host: Host = HOST, what: Able = ABLE, evidence: Evidence | None = None) -> Measurements:
    measure = Measurements(load_limits("local"))
    phase0.test_host_can_make_the_machines(VM, host, what, evidence or Evidence(), measure)
    return measure


def hypervisor(host: Host = HOST, what: Able = ABLE, evidence: Evidence | None = None) -> Measurements:
    measure = Measurements(load_limits("local"))
    phase0.test_hypervisor(VM, host, what, evidence or Evidence(), measure)
    return measure


def test_a_host_that_can(evidence: Evidence) -> None:
    figures = {item.metric: item.value for item in able(evidence=evidence).items}
    assert figures["host.memory"] == 20000
    assert "other hypervisors: none" in evidence.items[0].content
    assert f"{2**20} MiB free below /var; the machines' disks are sparse, hold 0 MiB" in evidence.items[0].content
    up = able(replace(HOST, meminfo=MEMINFO.replace("20480000", "1024")), replace(ABLE, up=True))
    assert {item.metric: item.value for item in up.items}["host.memory"] == 24000, "its own machines use the rest"
    nspawn = replace(ABLE, facts=HostFacts("nspawn"))
    half = MEMINFO.replace("20480000", str(2100 * 1024))
    shared = {item.metric: item.value for item in able(replace(HOST, meminfo=half), nspawn).items}
    assert shared["host.memory.shared"] == 2100, "half of 4096 MiB is enough for machines that share the host's memory"
    assert "host.memory" not in shared


def test_a_hypervisor_that_can(evidence: Evidence) -> None:
    figures = {item.metric: item.value for item in hypervisor(evidence=evidence).items}
    assert (figures["host.qemu"], figures["host.libvirt"]) == (10, 11)
    assert (figures["host.disk.planned"], figures["host.disk"]) == (30, 1024)
    held = hypervisor(replace(HOST, disk_free=5 * 2**30, disk_held=25 * 2**30), replace(ABLE, up=True))
    assert {item.metric: item.value for item in held.items}["host.disk"] == 30, "its own machines use the rest"


def test_nspawn_claims_nothing_of_a_hypervisor() -> None:
    """What no hypervisor is asked for is told by name, and not passed over."""
    assert "hypervisor" in declared_absent(VM.model_copy(update={"driver": "nspawn"}))
    [mark] = [one for one in phase0.test_hypervisor.pytestmark if one.name == "requires"]  # type: ignore[attr-defined]
    assert "hypervisor" in mark.args


@pytest.mark.seen_to_fail("PRV-06")
def test_disks_that_this_host_can_not_hold() -> None:
    with pytest.raises(LimitExceeded) as caught:
        hypervisor(replace(HOST, disk_free=30 * 2**30 - 2**20))
    said = "localhost: host.disk is 29.999 GiB, expected at least 30 GiB (100% of host.disk.planned, 30 GiB)"
    assert str(caught.value).startswith(said)
    assert "which are sparse and grow to it; name less disk in the YAML, or move XDG_STATE_HOME" in str(caught.value)


@pytest.mark.seen_to_fail("PRV-06")
def test_a_machine_that_is_larger_than_this_host() -> None:
    with pytest.raises(
        AssertionError, match="^controller: is given 2 CPUs, and this host has 1; expected no more; do:"
    ):
        hypervisor(replace(HOST, cpus=1))


def test_what_the_disks_of_machines_hold_is_read(tmp_path: Path) -> None:
    assert read_host(tmp_path).disk_held == 0
    layer = tmp_path / "machines/nodes/node01/disk.qcow2"
    layer.parent.mkdir(parents=True)
    with layer.open("wb") as file:
        file.write(b"x" * 8192)
        file.truncate(2**30)
    assert 8192 <= read_host(tmp_path).disk_held < 2**20


def test_huge_pages_are_set_aside_and_not_missed() -> None:
    nodes = tuple(one.model_copy(update={"hugepages": True}) for one in VM.nodes)
    config = VM.model_copy(update={"nodes": (*nodes[:2], VM.nodes[2])})
    measure = Measurements(load_limits("local"))
    host = replace(HOST, meminfo=MEMINFO.replace("20480000", str(1024 * 1024)))
    phase0.test_host_can_make_the_machines(config, host, ABLE, Evidence(), measure)
    figures = {item.metric: item.value for item in measure.items}
    assert (figures["host.memory.planned"], figures["host.memory"]) == (1024, 1024)
    config = VM.model_copy(update={"nodes": nodes})
    measure = Measurements(load_limits("local"))
    phase0.test_host_can_make_the_machines(config, host, ABLE, Evidence(), measure)
    assert "host.memory" not in {item.metric for item in measure.items}


@pytest.mark.seen_to_fail("PRV-06")
def test_a_host_with_too_little_memory() -> None:
    """What the driver itself refuses, in its own words."""
    with pytest.raises(HostError) as refused:
        check_room(VM, Path("/var"), MEMINFO.replace("20480000", "2048000"), 2**40)
    with pytest.raises(AssertionError) as caught:
        able(what=replace(ABLE, refusals=(refused.value,)))
    said = "localhost: 2000 MiB of memory available\n    expected: 4366 MiB for the machines of 'vm' that start"
    assert str(caught.value).startswith(said)


@pytest.mark.seen_to_fail("PRV-06")
@pytest.mark.parametrize(
    ("driver", "available", "seen"),
    [
        ("libvirt", 4095, "localhost: host.memory is 4095 MiB, expected at least 4096"),
        ("nspawn", 2047, "localhost: host.memory.shared is 2047 MiB, expected at least 2048"),
    ],
)
def test_memory_for_less_than_the_machines_need(driver: str, available: int, seen: str) -> None:
    """By the figures, should a driver refuse too little."""
    host = replace(HOST, meminfo=MEMINFO.replace("20480000", str(available * 1024)))
    with pytest.raises(LimitExceeded) as caught:
        able(host, replace(ABLE, facts=HostFacts(driver)))
    assert str(caught.value).startswith(seen)


@pytest.mark.seen_to_fail("PRV-06")
def test_every_refusal_is_told() -> None:
    why = (
        HostError("localhost", "no program qemu-img", cure="apt-get install --no-install-recommends qemu-utils"),
        HostError("localhost", "libvirt does not answer", expected="a daemon that this user may use (group libvirt)"),
    )
    with pytest.raises(AssertionError) as caught:
        able(what=replace(ABLE, refusals=why))
    assert "no program qemu-img" in str(caught.value)
    assert "group libvirt" in str(caught.value)


@pytest.mark.seen_to_fail("PRV-06")
@pytest.mark.parametrize(
    ("program", "said", "seen"),
    [
        (
            "qemu",
            "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11+deb11u3)",
            "localhost: host.qemu is 5 count, expected at least 7",
        ),
        ("libvirt", "libvirtd (libvirt) 7.0.0", "localhost: host.libvirt is 7 count, expected at least 9"),
        ("libvirt", "", "localhost: host.libvirt is 0 count, expected at least 9"),
    ],
)
def test_a_hypervisor_that_is_too_old(program: str, said: str, seen: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        hypervisor(replace(HOST, versions={**VERSIONS, program: said}))
    assert str(caught.value).startswith(seen)


@pytest.mark.seen_to_fail("PRV-06")
def test_another_hypervisor_in_the_way() -> None:
    with pytest.raises(AssertionError, match=r"localhost: VirtualBox \(module vboxdrv\) is loaded, expected no other"):
        hypervisor(replace(HOST, modules=f"{MODULES}vboxdrv 696320 3 vboxnetadp,vboxnetflt, Live 0x0 (OE)\n"))


@pytest.mark.seen_to_fail("PRV-06")
def test_no_machine_is_no_pass(no_evidence: Evidence) -> None:
    config = VM.model_copy(update={"nodes": tuple(one.model_copy(update={"auto_start": False}) for one in VM.nodes)})
    with pytest.raises(AssertionError, match="vm: no machine starts by itself; nothing was put to the test"):
        phase0.test_host_can_make_the_machines(config, HOST, ABLE, no_evidence, Measurements(load_limits("local")))


def test_a_version_that_is_not_told() -> None:
    assert major("command not found") == 0


# the key pair


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    pair = make_pair()
    write_private(tmp_path / "id_ed25519", pair.private)
    return Keys(tmp_path / "id_ed25519", pair.public)


OPEN = Door("the machines", {"node01": Result(("id", "-un"), 0, "root\n", node="node01")})


def test_a_key_that_opens(keys: Keys, evidence: Evidence) -> None:
    phase0.test_key_pair_opens_the_machines(keys, OPEN, evidence)
    phase0.test_key_pair_opens_the_machines(replace(keys, public=f"{keys.public} me@here"), OPEN, evidence)
    phase0.test_key_pair_opens_the_machines(replace(keys, public=""), OPEN, evidence)
    assert "PRIVATE KEY" not in "".join(item.content for item in evidence.items)


@pytest.mark.seen_to_fail("PRV-11")
def test_a_key_that_others_can_read(keys: Keys, evidence: Evidence) -> None:
    keys.private.chmod(0o644)
    with pytest.raises(AssertionError, match=r"id_ed25519: mode is 0644, expected 0600; chmod 600 "):
        phase0.test_key_pair_opens_the_machines(keys, OPEN, evidence)


@pytest.mark.seen_to_fail("PRV-11")
def test_halves_of_two_pairs(keys: Keys, evidence: Evidence) -> None:
    with pytest.raises(
        AssertionError, match="id_ed25519: its public half is ssh-ed25519 .* the one beside it is ssh-ed"
    ):
        phase0.test_key_pair_opens_the_machines(replace(keys, public=make_pair().public), OPEN, evidence)


@pytest.mark.seen_to_fail("PRV-11")
def test_no_key_at_all(keys: Keys, no_evidence: Evidence) -> None:
    keys.private.write_text("rubbish\n")
    with pytest.raises(AssertionError, match="id_ed25519: can't be read as a private key: "):
        phase0.test_key_pair_opens_the_machines(keys, OPEN, no_evidence)


@pytest.mark.seen_to_fail("PRV-11")
def test_a_machine_that_stays_shut(keys: Keys, evidence: Evidence) -> None:
    refused = "root@node02: Permission denied (publickey)."
    door = Door(OPEN.what, {**OPEN.answers, "node02": Result(("id", "-un"), 255, stderr=f"{refused}\n", node="node02")})
    with pytest.raises(AssertionError) as caught:
        phase0.test_key_pair_opens_the_machines(keys, door, evidence)
    said = f"node02: does not let the key in (the machines): ssh exited with 255: {refused}; expected a login by it"
    assert str(caught.value).startswith(said)
    # OpenSSH 9.2: the monitor of the sshd, whose output is with ssh's, may come last.
    mixed = Result(("id", "-un"), 255, f"{refused}\nmm_log_handler: write: Broken pipe\n", node="node02")
    with pytest.raises(AssertionError, match=r"node02: .* ssh exited with 255: root@node02: Permission denied"):
        phase0.test_key_pair_opens_the_machines(keys, Door("the image", {"node02": mixed}), evidence)
    with pytest.raises(AssertionError, match=r"node02: .* ssh exited with 255: no output; expected a login by it"):
        phase0.test_key_pair_opens_the_machines(keys, Door("it", {"node02": Result((), 255, node="node02")}), evidence)
    with pytest.raises(AssertionError, match=r"no machine was asked \(the machines\); nothing was put to the test"):
        phase0.test_key_pair_opens_the_machines(keys, Door("the machines", {}), evidence)


@pytest.mark.seen_to_fail("PRV-11")
def test_machines_that_are_up_are_asked_themselves(keys: Keys, evidence: Evidence) -> None:
    class Doors(Switchboard):
        def transport(self, config: object, node: str) -> FakeTransport:
            refused = TransportError(node, "refuses the key", expected="a login")
            return FakeTransport(node, {"id -un": refused if node == "node02" else "root\n"})

    door = knock_at_machines(VM, Doors({}))
    assert [answer.ok for answer in door.answers.values()] == [True, True, False]
    with pytest.raises(AssertionError, match=r"node02: does not let the key in \(the machines\)"):
        phase0.test_key_pair_opens_the_machines(keys, door, evidence)
