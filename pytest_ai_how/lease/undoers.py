"""Which undoers there are, and what of a cluster can be found without its journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_ai_how.lease.claims import Claims
from pytest_ai_how.lease.files import Directories, Files, Mounts, mounts_below
from pytest_ai_how.lease.journal import Entry
from pytest_ai_how.lease.kernel import Cgroups, Interfaces, marked_cgroups, marked_interfaces
from pytest_ai_how.lease.processes import Processes, marked
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.lease.undo import Undo

#: Gives the undoers for a driver's name and a cluster's state folder.
UndoersFor = Callable[[str, Path], Sequence[Undo]]


def generic_undoers(driver: str, state: Path) -> tuple[Undo, ...]:  # noqa: ARG001  the same for all drivers
    """The undoers of all kinds: claims, processes, mounts, interfaces, control groups, folders, files."""
    return (
        Claims(),
        Processes(),
        Mounts(state),
        Interfaces("bridge"),
        Interfaces("interface"),
        Cgroups(),
        Directories(state),
        Files(state),
    )


def found_by_mark(name: str, state: Path) -> list[Entry]:
    """What of a cluster can be found on this machine by its cookie and state folder, in an order to be made in."""
    mark = cookie(name)
    found = [Entry("cgroup", {"path": path, "cookie": mark}) for path in marked_cgroups(mark)]
    found += [Entry("bridge", {"name": link, "cookie": mark}) for link in marked_interfaces(mark)]
    found += [Entry("mount", {"target": target}) for target in mounts_below(state) if target != str(state)]
    if marked(mark):
        found.append(Entry("process", {"cookie": mark}))
    return found
