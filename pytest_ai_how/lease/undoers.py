"""Which undoers there are, and what of a cluster can be found without its journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from pytest_ai_how.lease.claims import Claims
from pytest_ai_how.lease.files import Directories, Files, Mounts, mounts_below
from pytest_ai_how.lease.jobs import JOBS
from pytest_ai_how.lease.journal import Entry
from pytest_ai_how.lease.kernel import Cgroups, Interfaces, marked_cgroups, marked_interfaces
from pytest_ai_how.lease.processes import Processes, marked
from pytest_ai_how.lease.scratch import Scratch
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.lease.undo import Undo

#: The kind of entry that stands for whatever was started on this machine through us.
WORK = "work"
#: Gives the undoers for a driver's name and a cluster's state folder.
UndoersFor = Callable[[str, Path], Sequence[Undo]]

# What only a driver knows how to undo: it lies above this layer, and is imported when there is such an entry.
_OF_LIBVIRT = "pytest_ai_how.drivers.libvirt.undo"
_OF_SITES = "pytest_ai_how.drivers.jobs"


class Late:
    """The undoer of ``kind`` that ``undoer(kind)`` in a driver's ``module`` gives."""

    def __init__(self, kind: str, module: str) -> None:
        self.kind = kind
        self._module = module

    @cached_property
    def _undoer(self) -> Undo:
        return cast(Undo, import_module(self._module).undoer(self.kind))

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """As the driver's."""
        self._undoer.undo(data, deadline)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """As the driver's."""
        return self._undoer.remains(data)


def generic_undoers(driver: str, state: Path) -> tuple[Undo, ...]:  # noqa: ARG001  the same for all drivers
    """The undoers of all kinds: claims, processes, mounts, interfaces, control groups, files, what libvirt was told,
    what jobs left on the storage of others.
    """
    return (
        *(Late(kind, _OF_LIBVIRT) for kind in ("domain", "libvirt-network", "daemon")),
        Late(JOBS, _OF_SITES),
        Claims(),
        Processes(),
        Processes(WORK),
        Mounts(state),
        Interfaces("bridge"),
        Interfaces("interface"),
        Cgroups(),
        Directories(state),
        Files(state),
        Scratch(),
    )


def found_by_mark(name: str, state: Path) -> list[Entry]:
    """What of a cluster can be found on this machine by its cookie and state folder, in an order to be made in."""
    mark = cookie(name)
    found = [Entry("cgroup", {"path": path, "cookie": mark}) for path in marked_cgroups(mark)]
    found += [Entry("bridge", {"name": link, "cookie": mark}) for link in marked_interfaces(mark)]
    found += [Entry("mount", {"target": target}) for target in mounts_below(state) if target != str(state)]
    if marked(mark):
        found.append(Entry("process", {"cookie": mark}))
    return found + _found_in_libvirt(name)


def _found_in_libvirt(name: str) -> list[Entry]:
    if find_spec("libvirt") is None:  # then nothing was ever made with it
        return []
    return cast(list[Entry], import_module(_OF_LIBVIRT).found_in_libvirt(name))
