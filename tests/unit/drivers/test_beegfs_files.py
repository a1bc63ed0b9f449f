"""What BeeGFS needs on each machine is rendered from the YAML, for both generations."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.beegfs import storage_targets
from pytest_ai_how.drivers.machines.identity import make_identity
from pytest_ai_how.drivers.machines.render import Confinement, File, Renderer

from .sample import LOCAL, config

# All keys that a daemon of the generation knows; it refuses to start with any other (BeeGFS 7.4.7 and 8.3.1, the
# commented settings in its packages).
BOTH = {"connAuthFile", "connDisableAuthentication", "connUseRDMA", "logLevel", "logType", "sysMgmtdHost"}
SERVER = BOTH | {"storeAllowFirstRunInit", "sysTargetOfflineTimeoutSecs"}
POOLS = {f"tune{kind}{what}" for kind in ("Meta", "Storage") for what in ("DynamicPools",)} | {
    f"tune{kind}{what}{level}Limit"
    for kind in ("Meta", "Storage")
    for what in ("Space", "Inodes")
    for level in ("Low", "Emergency")
}
KNOWN = {
    "beegfs-mgmtd.conf": SERVER - {"connUseRDMA", "sysMgmtdHost"} | POOLS | {"storeMgmtdDirectory"},
    "beegfs-meta.conf": SERVER | {"storeMetaDirectory", "storeClientXAttrs"},
    "beegfs-storage.conf": SERVER | {"storeStorageDirectory", "tuneNumWorkers"},
    "beegfs-client.conf": BOTH
    | {"connCommRetrySecs", "connMessagingTimeouts", "sysUpdateTargetStatesSecs", "sysXAttrsEnabled"}
    | {"tuneUseGlobalFileLocks", "tuneUseGlobalAppendLocks"},
    "beegfs-helperd.conf": {"connAuthFile", "connDisableAuthentication", "logStdFile"},
}


def cluster(generation: str = "7.4", *, authentication: bool = True, **changes: Any) -> ClusterConfig:
    nodes = [dict(node) for node in LOCAL["nodes"]]
    for node in nodes[1:]:
        node["roles"] = ["compute", "storage"]
    beegfs = {"generation": generation, "packages": {"folder": "/debs"}, "authentication": authentication}
    storage = {"kind": "beegfs", "mount": "/mnt/beegfs", "beegfs": beegfs}
    return config(**({"driver": "libvirt", "nodes": nodes, "storage": storage} | changes))


def rendered(cluster: ClusterConfig) -> dict[str, dict[str, File]]:
    renderer = Renderer(cluster, make_identity(node.name for node in cluster.nodes), Confinement("cgroup/v2", {}))
    return {node.name: {file.path: file for file in renderer.files(node)} for node in cluster.nodes}


def settings(file: File) -> dict[str, str]:
    lines = [line.partition("=") for line in file.content.decode().splitlines() if line and not line.startswith("#")]
    assert len({name for name, *_ in lines}) == len(lines), f"{file.path}: a key twice"
    return {name.strip(): value.strip() for name, _, value in lines}


def test_a_cluster_without_beegfs_has_nothing_of_it() -> None:
    for files in rendered(config()).values():
        assert not [path for path in files if "beegfs" in path or path == "/etc/ai-how/shared.conf"]
        assert "beegfs" not in files["/etc/fstab"].content.decode()


@pytest.mark.parametrize(
    ("generation", "controller", "storage"),
    [
        (
            "7.4",
            {"conn.auth", "beegfs-client.conf", "beegfs-helperd.conf", "beegfs-mgmtd.conf", "beegfs-meta.conf"},
            {"conn.auth", "beegfs-client.conf", "beegfs-helperd.conf", "beegfs-storage.conf"},
        ),
        (
            "8",
            {"conn.auth", "beegfs-client.conf", "beegfs-mgmtd.toml", "beegfs-meta.conf"},
            {"conn.auth", "beegfs-client.conf", "beegfs-storage.conf"},
        ),
    ],
)
def test_each_machine_has_the_settings_of_what_it_serves(
    generation: str, controller: set[str], storage: set[str]
) -> None:
    found = {
        node: {path.removeprefix("/etc/beegfs/") for path in files if path.startswith("/etc/beegfs/")}
        for node, files in rendered(cluster(generation)).items()
    }
    assert found == {"controller": controller, "node01": storage, "node02": storage}


@pytest.mark.parametrize("generation", ["7.4", "8"])
@pytest.mark.parametrize("authentication", [True, False])
def test_daemons_get_only_keys_that_they_know(generation: str, authentication: bool) -> None:
    seen = set()
    for files in rendered(cluster(generation, authentication=authentication)).values():
        for path, file in files.items():
            name = path.removeprefix("/etc/beegfs/")
            if name in KNOWN:
                seen.add(name)
                found = settings(file)
                assert not found.keys() - KNOWN[name], path
                assert found["connDisableAuthentication"] == ("false" if authentication else "true")
                assert found.get("sysMgmtdHost", "10.99.0.10") == "10.99.0.10"
                assert "helperd" not in file.content.decode() or generation == "7.4"
    assert seen == set(KNOWN) - (set() if generation == "7.4" else {"beegfs-mgmtd.conf", "beegfs-helperd.conf"})


def test_the_key_is_one_for_all_and_for_root_only() -> None:
    keys = [files["/etc/beegfs/conn.auth"] for files in rendered(cluster()).values()]
    assert {(key.mode, key.owner, len(key.content)) for key in keys} == {(0o400, "root", 128)}
    assert len({key.content for key in keys}) == 1
    again = rendered(cluster())["controller"]["/etc/beegfs/conn.auth"]
    assert again.content != keys[0].content, "another cluster has another key"


def test_without_authentication_there_is_no_key() -> None:
    for generation in ("7.4", "8"):
        for files in rendered(cluster(generation, authentication=False)).values():
            assert "/etc/beegfs/conn.auth" not in files


def test_every_storage_server_has_numbers_of_its_own() -> None:
    assert {name: (found.server, found.target) for name, found in storage_targets(cluster()).items()} == {
        "node01": (1, 101),
        "node02": (2, 201),
    }
    files = rendered(cluster())
    own = {node: settings(files[node]["/etc/ai-how/beegfs"]) for node in files}
    assert {node: (found["NODE"], found["SERVER"], found["TARGET"]) for node, found in own.items()} == {
        "controller": ("controller", "1", "0"),
        "node01": ("node01", "1", "101"),
        "node02": ("node02", "2", "201"),
    }
    assert {(found["METADATA"], found["STORAGE"], found["MANAGEMENT"]) for found in own.values()} == {
        ("1", "2", "10.99.0.10")
    }


def test_fstab_mounts_over_the_network_when_the_targets_serve() -> None:
    for files in rendered(cluster()).values():
        lines = [line for line in files["/etc/fstab"].content.decode().splitlines() if not line.startswith("#")]
        source, place, kind, options, dump, check = lines[0].split()
        assert (source, place, kind, dump, check, len(lines)) == ("beegfs_nodev", "/mnt/beegfs", "beegfs", "0", "0", 1)
        assert {"_netdev", "nosuid", "cfgFile=/etc/beegfs/beegfs-client.conf"} <= set(options.split(","))
        assert "x-systemd.requires=ai-how-beegfs.service" in options.split(",")


def test_the_controller_makes_the_folders_of_the_yaml() -> None:
    files = rendered(cluster(user="alice"))
    assert "/etc/ai-how/shared.conf" not in files["node01"]
    lines = files["controller"]["/etc/ai-how/shared.conf"].content.decode().splitlines()
    assert "d /mnt/beegfs 0755 root root -" in lines
    assert "d /mnt/beegfs/jobs 1777 root root -" in lines
    assert "d /mnt/beegfs/models 0775 root alice -" in lines
    assert "d /mnt/beegfs/containers/.registry 0775 root slurm -" in lines
    assert b"catalog: .registry/catalog.yaml" in files["controller"]["/etc/ai-how/registry.yaml"].content


def test_a_registry_elsewhere_is_not_made_on_beegfs() -> None:
    elsewhere = cluster(containers={"registry": "/opt/registry"})
    lines = rendered(elsewhere)["controller"]["/etc/ai-how/shared.conf"].content.decode()
    assert "/opt/registry" not in lines
    assert "/mnt/beegfs/datasets" in lines


def test_the_management_server_of_generation_8_has_its_toml() -> None:
    found = tomllib.loads(rendered(cluster("8"))["controller"]["/etc/beegfs/beegfs-mgmtd.toml"].content.decode())
    assert (found["db-file"], found["auth-file"]) == ("/data/beegfs/mgmtd/mgmtd.sqlite", "/etc/beegfs/conn.auth")
    assert set(found["cap-pool-storage-limits"]) == {"inodes-low", "inodes-emergency", "space-low", "space-emergency"}
    off = rendered(cluster("8", authentication=False))["controller"]["/etc/beegfs/beegfs-mgmtd.toml"].content.decode()
    assert tomllib.loads(off)["auth-disable"] is True


def test_the_shipped_cluster_is_what_was_agreed() -> None:
    shipped = load_config("beegfs", environ={"BEEGFS_PACKAGES": "/debs"})
    assert [(node.name, node.roles, node.memory) for node in shipped.nodes] == [
        ("controller", ("controller",), 1536),
        *((f"node0{number}", ("compute", "storage"), 1024) for number in (1, 2, 3)),
    ]
    assert (shipped.driver, shipped.storage.mount) == ("libvirt", "/mnt/beegfs")
    beegfs = shipped.storage.beegfs
    assert beegfs is not None
    assert beegfs.packages is not None
    assert (beegfs.generation, beegfs.authentication, beegfs.packages.folder) == ("7.4", True, "/debs")
    assert sorted(found.target for found in storage_targets(shipped).values()) == [101, 201, 301]


def test_the_file_system_is_unmounted_before_the_servers_of_its_machine_end() -> None:
    [line] = [
        one for one in rendered(cluster())["node01"]["/etc/fstab"].content.decode().splitlines() if "beegfs" in one
    ]
    options = line.split()[3].split(",")
    for server in ("helperd", "mgmtd", "meta", "storage"):
        assert f"x-systemd.after=beegfs-{server}.service" in options


def test_small_disks_are_not_low_on_space_from_the_start() -> None:
    found = settings(rendered(cluster())["controller"]["/etc/beegfs/beegfs-mgmtd.conf"])
    for kind in ("Meta", "Storage"):
        assert (found[f"tune{kind}SpaceLowLimit"], found[f"tune{kind}InodesLowLimit"]) == ("512M", "20K")
        assert found[f"tune{kind}DynamicPools"] == "false"


@pytest.mark.parametrize("generation", ["7.4", "8"])
def test_a_server_that_is_gone_does_not_hold_a_client_for_minutes(generation: str) -> None:
    found = settings(rendered(cluster(generation))["node01"]["/etc/beegfs/beegfs-client.conf"])
    assert (found["connCommRetrySecs"], found["connMessagingTimeouts"]) == ("30", "60000,60000,30000")
