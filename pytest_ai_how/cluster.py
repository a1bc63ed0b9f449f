"""The machines of one configuration, and running something on many of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, overload

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result

T = TypeVar("T")

#: Threads that one fan-out uses at most: enough for a rack at once, few enough for two cores.
WORKERS = 32


class Nodes(Sequence[Node]):
    """Some machines, in the order of the file. Never empty: what is claimed of no machine is claimed of nothing."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = tuple(nodes)
        if not self._nodes:
            raise AiHowError("cluster", "an empty set of nodes", expected="at least one node")

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> Nodes: ...
    def __getitem__(self, index: int | slice) -> Node | Nodes:
        """Return one machine, or several as :class:`Nodes`."""
        return Nodes(self._nodes[index]) if isinstance(index, slice) else self._nodes[index]

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def __repr__(self) -> str:
        return f"<Nodes {', '.join(self.names)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The machines' names."""
        return tuple(node.name for node in self._nodes)

    def run(self, *argv: str, check: bool = True, timeout: float = 30.0, user: str | None = None) -> dict[str, Result]:
        """Run one command on all machines at once and return the results by name, in the order of the file.

        Raises an :class:`ExceptionGroup` that names the machines on which it failed, as :meth:`map` does.
        """
        return self.map(lambda node: node.run(*argv, check=check, timeout=timeout, user=user))

    def map(self, function: Callable[[Node], T]) -> dict[str, T]:
        """Call ``function`` with each machine, in parallel, and return what it returned by name.

        All machines are tried. Raises an :class:`ExceptionGroup` with the error of each machine that failed; each
        error begins with, or has as a note, its machine's name.
        """
        found: dict[str, T] = {}
        failed: dict[str, Exception] = {}
        pool = ThreadPoolExecutor(min(WORKERS, len(self._nodes)), thread_name_prefix="fan-out")
        try:
            futures = {node.name: pool.submit(function, node) for node in self._nodes}
            for name, future in futures.items():
                try:
                    found[name] = future.result()
                except Exception as error:  # noqa: BLE001  each is raised again below, with its machine's name
                    failed[name] = _named(name, error)
        finally:
            # An interrupt must not wait for commands that still run.
            pool.shutdown(wait=False, cancel_futures=True)
        if failed:
            raise _group(failed, len(self._nodes))
        return found


class Cluster:
    """The machines of one configuration: ``nodes``, and by name also those that don't start by themselves."""

    def __init__(self, config: ClusterConfig, nodes: Iterable[Node]) -> None:
        self.config = config
        self.name: str = config.name
        self._known = tuple(nodes)
        self.nodes = tuple(node for node in self._known if node.config.auto_start)

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {', '.join(node.name for node in self.nodes)}>"

    def __getitem__(self, name: str) -> Node:
        """Return the machine called ``name``. Raises :class:`~pytest_ai_how.errors.AiHowError` naming the known."""
        for node in self._known:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self._known)
        raise AiHowError(self.name, f"no node is called {name!r}", expected=f"one of {known}")

    @property
    def pace(self) -> float:
        """That of its slowest machine; see :class:`~pytest_ai_how.node.Node`."""
        return max((node.pace for node in self._known), default=1.0)

    @property
    def controller(self) -> Node:
        """The machine of slurmctld."""
        return self.on("controller")[0]

    @property
    def all(self) -> Nodes:
        """All machines."""
        return Nodes(self.nodes)

    def on(self, role: str) -> Nodes:
        """The machines with ``role``. Raises :class:`~pytest_ai_how.errors.AiHowError` when there is none."""
        having = [node for node in self.nodes if role in node.roles]
        if not having:
            roles = ", ".join(sorted({role for node in self.nodes for role in node.roles}))
            raise AiHowError(
                self.name,
                f"no node has the role {role!r}",
                expected=f"one of the roles that nodes have: {roles}",
                cure=f"give a node the role {role!r} in the cluster's YAML",
            )
        return Nodes(having)

    def close(self) -> None:
        """Drop the kept connections of all machines."""
        for node in self._known:
            node.transport.close()


def _named(name: str, error: Exception) -> Exception:
    if not str(error).startswith(f"{name}:"):
        error.add_note(f"on {name}")
    return error


def _group(failed: dict[str, Exception], total: int) -> ExceptionGroup[Exception]:
    """Build the group; the first line of its message is all that many reports show."""
    first = next(iter(failed.values()))
    lines = str(first).removeprefix(f"{next(iter(failed))}: ").splitlines() or [type(first).__name__]
    names = ", ".join(failed)
    return ExceptionGroup(f"{names}: {lines[0]} ({len(failed)} of {total} nodes failed)", list(failed.values()))
