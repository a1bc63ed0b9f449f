"""Undoing what jobs left on the shared storage of a cluster that is not ours: one folder, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.jobs import JOBS, is_jobs_folder
from pytest_ai_how.lease.undo import Undo
from pytest_ai_how.transport.local import LocalTransport
from pytest_ai_how.transport.protocol import Transport
from pytest_ai_how.transport.ssh import SshTransport

_LOOK_SECONDS = 15.0


class Jobs:
    """Undoes ``jobs`` entries: ``folder`` on ``node``, which the jobs of ``user`` filled.

    With ``address`` the node is reached over ssh (``port``, ``login``, ``key``, ``known_hosts``; ``sudo`` is not empty
    where commands become root by it); without, it is this machine.

    Raises :class:`~pytest_ai_how.errors.TransportError` when the node does not answer: the entry stays, and ``reap``
    tries again.
    """

    kind = JOBS

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Remove the folder as the job user, and as who logs in what that one may not remove."""
        with _way(data) as way:
            for user in (data["user"], None):
                if _there(way, data["folder"]):
                    way.execute(("rm", "-rf", "--", data["folder"]), timeout=max(deadline, 1.0), user=user)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The folder, when it is there."""
        with _way(data) as way:
            return [f"{data['node']}: folder {data['folder']}"] if _there(way, data["folder"]) else []


def undoer(kind: str) -> Undo:
    """The undoer of ``kind``; there is one."""
    assert kind == JOBS, kind
    return Jobs()


@contextmanager
def _way(data: Mapping[str, str]) -> Iterator[Transport]:
    """A transport to the machine. Raises LeaseError for a folder of another name."""
    if not is_jobs_folder(data["folder"]):
        raise LeaseError(data["folder"], "not touched: it is no folder of jobs of ours")
    with closing(_transport(data)) as way:
        yield way


def _transport(data: Mapping[str, str]) -> Transport:
    if "address" not in data:
        return LocalTransport(data["node"])
    key, known_hosts, port = Path(data["key"]), Path(data["known_hosts"]), int(data["port"])
    where = (data["node"], data["address"], port, data["login"], key, known_hosts)
    return SshTransport(*where, sudo=bool(data["sudo"]))


def _there(way: Transport, folder: str) -> bool:
    return way.execute(("test", "-e", folder), timeout=_LOOK_SECONDS).ok
