"""The checks of BeeGFS's servers and clients go red on a cluster that lacks what they claim, and name the machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.shell import Result
from suites.phase3 import test_beegfs_client as client
from suites.phase3 import test_beegfs_services as services
from suites.phase3 import test_integrity as integrity
from tests.unit.services.beegfs.sample import (
    KERNEL,
    MODULE,
    MOUNTED,
    beegfs,
    beegfs_config,
    ctl,
    is_module,
    is_mount,
    is_proc,
    module,
    proc,
    well,
)

from .phase3_fakes import LISTENING, Rule, Rules, says

Check = Callable[[BeeGfs, Evidence], None]


def packages(version: str = "20:7.4.7") -> str:
    return "".join(
        f"{name}\t{version}\tinstalled\n" for name in ("beegfs-common", "beegfs-client-dkms", "libbeegfs-ib")
    )


@pytest.mark.seen_to_fail("STO-01")
def test_releases_that_differ(evidence: Evidence) -> None:
    def check(answer: str, others: str = packages()) -> None:
        services.test_versions(beegfs({"*": [(says("dpkg"), others)], "node02": [(says("dpkg"), answer)]}), evidence)

    check(packages())
    check(packages() + "libbeegfs-license\t20:8.3.0\tinstalled\n")
    with pytest.raises(
        AssertionError, match=r"^node02: beegfs-common is 7\.4\.4, expected 7\.4\.7 as controller: beegfs-c"
    ):
        check(packages("20:7.4.4"))
    with pytest.raises(AssertionError, match=r"^node02: no package of BeeGFS is installed; expected those of 7\.4"):
        check("beegfs-common\t20:7.4.7\tconfig-files\n")
    with pytest.raises(AssertionError, match=r"^node02: of BeeGFS only libbeegfs-license is installed; expected those"):
        check("libbeegfs-license\t20:8.3.0\tinstalled\n")
    with pytest.raises(AssertionError, match=r"^controller: beegfs-common is 8\.1\.0; expected generation 7\.4"):
        check(packages("20:8.1.0"), packages("20:8.1.0"))


def daemon(pid: int, active: str = "active", enabled: str = "enabled", listening: str = LISTENING) -> Rules:
    shown = f"MainPID={pid}\nActiveState={active}\nUnitFileState={enabled}\n"
    return [(("systemctl", "show"), shown), (("ss",), listening)]


@pytest.mark.seen_to_fail("STO-02", "STO-03", "STO-04")
@pytest.mark.parametrize(
    ("check", "node", "unit", "port", "pid"),
    [
        (services.test_management, "controller", "beegfs-mgmtd", 8008, 301),
        (services.test_metadata, "controller", "beegfs-meta", 8005, 302),
        (services.test_storage, "node02", "beegfs-storage", 8003, 303),
    ],
)
def test_a_daemon_that_does_not_serve(
    evidence: Evidence, check: Check, node: str, unit: str, port: int, pid: int
) -> None:
    def on(rules: Rules) -> BeeGfs:
        return beegfs({"*": daemon(pid), node: rules})

    check(on(daemon(pid)), evidence)
    with pytest.raises(AssertionError, match=rf"^{node}: {unit} is failed and enabled; expected active and enabled"):
        check(on(daemon(0, "failed")), evidence)
    with pytest.raises(AssertionError, match=rf"^{node}: {unit} is active and disabled; expected active and enabled"):
        check(on(daemon(pid, enabled="disabled")), evidence)
    silent = LISTENING.replace(f"0.0.0.0:{port} ", "0.0.0.0:9999 ")
    with pytest.raises(AssertionError, match=rf"^{node}: nothing listens on tcp {port}; expected {unit}"):
        check(on(daemon(pid, listening=silent)), evidence)
    with pytest.raises(
        AssertionError, match=rf"^{node}: tcp {port} is held by process {pid}, expected {unit}, process 9"
    ):
        check(on(daemon(9)), evidence)


@pytest.mark.seen_to_fail("STO-02")
def test_generation_8_listens_for_grpc(evidence: Evidence) -> None:
    section = {"generation": "8", "packages": {"folder": "/packages"}}
    config = beegfs_config(storage={"kind": "beegfs", "mount": "/mnt/beegfs", "beegfs": section})
    grpc = LISTENING + 'tcp   LISTEN 0      128      *:8010      *:*    users:(("beegfs-mgmtd",pid=301,fd=3))\n'
    services.test_management(beegfs({"*": daemon(301, listening=grpc)}, config), evidence)
    with pytest.raises(AssertionError, match=r"^controller: nothing listens on tcp 8010; expected beegfs-mgmtd"):
        services.test_management(beegfs({"*": daemon(301)}, config), evidence)


def table(rows: str) -> str:
    return f"TargetID     Reachability  Consistency   Cap. Pool   NodeID\n{rows}"


META = table("       1  Online  Good  normal  9.8GiB  9.0GiB  92%  0.7M  0.6M  96%   beegfs-meta controller [ID: 1]\n")
ROW = "       %d  %s  Good  %s  9.8GiB  9.0GiB  92%%  0.7M  0.6M  96%%   beegfs-storage node0%d [ID: %d]\n"
STORE = table(ROW % (1, "Online", "normal", 1, 1) + ROW % (2, "Online", "normal", 2, 2))
SERVERS = """\
Management
==========
controller [ID: 1]: reachable at 10.78.0.10:8008 (protocol: TCP)

Metadata
==========
controller [ID: 1]: reachable at 10.78.0.10:8005 (protocol: TCP)

Storage
==========
node01 [ID: 1]: reachable at 10.78.0.11:8003 (protocol: TCP)
node02 [ID: 2]: reachable at 10.78.0.12:8003 (protocol: TCP)

"""


def manager(store: str = STORE, servers: str | Result = SERVERS, meta: str = META) -> Rules:
    return [
        (ctl("beegfs-ctl --listtargets --nodetype=metadata"), meta),
        (ctl("beegfs-ctl --listtargets --nodetype=storage"), store),
        (ctl("beegfs-check-servers -e"), servers),
    ]


@pytest.mark.seen_to_fail("STO-10")
def test_servers_and_targets_that_are_not_as_configured(evidence: Evidence) -> None:
    def check(rules: Rules | None = None, **others: Rules) -> None:
        services.test_registered(beegfs({"controller": well(*(rules or manager())), **others}), evidence)

    check()
    away = proc({"node01": "Online / Good", "node02": "Probably-offline / Good"})
    with pytest.raises(AssertionError, match=r"^node01: storage target 2 of node02: Probably-offline Good"):
        check(node01=well((is_proc, away)))
    with pytest.raises(AssertionError, match=r"^node02: has no storage server node02 \(and 1 more\)"):
        check(node02=well((is_proc, proc({"node01": "Online / Good"}))))
    with pytest.raises(
        AssertionError, match=r"^controller: the management daemon has storage targets on node01, expected"
    ):
        check(manager(table(ROW % (1, "Online", "normal", 1, 1))))
    with pytest.raises(
        AssertionError, match=r"^controller: the management daemon has storage targets on no node, expected"
    ):
        check(manager(table("")))
    offline = table(ROW % (1, "Online", "normal", 1, 1) + ROW % (2, "Offline", "normal", 2, 2))
    with pytest.raises(AssertionError, match=r"^node02: storage target 2 of node02: Offline Good for the management"):
        check(manager(offline))
    low = table(ROW % (1, "Online", "low", 1, 1) + ROW % (2, "Online", "normal", 2, 2))
    with pytest.raises(
        AssertionError, match=r"^node01: storage target 1 is in the capacity pool 'low', expected normal"
    ):
        check(manager(low))
    refused = (
        ctl("beegfs-ctl --listtargets --nodetype=metadata"),
        Result((), 3, stderr="[ERROR: No metadata servers found]"),
    )
    with pytest.raises(
        AssertionError, match=r"^controller: .*--nodetype=metadata .*exited with 3: \[ERROR: No metadata"
    ):
        check([refused, *manager()])
    gone = Result((), 1, SERVERS.partition("node01")[0], "node01 [ID: 1]\n   Reachable: <no>\n   Route: <skipped>\n")
    with pytest.raises(AssertionError, match=r"^node01: its storage server does not answer controller"):
        check(manager(servers=gone))
    silent = (
        ctl("beegfs-ctl --listtargets --nodetype=storage"),
        Result((), 3, stderr="[ERROR from beegfs-storage node01 [ID: 1]: Communication error]"),
    )
    with pytest.raises(AssertionError, match=r"^node01: its storage server does not answer controller"):
        check([silent, *manager(servers=gone)])
    with pytest.raises(AssertionError, match=r"^controller: reaches .*, expected .*'node02'"):
        check(manager(servers=SERVERS.replace("node02", "node03")))


@pytest.mark.seen_to_fail("STO-37")
def test_connections_that_anybody_may_make(evidence: Evidence) -> None:
    def check(*more: Rule, secret: str = "aa") -> None:
        right: Rules = [(says("stat --format=%a"), "400 root\n"), (says("sha256sum"), "aa  x\n")]
        one: Rules = [*more, (says("stat --format=%a"), "400 root\n"), (says("sha256sum"), f"{secret}  x\n")]
        services.test_authentication(beegfs({"*": well(*right), "node02": well(*one)}), evidence)

    check()
    off = proc(settings={"connDisableAuthentication": "true"})
    with pytest.raises(AssertionError, match=r"^node02: its client connects without authentication"):
        check((is_proc, off))
    with pytest.raises(
        AssertionError, match=r"^node02: its client connects without authentication \(connAuthFile is ''\)"
    ):
        check((is_proc, ""))
    with pytest.raises(AssertionError, match=r"^node02: /etc/beegfs/conn\.auth is '644 root', expected 400 root"):
        check((says("stat --format=%a"), "644 root\n"))
    with pytest.raises(AssertionError, match=r"^node02: its secret of BeeGFS is another one than that of controller"):
        check(secret="bb")
    section = {"generation": "7.4", "packages": {"folder": "/packages"}, "authentication": False}
    config = beegfs_config(storage={"kind": "beegfs", "mount": "/mnt/beegfs", "beegfs": section})
    with pytest.raises(AssertionError, match=r"^local: storage\.beegfs\.authentication is false: whoever reaches"):
        services.test_authentication(beegfs({}, config), evidence)
    assert not [item for item in evidence.items if b"aa  x" in item.data], "a digest of the secret is in the evidence"


ENTRY = """\
Entry type: %s
EntryID: 0-68A-1
Metadata node: controller [ID: 1]
Stripe pattern details:
+ Type: RAID0
+ Chunksize: 512K
+ Number of storage targets: desired: 4; actual: 2
"""
STRIPED = ENTRY % "file" + "+ Storage targets:\n  + 1 @ node01 [ID: 1]\n  + 2 @ node02 [ID: 2]\n"
STORE_CONF = {"/etc/beegfs/beegfs-storage.conf": b"storeStorageDirectory = /data/beegfs/storage\n"}


@pytest.mark.seen_to_fail("STO-17")
def test_a_file_that_lies_on_one_target(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(
        entry: str = STRIPED, *, first: str = "1048576\n", second: str = "1048576\n", wrote: Rule | None = None
    ) -> None:
        asked: Rule = (ctl("beegfs-ctl --getentryinfo"), [ENTRY % "directory", entry])
        scripts = {
            "controller": [asked],
            "node01": [wrote or (says("urandom"), ""), (("find", "/data/beegfs/storage/chunks"), first)],
            "node02": [(("find", "/data/beegfs/storage/chunks"), second)],
        }
        made = beegfs(scripts)
        for node in made.cluster.nodes:
            node.transport.files.update(STORE_CONF)  # type: ignore[attr-defined]  # a FakeTransport
        integrity.test_striping(made, "/mnt/beegfs/.ai-how-x", evidence)

    check()
    with pytest.raises(
        AssertionError, match=r"^controller: \S+/striped .* is on the targets \(1,\); expected two or more"
    ):
        check(STRIPED.replace("  + 2 @ node02 [ID: 2]\n", ""))
    with pytest.raises(
        AssertionError, match=r"^node01: holds all chunks of \S+/striped that are there .*; expected two"
    ):
        check(second="")
    with pytest.raises(
        AssertionError, match=r"^node01, node02: the chunks of \S+ have 1572864 bytes together, 2097152 were"
    ):
        check(second="524288\n")
    with pytest.raises(AssertionError, match=r"^node01: writing 2097152 bytes to \S+ ended with 1: No space left"):
        check(wrote=(says("urandom"), Result((), 1, stderr="No space left on device")))


def mismatch(tried: Result | str, log: str, later: tuple[str, ...] = ()) -> Rules:
    """node02 while its module is hidden: not mounted, and then mounted again."""
    nothing = Result((), 1)
    other = module(vermagic=MODULE["vermagic"].replace("6.12", "0.12"))
    return [
        (("timeout", "--signal=KILL", "60", "umount"), ""),
        (("timeout", "--signal=KILL", "20", "modprobe"), ""),
        (("timeout", "--signal=KILL", "60", "mount"), tried),
        (("timeout", "--signal=KILL", "120", "mount"), ""),
        (says("python3 -"), '{"replaced": 1}'),
        (("mount", "--bind"), ""),
        (("umount",), ""),
        (("rm",), ""),
        (("modinfo",), f"0{KERNEL[1:]} SMP\n"),
        (("journalctl",), log),
        (is_module, [module(), *(later or (other,))]),
        (is_mount, [nothing, MOUNTED]),
        (is_proc, proc()),
    ]


REFUSED = Result((), 32, stderr="mount: /mnt/beegfs: unknown filesystem type 'beegfs'.\n")
KERNEL_LOG = "beegfs: version magic '0.12.57 SMP' should be '6.12.57 SMP'\n"


@pytest.mark.seen_to_fail("STO-38")
def test_a_mismatch_that_nobody_hears_of(evidence: Evidence) -> None:
    check = client.test_mismatch_is_loud
    check(beegfs({"node02": mismatch(REFUSED, KERNEL_LOG)}), evidence)
    with pytest.raises(
        AssertionError, match=r"^node02: /mnt/beegfs was mounted with a module that is not for its kernel"
    ):
        check(beegfs({"node02": mismatch("", KERNEL_LOG)}), evidence)
    with pytest.raises(
        AssertionError, match=r"^node02: mounting with .* ended with 32, and the kernel's log does not say"
    ):
        check(beegfs({"node02": mismatch(REFUSED, "")}), evidence)
    with pytest.raises(
        AssertionError, match=r"^node02: readiness says 'node02: nothing is mounted at /mnt/beegfs'; expected"
    ):
        check(beegfs({"node02": mismatch(REFUSED, KERNEL_LOG, (module(),))}), evidence)
    wrong = well((is_module, module(vermagic="6.1.0 SMP")))
    with pytest.raises(AssertionError, match=r"^node02: /lib/\S+ was built for kernel 6\.1\.0"):
        check(beegfs({"node02": wrong}), evidence)
