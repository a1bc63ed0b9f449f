"""Faults of infrastructure: each check goes red, names the machine or the link, and recovers."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.drivers.select import nspawn_driver
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.progress import Silent
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from suites.phase1 import _rules as rules
from suites.phase1 import test_access as access
from suites.phase1 import test_machines as machines
from suites.phase1 import test_network as network
from suites.phase1 import test_system as system
from suites.phase3._faults import cut

from .cases import NEEDED, Fault, put_to_the_test, sees
from .inject import Inject, edited, hidden, shell, stopped
from .live import BRIDGE, NAME, SUBNET, Live

pytestmark = NEEDED

SSHD, SSH = "/etc/ssh/sshd_config.d/ai-how.conf", "/etc/ssh/ssh_config.d/ai-how.conf"
TAKE = "s/^PasswordAuthentication no/PasswordAuthentication yes/"
REFUSE = "s/^PasswordAuthentication yes/PasswordAuthentication no/"
DPKG = "/var/lib/dpkg/status"
GONE = "/^Package: jq$/,/^$/s/^Status: .*/Status: deinstall ok config-files/"
LATE = 'exec /usr/bin/date -d "now - 5 seconds" "$@"'
LISTENS = "for i in $(seq 100); do ss -Hltn | grep -q :8099 && break; sleep 0.1; done"


def given(cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """INF-01, of the driver that made these machines."""
    made: Any = SimpleNamespace(driver=nspawn_driver(Silent()))
    machines.test_machines_run(made, cluster, facts, evidence)


def installed(cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """INF-12, likewise."""
    made: Any = SimpleNamespace(driver=nspawn_driver(Silent()))
    system.test_packages(made, cluster, facts, evidence)


def unplugged(source: str, target: str) -> Inject:
    """A link between two machines on which nothing arrives any more."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        with cut(live[source], live[target].address, 60.0, Evidence()):
            yield

    return inject


@contextmanager
def translated(live: Live) -> Iterator[None]:
    """A rule of this host that lets the cluster's machines out under its own address, in a table of its own."""
    rule = f"ip saddr {SUBNET}.0/24 masquerade"
    table = f"table ip {NAME} {{ chain out {{ type nat hook postrouting priority srcnat; {rule}; }}; }}"
    why = rules.asked(rules.RULES)[1]
    assert "no program" not in why, why
    if why:
        pytest.skip(f"the kernel of this host has no nftables: {why}")
    try:
        subprocess.run(["nft", table], check=True)
        yield
    finally:
        subprocess.run(["nft", f"table ip {NAME}; delete table ip {NAME}"], check=True)


@contextmanager
def lending(live: Live) -> Iterator[None]:
    """Somebody on this host who hears what machines of the cluster ask a DHCP server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((f"{SUBNET}.1", 67))
        yield


def squeezed(node: str, mib: int) -> Inject:
    """A machine that was given other memory than the file says: on the host, by its control group."""

    @contextmanager
    def inject(live: Live) -> Iterator[None]:
        groups = read_cgroups().groups(f"{cookie(NAME)}/{node}")
        limits = [group / name for group in groups for name in ("memory.limit_in_bytes", "memory.max")]
        (limit, *_) = [path for path in limits if path.exists()]
        was = limit.read_text().strip()
        try:
            limit.write_text(str(mib * 2**20))
            yield
        finally:
            limit.write_text(was)

    return inject


FAULTS = [
    pytest.param(
        Fault(
            shell("node02", "hostname debian", "hostname node02"),
            [
                (network.test_names, r"node02: calls itself 'debian', expected 'node02'"),
                (machines.test_one_inventory, r"node02: calls itself 'debian', expected 'node02'"),
            ],
        ),
        id="another host name",
        marks=pytest.mark.seen_to_fail("INF-07", "PRV-21"),
    ),
    pytest.param(
        Fault(
            edited("node01", "/etc/hosts", f"{SUBNET}.12 node02", f"{SUBNET}.99 node02"),
            [
                (network.test_names, rf"node01: /etc/hosts has {SUBNET}\.99 for node02, expected {SUBNET}\.12 alone"),
                (network.test_resolution, rf"node01: resolves node02 to {SUBNET}\.99, expected {SUBNET}\.12"),
            ],
        ),
        id="a wrong address in /etc/hosts",
        marks=pytest.mark.seen_to_fail("INF-07", "INF-09"),
    ),
    pytest.param(
        sees(given, "node02: was given memory 768 MiB, configured 1024 MiB", squeezed("node02", 768)),
        id="less memory",
        marks=pytest.mark.seen_to_fail("INF-01"),
    ),
    pytest.param(
        Fault(
            shell("node01", f"ip route add default via {SUBNET}.1", "ip route del default || true"),
            [
                (machines.test_network, rf"node01: has a default route via {SUBNET}\.1, expected no way out"),
                (network.test_way_out, rf"node01: has a default route via {SUBNET}\.1, expected no way out"),
            ],
        ),
        id="a way out",
        marks=pytest.mark.seen_to_fail("INF-03", "INF-18"),
    ),
    pytest.param(
        sees(
            machines.test_network,
            rf"localhost: translates {SUBNET}\.0/24 by rule ip {NAME} out: .*masquerade.*, expected none",
            translated,
        ),
        id="addresses translated",
        marks=pytest.mark.seen_to_fail("INF-03"),
    ),
    pytest.param(
        sees(
            machines.test_network,
            rf"localhost: DHCP is served on {BRIDGE} by {SUBNET}\.1:67 users.*, expected nobody: ",
            lending,
        ),
        id="addresses lent",
        marks=pytest.mark.seen_to_fail("INF-03"),
    ),
    pytest.param(
        sees(
            access.test_nobody_gets_in_without_a_key,
            "node02: sshd goes by passwordauthentication yes, expected no",
            edited("node02", SSHD, "PasswordAuthentication no", "PasswordAuthentication yes", "systemctl reload ssh"),
        ),
        id="passwords allowed",
        marks=pytest.mark.seen_to_fail("INF-05"),
    ),
    pytest.param(
        sees(
            access.test_nobody_gets_in_without_a_key,
            "node01: its sshd offers password to root, expected publickey alone",
            # The file says what it must; the sshd that runs was started before it did.
            shell(
                "node01",
                f"sed -i '{TAKE}' {SSHD} && systemctl restart ssh && sed -i '{REFUSE}' {SSHD}",
                f"sed -i '{REFUSE}' {SSHD}; systemctl restart ssh",
            ),
        ),
        id="passwords offered",
        marks=pytest.mark.seen_to_fail("INF-05"),
    ),
    pytest.param(
        sees(
            access.test_the_administrator_becomes_root,
            "node01: `sudo -n id -u` as ai-how said 'sudo: a password is required', expected 0",
            hidden("node01", "/etc/sudoers.d/ai-how"),
        ),
        id="no sudo",
        marks=pytest.mark.seen_to_fail("INF-06"),
    ),
    pytest.param(
        sees(
            access.test_no_machine_trusts_any_host_key,
            "node02: ssh goes by StrictHostKeyChecking false, expected yes or ask",
            edited("node02", SSH, "StrictHostKeyChecking yes", "StrictHostKeyChecking no"),
        ),
        id="host keys are not checked",
        marks=pytest.mark.seen_to_fail("PRV-22"),
    ),
    pytest.param(
        sees(
            network.test_mesh,
            r"node02: controller → node02: TCP port 6818 is not reached: Connection refused \(2 links fail\)",
            stopped("node02", "slurmd"),
        ),
        id="a port that is shut",
        marks=pytest.mark.seen_to_fail("INF-08"),
    ),
    pytest.param(
        sees(
            network.test_mesh,
            r"node01 → node02: none of 60 echo requests was answered, expected all \(2 links fail\)",
            unplugged("node01", "node02"),
        ),
        id="a link that is cut",
        marks=pytest.mark.seen_to_fail("INF-08"),
    ),
    pytest.param(
        sees(
            network.test_mesh,
            "node01 → node02: no packet of 1500 octets comes through whole, expected that MTU",
            shell("node01", f"ip route add {SUBNET}.12 dev host0 mtu 1200", f"ip route del {SUBNET}.12 || true"),
        ),
        id="a path with a smaller MTU",
        marks=pytest.mark.seen_to_fail("INF-08"),
    ),
    pytest.param(
        sees(
            system.test_operating_system,
            "node02: runs debian bookworm, expected debian trixie",
            edited("node02", "/usr/lib/os-release", "VERSION_CODENAME=trixie", "VERSION_CODENAME=bookworm"),
        ),
        id="another release",
        marks=pytest.mark.seen_to_fail("INF-11"),
    ),
    pytest.param(
        sees(
            installed,
            r"node02: 1 of \d+ declared packages are not installed: jq",
            shell(
                "node02",
                f"cp -p {DPKG} {DPKG}.kept && sed -i '{GONE}' {DPKG}",
                f"test ! -e {DPKG}.kept || mv {DPKG}.kept {DPKG}",
            ),
        ),
        id="a package that is gone",
        marks=pytest.mark.seen_to_fail("INF-12"),
    ),
    pytest.param(
        sees(
            system.test_systemd,
            r"node02: fan\.service failed; read `systemctl status fan\.service` there",
            shell("node02", "systemd-run --wait --unit=fan false || true", "systemctl reset-failed fan"),
        ),
        id="a unit that failed",
        marks=pytest.mark.seen_to_fail("INF-13"),
    ),
    pytest.param(
        sees(
            system.test_listening,
            r"node02: listens on tcp 0\.0\.0\.0:8099 of python3, which no role declares; stop it, or declare it",
            shell(
                "node02",
                f"systemd-run --collect --unit=door python3 -m http.server 8099; {LISTENS}",
                "systemctl stop door",
            ),
        ),
        id="a door that nobody declared",
        marks=pytest.mark.seen_to_fail("INF-43"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees_it(live: Live, fault: Fault) -> None:
    put_to_the_test(live, fault)


#: What is seen by a figure that is outside its limit.
FIGURES = [
    pytest.param(
        sees(
            system.test_clocks,
            r"node02: node\.clock_offset is [45]\.\d+ s, expected at most 1 s",
            shell(
                "node02",
                f"printf '%s\\n' '#!/bin/sh' '{LATE}' >/usr/local/bin/date; chmod 755 /usr/local/bin/date",
                "rm -f /usr/local/bin/date",
            ),
        ),
        id="a clock that is late",
        marks=pytest.mark.seen_to_fail("INF-10"),
    ),
    pytest.param(
        sees(
            system.test_space,
            r"node02: /var/log: node\.space is \d(\.\d+)? %, expected at least 10 %",
            shell(
                "node02",
                "mount -t tmpfs -o size=2m tmpfs /var/log && head -c 1900k /dev/zero >/var/log/full",
                "umount /var/log",
            ),
        ),
        id="logs that are full",
        marks=pytest.mark.seen_to_fail("INF-14"),
    ),
]


@pytest.mark.parametrize("fault", FIGURES)
def test_the_figure_tells(live: Live, fault: Fault) -> None:
    [(check, says)] = fault.seen
    with fault.inject(live):
        verdict = live.judge(check)
        assert (verdict.kind, bool(re.match(says, verdict.text))) == ("figure", True), verdict.text
    again = live.judge(check)
    assert again.kind == "green", again.text
