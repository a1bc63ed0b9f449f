"""The host's control groups: which version it runs, what can be confined, and a group of its own for each node.

A cluster has one group per hierarchy, and a group for each node in it. A node's processes are put there before
systemd-nspawn starts, so that the node's cgroup namespace begins there: what Slurm makes inside lies below, two nodes
never meet, and one folder per hierarchy is to be removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_ai_how.errors import ProvisionError

Mode = Literal["v1", "hybrid", "v2", "none"]

# What confines which capability: version 1 controllers, version 2 controllers. Version 2 has no devices controller;
# Slurm 24.11 attaches an eBPF program instead (cgroup_v2 guide, "eBPF device control").
_CONTROLLERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "cgroup.cpu": (frozenset({"cpuset"}), frozenset({"cpuset", "cpu"})),
    "cgroup.memory": (frozenset({"memory"}), frozenset({"memory"})),
    "cgroup.devices": (frozenset({"devices"}), frozenset()),
}
# What Slurm 24.11 does not start without: proctrack/cgroup of its plug-in for version 1, jobacct_gather/cgroup of that
# for version 2.
_NEEDED: Mapping[int, frozenset[str]] = {1: frozenset({"freezer"}), 2: frozenset({"cpu", "memory"})}


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup hierarchy: where, and its controllers (``name=systemd`` is one, version 2 lists its own)."""

    path: Path
    controllers: frozenset[str]
    version: Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Cgroups:
    """All hierarchies of a host.

    ``handed_on``: the version 2 controllers that systemd-nspawn gives a machine. It takes those that the host's first
    process has (systemd 252 to 257, cg_mask_supported), which are all where that is systemd, at the top of the tree.
    """

    hierarchies: tuple[Hierarchy, ...]
    handed_on: frozenset[str] | None = None

    @property
    def mode(self) -> Mode:
        """``v1``, ``hybrid`` (version 1 controllers, version 2 beside them), ``v2`` or ``none``."""
        versions = {hierarchy.version for hierarchy in self.hierarchies}
        if versions == {1, 2}:
            return "hybrid"
        return "v1" if versions == {1} else "v2" if versions == {2} else "none"

    @property
    def plugin(self) -> str:
        """Slurm's ``CgroupPlugin`` for this host."""
        if self.mode == "none" or self._lacking:
            return "disabled"
        return "cgroup/v2" if self.mode == "v2" else "cgroup/v1"

    @property
    def _controllers(self) -> frozenset[str]:
        used = 2 if self.mode == "v2" else 1
        found = frozenset[str]().union(*(h.controllers for h in self.hierarchies if h.version == used))
        return found if used == 1 or self.handed_on is None else found & self.handed_on

    @property
    def _lacking(self) -> list[str]:
        """The controllers without which Slurm's plug-in does not start."""
        return sorted(_NEEDED[2 if self.mode == "v2" else 1] - self._controllers)

    def absent(self) -> dict[str, str]:
        """The confinement capabilities that this host lacks, and why."""
        if self.plugin == "disabled":
            why = f"no {' and no '.join(self._lacking)} controller"
            if self.mode == "none":
                why = "no cgroup hierarchy is mounted"
            elif self.mode == "v2" and self.handed_on is not None:
                why += " in the control group of its first process, whose controllers systemd-nspawn hands on"
            return dict.fromkeys(_CONTROLLERS, f"this host can't confine jobs: {why}")
        reasons = {}
        for capability, (first, second) in _CONTROLLERS.items():
            missing = sorted((second if self.mode == "v2" else first) - self._controllers)
            if missing:
                reasons[capability] = f"this host's cgroups ({self.mode}) have no controller {', '.join(missing)}"
        return reasons

    def groups(self, name: str) -> tuple[Path, ...]:
        """The folders of the group ``name``, one per hierarchy."""
        return tuple(hierarchy.path / name for hierarchy in self.hierarchies)

    def divide(self, name: str) -> Path | None:
        """On a version 2 host, let the groups in group ``name`` have its controllers, and return that group.

        It can hold no process of its own then (cgroups(7), "no internal processes"). None on other hosts, where
        each hierarchy's group takes the processes themselves. Raises :class:`ProvisionError` naming the group.
        """
        if self.mode != "v2":
            return None
        (hierarchy,) = self.hierarchies
        group = hierarchy.path / name
        try:
            _enable(group, hierarchy)
        except OSError as error:
            raise _refused(group, "can't hand on its controllers", error) from error
        return group

    def make(self, name: str, memory: int = 0) -> None:
        """Make the group ``name`` in each hierarchy; ``memory`` (MiB) limits it, so that RealMemory is real.

        Raises :class:`ProvisionError` naming the group.
        """
        for hierarchy in self.hierarchies:
            group = hierarchy.path / name
            try:
                _make_group(hierarchy, group, memory)
            except OSError as error:
                raise _refused(group, "could not be made", error) from error


def _refused(group: Path, what: str, error: OSError) -> ProvisionError:
    return ProvisionError(
        str(group),
        f"the control group {what} ({error.strerror}: {error.filename})",
        expected="root's own control groups, or a part of the tree that is delegated to us",
        cure="run outside of a container, or in one with a writable cgroup tree",
    )


def _enable(group: Path, hierarchy: Hierarchy) -> None:
    if hierarchy.version == 2 and hierarchy.controllers:
        enabled = " ".join(f"+{controller}" for controller in sorted(hierarchy.controllers))
        (group / "cgroup.subtree_control").write_text(enabled)


def _make_group(hierarchy: Hierarchy, group: Path, memory: int) -> None:
    _enable(group.parent, hierarchy)
    group.mkdir(exist_ok=True)
    if "cpuset" in hierarchy.controllers and hierarchy.version == 1:
        for key in ("cpuset.cpus", "cpuset.mems"):
            (group / key).write_text((group.parent / key).read_text())
    if memory and "memory" in hierarchy.controllers:
        key = "memory.limit_in_bytes" if hierarchy.version == 1 else "memory.max"
        (group / key).write_text(str(memory * 2**20))


# Version 1 controllers (cgroups(7)); a mount's other options are no controllers.
_KNOWN = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "net_cls", "net_prio", "blkio", "perf_event"}
    | {"hugetlb", "pids", "rdma", "misc"}
)


def _named(options: str) -> frozenset[str]:
    return frozenset(option for option in options.split(",") if option.startswith("name="))


def read_cgroups(mounts: Path = Path("/proc/mounts"), first: Path = Path("/proc/1/cgroup")) -> Cgroups:
    """Read a host's hierarchies from its mount table (proc(5)), the first mount of each.

    ``first`` is the first process's own groups (cgroups(7)), of version 2 ``0::/init.scope``.

    ``cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0`` is version 1,
    ``cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0`` version 2 (Linux 6.18).
    """
    found: dict[frozenset[str] | Literal[2], Hierarchy] = {}
    for line in mounts.read_text().splitlines():
        _, at, kind, options, *_ = line.split()
        if kind == "cgroup":
            names = frozenset(options.split(",")) & _KNOWN | _named(options)
            found.setdefault(names, Hierarchy(Path(at), names, 1))
        elif kind == "cgroup2":
            listed = Path(at) / "cgroup.controllers"
            names = frozenset(listed.read_text().split()) if listed.exists() else frozenset()
            found.setdefault(2, Hierarchy(Path(at), names, 2))
    unified = found.get(2)
    return Cgroups(tuple(found.values()), _handed_on(unified.path, first) if unified else None)


def _handed_on(top: Path, first: Path) -> frozenset[str] | None:
    """The controllers of the first process's group; None where that can't be told."""
    groups = first.read_text().splitlines() if first.exists() else []
    for group in (line.removeprefix("0::") for line in groups if line.startswith("0::")):
        listed = top / group.removesuffix("/init.scope").strip("/") / "cgroup.controllers"
        if listed.exists():
            return frozenset(listed.read_text().split())
    return None
