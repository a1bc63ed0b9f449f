"""What a cluster can have or lack: the words that checks require and profiles declare absent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ai_how.config.models import ClusterConfig

# The one list. Some can only be told by looking (cgroup.*, storage.raw, storage.baseline); all can be declared absent.
CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "slurm": "Slurm schedules the compute nodes",
        "accounting": "slurmdbd records jobs and sacct answers",
        "diagnosis": "compute nodes write down why each job ended",
        "pytorch": "PyTorch is at hand: in a container image, or in the interpreter that the YAML names",
        "oumi": "Oumi is at hand: in a container image, or beside the interpreter that the YAML names",
        "gpu": "GPUs of any kind, simulated ones too, that Slurm can allocate",
        "gpu.real": "GPUs that compute",
        "gpu.pair": "two GPUs that one job can hold, both on one node or one on each of two",
        "gpu.passthrough": "GPUs of this machine that virtual machines are given whole",
        "mpi": "MPI programs in Python (mpi4py) run on the nodes themselves",
        "cpus.native": "the machines' CPUs are those of hardware, none that a program emulates",
        "cpus.several": "a compute node has more than one CPU, so that a job can be kept off some",
        "cgroup.cpu": "jobs are confined to their CPUs",
        "cgroup.memory": "jobs are confined to their memory",
        "cgroup.devices": "jobs are confined to their devices",
        "apptainer": "containers run with Apptainer",
        "shared-storage": "a file system that all nodes see",
        "storage.raw": "the bare medium below the shared file system can be measured",
        "storage.tree": "the shared file system has its tree of folders: datasets, models, jobs …",
        "storage.baseline": "figures of earlier runs on this host are kept",
        "beegfs": "the shared file system is BeeGFS",
        "monitoring": "Prometheus and Alertmanager watch the machines",
        "grafana": "Grafana shows what Prometheus knows",
        "dcgm": "DCGM tells Prometheus about GPUs",
        "virtiofs": "virtual machines mount directories of this machine by virtiofs",
        "kernel.own": "each machine runs a kernel of its own",
        "hardware.own": "each machine sees CPUs, memory and a disk of its own, and no more",
        "hypervisor": "libvirt runs the machines, and tells how",
        "compute.several": "there are two compute nodes or more, which share jobs",
        "machines.several": "there are two machines or more, which work together",
        "network": "the machines are reached over a network, by ssh",
        "network.own": "the machines have a network of their own, which this host makes",
        "network.throughput": "iperf3 is on the machines",
        "root": "we may read what only root may",
        "systemd": "systemd runs the machines",
        "dkms": "DKMS builds modules for the machines' kernels",
        "os.declared": "the machines are to run the Debian that images are made of",
        "ports.declared": "it is declared what may listen on the machines",
        "sudo": "administrators log in as somebody else than root",
        "outside": "it is declared what the machines reach beyond their own network",
        "cloud": "there are services outside that the machines reach, or are kept from",
        "packages.claimed": "it is claimed which Debian packages the machines have",
        "owned": "we made the machines, so checks may break them",
        "image.mpi": "the container image with MPI is provided",
        "image.pytorch": "the container image with PyTorch is provided",
        "image.oumi": "the container image with Oumi is provided",
        "scale.full": "what is trained is as large as the plan says, so that the speed of GPUs can be judged",
    }
)


def declared_absent(config: ClusterConfig) -> dict[str, str]:
    """Each capability that the configuration alone says is absent, with the reason, in the order of the list."""
    reasons = _derived(config)
    reasons.update(dict.fromkeys(config.absent, "declared absent"))
    return {name: f"{reasons[name]} in cluster '{config.name}'" for name in CAPABILITIES if name in reasons}


def capabilities(config: ClusterConfig) -> frozenset[str]:
    """The capabilities that the configuration does not rule out; a look at the machines may rule out more."""
    return frozenset(CAPABILITIES) - declared_absent(config).keys()


def _derived(config: ClusterConfig) -> dict[str, str]:
    kinds = {node.gpus.kind for node in config.nodes if node.gpus}
    count = sum(node.gpus.count for node in config.on("compute") if node.gpus)
    storage = config.storage.kind
    slurm = config.slurm
    ours, claimed = config.is_ours, config.claims.packages
    host, driver = config.driver == "host", f"driver is {config.driver}"
    no_slurm = "launcher is direct" if config.launcher == "direct" else "no slurm section"
    told = config.nodes[0].model_fields_set >= {"cpus", "memory"}
    monitoring = config.monitoring
    runtime, images = config.containers.runtime != "none", config.containers.served
    mounts = storage == "host-directory" or any(node.virtiofs for node in config.nodes)
    virtiofs = config.driver in ("libvirt", "auto") and mounts

    def framework(name: str) -> tuple[bool, str]:
        return (name in images, f"no image '{name}'") if runtime else (config.python is not None, "no python")

    rules = {
        "slurm": (slurm is not None, no_slurm),
        "accounting": (slurm is not None and slurm.accounting, "slurm without accounting"),
        "diagnosis": (slurm is not None, no_slurm),
        "pytorch": framework("pytorch"),
        "oumi": framework("oumi"),
        "gpu": (bool(kinds) and slurm is not None, "no gpus that slurm could allocate"),
        "gpu.real": (bool(kinds - {"simulated"}), "gpus are simulated" if kinds else "no gpus"),
        "gpu.pair": (
            count > 1 and (slurm is not None or config.launcher == "direct"),
            f"{count or 'no'} gpus on compute nodes that one job could hold",
        ),
        "mpi": (slurm is not None, no_slurm),
        "gpu.passthrough": ("passthrough" in kinds, "no gpus of kind passthrough"),
        "cpus.several": (
            any(node.cpus > 1 for node in config.on("compute")),
            "no compute node has more than one CPU",
        ),
        "cgroup.cpu": (slurm is not None, no_slurm),
        "cgroup.memory": (slurm is not None, no_slurm),
        "cgroup.devices": (slurm is not None, no_slurm),
        "apptainer": (runtime, "containers.runtime is none"),
        "shared-storage": (storage != "none", "storage.kind is none"),
        "storage.raw": (storage != "none", "storage.kind is none"),
        "storage.baseline": (storage != "none", "storage.kind is none"),
        "storage.tree": (storage not in ("none", "scratch"), f"storage.kind is {storage}"),
        "beegfs": (storage == "beegfs", f"storage.kind is {storage}"),
        "monitoring": (monitoring.kind != "none", "monitoring.kind is none"),
        "grafana": (monitoring.grafana is not None, "no monitoring.grafana"),
        "dcgm": (monitoring.dcgm is not None, "no monitoring.dcgm"),
        "virtiofs": (virtiofs, f"{driver}, storage.kind is {storage}"),
        "hardware.own": (not host or told, "no cpus and memory are written for its node"),
        "hypervisor": (config.driver in ("libvirt", "auto"), driver),
        "compute.several": (len(config.on("compute")) > 1, "fewer than two compute nodes"),
        "machines.several": (len(config.nodes) > 1, "one machine"),
        "network": (not host, driver),
        "network.own": (ours and config.network is not None, "no network" if ours else driver),
        "network.throughput": (ours or "iperf3" in claimed, "iperf3 is not among claims.packages"),
        "os.declared": (not host, driver),
        "ports.declared": (not host or bool(config.claims.ports), "no claims.ports"),
        "sudo": (not host and (ours or config.ssh.user != "root"), driver if host else "ssh.user is root"),
        "outside": (ours or config.outside is not None, "no section outside"),
        "cloud": (config.outside is not None and bool(config.outside.peers), "no outside.peers"),
        "packages.claimed": (ours or bool(claimed), "no claims.packages"),
        "owned": (ours, driver),
        "image.mpi": (runtime and "mpi" in images, "no image 'mpi'"),
        "image.pytorch": (runtime and "pytorch" in images, "no image 'pytorch'"),
        "image.oumi": (runtime and "oumi" in images, "no image 'oumi'"),
    }
    return {name: reason for name, (present, reason) in rules.items() if not present}
