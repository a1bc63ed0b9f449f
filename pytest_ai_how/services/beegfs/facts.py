"""What can be known of a BeeGFS, in words that hold for both generations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pytest_ai_how.shell import Result

#: The kinds of servers; only metadata and storage servers have targets.
Kind = Literal["management", "metadata", "storage"]
KINDS: tuple[Kind, ...] = ("management", "metadata", "storage")
#: What a target's states are when all is well, in the words that both generations use.
ONLINE, GOOD = "Online", "Good"


@dataclass(frozen=True, slots=True)
class Server:
    """A server by its name and its number: in 7.4 the string ID under which it registered, in 8 its machine's name.

    What registers with 8 gets an alias (``node_storage_1``), which stands for the name where no machine is known.
    """

    kind: Kind
    name: str
    id: int


@dataclass(frozen=True, slots=True)
class Target:
    """A target of a metadata or storage server. Sizes are in bytes, None where they were not asked for.

    ``reachability`` is Online, Probably-offline or Offline; ``consistency`` Good, Needs-resync or Bad; ``pool`` is
    the capacity pool that it is in: normal, low or emergency, '' when not asked for.
    """

    kind: Kind
    id: int
    server: Server
    reachability: str
    consistency: str
    pool: str = ""
    total: int | None = None
    free: int | None = None
    free_inodes: int | None = None

    @property
    def well(self) -> bool:
        """Whether it is online and its data is good."""
        return (self.reachability, self.consistency) == (ONLINE, GOOD)

    def __str__(self) -> str:
        return f"{self.kind} target {self.id} of {self.server.name}: {self.reachability} {self.consistency}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder as the metadata server knows it.

    ``id`` names its chunk files on the servers, ``chunk`` is the chunk size in bytes, ``targets`` are the numbers of
    the storage targets that its data is striped over; a folder has none.
    """

    type: str
    id: str
    pattern: str
    chunk: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Whether a server answers, and where (``10.0.0.1:8003 (protocol: TCP)``; '' when it does not)."""

    server: Server
    at: str

    @property
    def reachable(self) -> bool:
        """Whether it answers."""
        return bool(self.at)


@dataclass(frozen=True, slots=True)
class Package:
    """An installed Debian package; ``release`` is upstream's part of its version: ``7.4.7`` of ``20:7.4.7-1``."""

    name: str
    version: str

    @property
    def release(self) -> str:
        """The version without Debian's epoch and revision."""
        return self.version.rpartition(":")[2].partition("-")[0].partition("~")[0]


class Tool(Protocol):
    """The command line tool of one generation, run on one machine.

    Each method is bounded by SIGKILL on the machine and raises :class:`~pytest_ai_how.errors.CommandError` when the
    tool fails, :class:`~pytest_ai_how.errors.AiHowError` naming the machine when its answer makes no sense.
    """

    def targets(self, kind: Kind, *, space: bool = False) -> tuple[tuple[Target, ...], Result]:
        """The targets of ``kind`` as the management daemon sees them; ``space`` asks each server, so it may wait."""

    def servers(self, kind: Kind) -> tuple[tuple[Server, ...], Result]:
        """The servers of ``kind`` that are registered."""

    def entry(self, path: str) -> tuple[Entry, Result]:
        """What the metadata server knows of a path below the mount."""

    def routes(self) -> tuple[tuple[Route, ...], Result]:
        """Whether each server answers the machine itself."""
