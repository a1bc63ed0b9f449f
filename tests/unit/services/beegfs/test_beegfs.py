"""What BeeGFS is asked, what is read from its answers, and when it is not ready."""

from __future__ import annotations

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import AiHowError, CommandError, ConfigError
from pytest_ai_how.services.beegfs import BeeGfs, Entry, Server
from pytest_ai_how.services.beegfs.client import parse_client, parse_module
from pytest_ai_how.services.beegfs.ctl import Ctl, parse_entry, parse_routes, parse_targets
from pytest_ai_how.services.beegfs.facts import Package
from pytest_ai_how.services.beegfs.tool import BeegfsTool
from pytest_ai_how.services.beegfs.tool import parse_targets as parse_targets_8
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import Answers, Matcher
from tests.fakes import fake_cluster

from .sample import DATA, KERNEL, MOUNTED, beegfs, beegfs_config, ctl, is_module, is_mount, is_proc, module, proc, well

KILLED = Result((), 137)


def data(name: str) -> str:
    return (DATA / name).read_text()


# 7.4's tools


def test_targets_with_their_states() -> None:
    targets = list(parse_targets(data("7.4.7-listtargets.txt"), "storage", "controller"))
    assert [str(target) for target in targets] == [
        "storage target 1 of node01: Online Good",
        "storage target 2 of node02: Probably-offline Good",
        "storage target 3 of node03: unknown unknown",
    ]
    assert [target.well for target in targets] == [True, False, False]
    assert [target.pool for target in targets] == ["normal", "low", "emergency"]


def test_targets_with_their_space() -> None:
    first, second, third = parse_targets(data("7.4.7-listtargets-space.txt"), "storage", "controller")
    assert (first.total, first.free, first.free_inodes) == (round(7.8 * 2**30), round(7.3 * 2**30), 500_000)
    assert (first.id, second.server, third.well) == (101, Server("storage", "node02", 2), True)


def test_a_table_of_another_form_is_an_error_and_not_an_empty_list() -> None:
    with pytest.raises(AiHowError, match=r"^controller: beegfs-ctl --listtargets says '1 Online'"):
        list(parse_targets("1 Online\n", "storage", "controller"))


def test_an_entry_that_is_no_entry_is_an_error() -> None:
    with pytest.raises(AiHowError, match=r"^controller: beegfs-ctl --getentryinfo says 'Unable to"):
        parse_entry("Unable to find metadata node for path: /x\n", "controller")


def test_an_entry_of_a_folder_has_no_targets() -> None:
    text = (
        "Entry type: directory\nEntryID: root\nMetadata node: controller [ID: 1]\nStripe pattern details:\n"
        "+ Type: RAID0\n+ Chunksize: 1M\n+ Number of storage targets: desired: 4\n+ Storage Pool: 1 (Default)\n"
    )
    assert parse_entry(text, "controller") == Entry("directory", "root", "RAID0", 2**20, ())


def test_a_striped_file() -> None:
    found = parse_entry(data("7.4.7-getentryinfo.txt"), "controller")
    assert found == Entry("file", "1-6B049C79-1", "RAID0", 2**19, (201, 301, 101))


def test_what_a_client_knows() -> None:
    client = parse_client(data("7.4.7-proc.txt"))
    assert client is not None
    assert [server.name for server in client.of("storage")] == ["node01", "node02", "node03"]
    assert [str(target) for target in client.targets][:2] == [
        "metadata target 1 of controller: Online Good",
        "storage target 101 of node01: Online Good",
    ]
    assert client.settings["connAuthFile"] == "/etc/beegfs/conn.auth"


def test_servers_that_are_gone_are_told_from_those_that_answer() -> None:
    routes = list(parse_routes(data("7.4.7-check-servers.out"), data("7.4.7-check-servers.err")))
    assert [(one.server.kind, one.server.name, one.reachable) for one in routes] == [
        ("management", "controller", True),
        ("metadata", "controller", True),
        ("storage", "node01", True),
        ("storage", "node02", False),
    ]


def test_a_tool_that_fails_is_an_error_with_its_words() -> None:
    refused = Result((), 3, stderr="Unrecoverable error: Could not read connAuthFile\n")
    node = fake_cluster({"*": [(ctl("beegfs-ctl"), refused), (ctl("beegfs-check-servers"), Result((), 1))]}).controller
    with pytest.raises(CommandError, match=r"^controller: .* exited with 3: Unrecoverable error"):
        Ctl(node).targets("storage")
    with pytest.raises(CommandError, match=r"^controller: .*beegfs-check-servers -e` exited with 1, no output"):
        Ctl(node).routes()


def test_every_question_is_bounded_by_the_machine_itself() -> None:
    made = beegfs({"controller": well((ctl("beegfs-ctl"), data("7.4.7-listtargets.txt")))})
    made.targets()
    made.clients()
    made.mounts()
    made.modules()
    calls = [call.argv for node in made.cluster.nodes for call in node.transport.calls]  # type: ignore[attr-defined]  # a FakeTransport
    assert len(calls) == 10
    assert all(argv[:2] == ("timeout", "--signal=KILL") for argv in calls)


# 8's tool


MACHINES = {"10.83.0.10": "controller", **{f"10.83.0.1{n}": f"node0{n}" for n in (1, 2, 3)}}
FLAGS_8 = {"management": "management", "metadata": "meta", "storage": "storage"}


def nodes_8() -> list[tuple[Matcher, Answers]]:
    """What ``beegfs node list`` says."""
    return [
        (ctl(f"beegfs node list --node-type {flag} "), data(f"8.3.1-nodes-{kind}.ndjson"))
        for kind, flag in FLAGS_8.items()
    ]


def test_8_is_asked_for_json_and_its_numbers_find_their_machines() -> None:
    listed = (ctl("beegfs target list"), data("8.3.1-targets-storage.ndjson").replace("Online", "Offline", 1))
    node = fake_cluster({"*": [*nodes_8(), listed]}).controller
    targets, told = BeegfsTool(node, MACHINES).targets("storage", space=True)
    assert [str(target) for target in targets] == [
        "storage target 101 of node01: Offline Good",
        "storage target 201 of node02: Online Good",
        "storage target 301 of node03: Online Good",
    ]
    assert (targets[0].total, targets[0].free, targets[0].free_inodes) == (10497650688, 9527668736, 640728)
    assert told.argv[-3:] == ("--output", "ndjson", "--raw")


def test_8_has_servers_at_addresses_that_nobody_named_by_their_aliases() -> None:
    tool = BeegfsTool(
        fake_cluster({"*": nodes_8()}).controller, {"10.83.0.11": "node01", "10.99.0.12": "node_storage_2"}
    )
    assert [server.name for server in tool.servers("storage")[0]] == ["node01", "node_storage_2", "node_storage_3"]


def test_servers_of_8_that_answer() -> None:
    routes, _ = BeegfsTool(fake_cluster({"*": nodes_8()}).controller, MACHINES).routes()
    assert [(route.server.kind, route.server.name, route.at) for route in routes] == [
        ("management", "controller", "ethernet:host0 (10.83.0.10:8008,8010)"),
        ("metadata", "controller", "ethernet:host0 (10.83.0.10:8005)"),
        *(("storage", f"node0{n}", f"ethernet:host0 (10.83.0.1{n}:8003)") for n in (1, 2, 3)),
    ]


def eight(*rules: tuple[Matcher, Answers], said: str = "") -> BeeGfs:
    """A BeeGFS 8, each client of which knows aliases."""
    plain = load_config("beegfs").model_dump(mode="json")
    plain["network"] |= {"subnet": "10.83.0.0/24"}
    for number, node in enumerate(plain["nodes"]):
        node["address"] = f"10.83.0.1{number}"
    plain["storage"]["beegfs"] |= {"generation": "8"}
    answers = [(is_proc, said or data("8.3.1-proc.txt")), *rules, *well()]
    return beegfs({"*": answers}, ClusterConfig.model_validate(plain))


def test_what_clients_of_8_call_by_an_alias_has_its_machines_name() -> None:
    made = eight(*nodes_8())
    [(client, _), *_] = made.clients().values()
    assert client is not None
    assert [(server.kind, server.name) for server in client.servers] == [
        ("metadata", "controller"),
        ("management", "controller"),
        *(("storage", f"node0{n}") for n in (1, 2, 3)),
    ]
    assert not made.faults()
    lost = eight(*nodes_8(), said=data("8.3.1-proc.txt").replace("2]: Online", "2]: Offline"))
    assert "node03: storage target 201 of node02: Offline Good" in lost.faults()


def test_aliases_stay_while_the_management_of_8_is_silent() -> None:
    refused = Result((), 1, stderr="Error: error getting node list from management: connection refused\n")
    assert (
        "node01: has a storage server node_storage_1 that the configuration does not name"
        in eight((ctl("beegfs node list"), refused)).faults()
    )


@pytest.mark.parametrize("text", ["ID TYPE ALIAS\n", '{"id": 1}\n', "[]\n"])
def test_8_that_says_something_else_is_an_error(text: str) -> None:
    with pytest.raises(AiHowError, match=r"^controller: beegfs says .*\n  expected: JSON with id, node, reachability"):
        list(parse_targets_8(text, "storage", {}, "controller"))


# the client


def test_a_client_that_is_not_mounted_has_no_files() -> None:
    assert parse_client("grep: /proc/fs/beegfs/*/config: No such file or directory\n") is None


def test_a_module_for_another_kernel_only() -> None:
    found = parse_module(f"kernel={KERNEL}\nfilename=\nvermagic=\nbuilt=/lib/modules/6.1.0/beegfs.ko\n")
    assert found.fault == f"no BeeGFS module for the running kernel {KERNEL}; there is /lib/modules/6.1.0/beegfs.ko"
    assert not found.live


# ready or not


def test_all_well_is_no_fault() -> None:
    assert beegfs().faults() == ()


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ((is_mount, Result((), 1)), "node02: nothing is mounted at /mnt/beegfs"),
        (
            (is_mount, MOUNTED.replace('"beegfs"', '"ext4"')),
            "node02: /mnt/beegfs is a ext4 file system, expected beegfs",
        ),
        (
            (
                is_mount,
                MOUNTED.replace("rw,", "ro,").replace(",relatime,cfgFile=/etc/beegfs/beegfs-client.conf,_netdev", ""),
            ),
            "node02: /mnt/beegfs is mounted read-only (ro,nosuid)",
        ),
        ((is_mount, KILLED), "node02: the table of mounts could not be read in time"),
        ((is_proc, ""), "node02: no client of BeeGFS at /mnt/beegfs"),
        (
            (is_proc, proc({"node01": "Online / Good", "node02": "Probably-offline / Good"})),
            "node02: storage target 2 of node02: Probably-offline Good",
        ),
        ((is_proc, proc(meta="Online / Bad")), "node02: metadata target 1 of controller: Online Bad"),
    ],
)
def test_a_client_that_is_not_well_is_named(rule: tuple[object, object], fault: str) -> None:
    assert beegfs({"node02": well(rule)}).faults() == (fault,)  # type: ignore[arg-type]  # a matcher and its answer


def test_a_server_that_a_client_misses_and_one_too_many() -> None:
    made = beegfs({"node01": well((is_proc, proc({"node01": "Online / Good", "old": "Online / Good"})))})
    assert made.faults() == (
        "node01: has no storage server node02",
        "node01: has a storage server old that the configuration does not name",
        "node01: sees no storage target of node02",
    )


def test_a_module_of_another_kernel_is_told_as_the_cause() -> None:
    wrong = module(vermagic="6.12.48+deb13-cloud-amd64 SMP")
    made = beegfs({"node01": well((is_mount, Result((), 1)), (is_module, wrong))})
    (fault,) = made.faults()
    assert fault.startswith("node01: nothing is mounted at /mnt/beegfs: /lib/modules/")
    assert fault.endswith(f"was built for kernel 6.12.48+deb13-cloud-amd64, the running one is {KERNEL}")


def test_it_is_of_the_generation_that_is_declared_or_found() -> None:
    assert isinstance(beegfs().tool, Ctl)
    undeclared = beegfs_config(driver="ssh", network=None, storage={"kind": "beegfs", "mount": "/mnt/beegfs"})
    made = beegfs({"controller": [("sh -c", Result((), 1))]}, undeclared)
    assert (made.generation, type(made.tool)) == ("8", BeegfsTool)


def test_another_kind_of_storage_has_no_beegfs() -> None:
    with pytest.raises(ConfigError, match="storage.kind: is 'host-directory'; the service beegfs needs 'beegfs'"):
        BeeGfs(fake_cluster({}, config=load_config("local")))


def test_versions_are_compared_without_what_debian_adds() -> None:
    versions = ("20:7.4.7", "7.4.7-1", "20:8.1.0~rc1-2")
    assert [Package("x", text).release for text in versions] == ["7.4.7", "7.4.7", "8.1.0"]


def test_the_storage_on_beegfs_waits_for_it_and_does_not_hang() -> None:
    rules = [(is_mount, MOUNTED), (ctl("test -w"), "")]
    cluster = fake_cluster(
        {"*": rules, "node02": [(is_mount, MOUNTED), (ctl("test -w"), KILLED)]}, config=beegfs_config()
    )
    storage = Storage(cluster)
    assert storage.needs == ("beegfs",)
    assert storage.faults() == ("node02: /mnt/beegfs cannot be written: the file system does not answer",)
