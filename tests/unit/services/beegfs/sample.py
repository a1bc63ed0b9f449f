"""A cluster of pretended machines with BeeGFS 7.4: what its clients and its tools say when all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.services.beegfs import BeeGfs
from pytest_ai_how.transport.fake import Answers, Matcher
from tests.fakes import fake_cluster

DATA = Path(__file__).parents[3] / "data" / "beegfs"
Rules = Sequence[tuple[Matcher, Answers]]
MOUNT = "/mnt/beegfs"
MOUNTED = (
    '{"filesystems": [{"target": "/mnt/beegfs", "source": "beegfs_nodev", "fstype": "beegfs", '
    '"options": "rw,nosuid,relatime,cfgFile=/etc/beegfs/beegfs-client.conf,_netdev"}]}'
)
KERNEL = "6.12.57+deb13-cloud-amd64"
MODULE = {
    "kernel": KERNEL,
    "filename": f"/lib/modules/{KERNEL}/updates/dkms/beegfs.ko.xz",
    "vermagic": f"{KERNEL} SMP preempt mod_unload modversions",
    "srcversion": "5E0D4F0",
    "version": "7.4.7",
    "state": "live",
    "loaded": "5E0D4F0",
    "built": f"/lib/modules/{KERNEL}/updates/dkms/beegfs.ko.xz",
}


def beegfs_config(**changes: object) -> ClusterConfig:
    """``configs/local.yaml`` with BeeGFS 7.4, a storage target on each compute node."""
    plain = load_config("local").model_dump(mode="json")
    for node in plain["nodes"][1:]:
        node["roles"] = ["compute", "storage"]
    section = {"generation": "7.4", "packages": {"folder": "/packages"}}
    plain |= {"driver": "libvirt", "storage": {"kind": "beegfs", "mount": MOUNT, "beegfs": section}}
    return ClusterConfig.model_validate(plain | changes)


def proc(
    states: Mapping[str, str] | None = None, *, meta: str = "Online / Good", settings: Mapping[str, str] | None = None
) -> str:
    """The files of a client module that sees these storage servers in these states (default: both well)."""
    states = {"node01": "Online / Good", "node02": "Online / Good"} if states is None else states
    lines = ["mgmt_nodes:controller [ID: 1]", "mgmt_nodes:   Connections: TCP: 1 (10.78.0.10:8008); "]
    lines += ["meta_nodes:controller [ID: 1]", "meta_nodes:   Root: <yes>", "meta_nodes:   Connections: <none>"]
    lines += [f"meta_target_state:[Target ID: 1] @ beegfs-meta controller [ID: 1]: {meta} "]
    for number, (name, state) in enumerate(states.items(), 1):
        lines += [
            f"storage_nodes:{name} [ID: {number}]",
            f"storage_nodes:   Connections: TCP: 2 (10.78.0.1{number}:8003); ",
        ]
        lines += [f"storage_target_state:[Target ID: {number}] @ beegfs-storage {name} [ID: {number}]: {state} "]
    wanted = {"connDisableAuthentication": "false", "connAuthFile": "/etc/beegfs/conn.auth", "sysXAttrsEnabled": "1"}
    lines += [f"config:{key} = {value}" for key, value in (wanted | dict(settings or {})).items()]
    return "".join(f"/proc/fs/beegfs/5D2-68A-client/{line}\n" for line in lines)


def module(**changes: str) -> str:
    """What a machine says of the client's kernel module."""
    return "".join(f"{key}={value}\n" for key, value in (MODULE | changes).items())


def is_proc(argv: tuple[str, ...]) -> bool:
    """The reading of the module's files."""
    return "/proc/fs/beegfs" in argv[-1]


def is_module(argv: tuple[str, ...]) -> bool:
    """The reading of the module's facts."""
    return "modinfo -F vermagic" in argv[-1]


def is_mount(argv: tuple[str, ...]) -> bool:
    """The look at what is mounted."""
    return "findmnt" in argv


def well(*more: tuple[Matcher, Answers]) -> Rules:
    """What a machine answers on which all is well; ``more`` comes first."""
    return [*more, (is_proc, proc()), (is_module, module()), (is_mount, MOUNTED)]


def ctl(words: str) -> Matcher:
    """A command of the tools, without the bound around it."""

    def fits(argv: tuple[str, ...]) -> bool:
        after = argv.index("beegfs") if "beegfs" in argv else 3
        return " ".join(argv[after:]).startswith(words)

    fits.__name__ = words
    return fits


def beegfs(scripts: Mapping[str, Rules] | None = None, config: ClusterConfig | None = None) -> BeeGfs:
    """A BeeGFS on pretended machines: ``scripts`` by node name, '*' or a healthy machine for the others."""
    cluster = fake_cluster({"*": well(), **(scripts or {})}, config=config or beegfs_config())
    return BeeGfs(cluster)
