"""What is read of machines: all of it in one round trip for each machine, once, however many checks judge it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pytest_ai_how.cluster import Nodes
from pytest_ai_how.errors import CommandTimeout, FactError, TransportError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result, quote

T = TypeVar("T")

#: Seconds that one command may take on its machine before it is killed there.
WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """One thing that can be read of a machine: a command that changes nothing, and how its output is understood.

    ``parse`` gets the standard output without newlines at its end; a :class:`ValueError`, :class:`LookupError` of it
    becomes a :class:`~pytest_ai_how.errors.FactError`. ``statuses`` are the exit statuses with which the output counts.
    ``after`` names the service that the test which asks has made ready: without it, the command says nothing of use.
    """

    name: str
    argv: tuple[str, ...]
    parse: Callable[[str], T]
    statuses: frozenset[int] = frozenset({0})
    after: str = ""

    def of(self, result: Result) -> T:
        """What a result says. Raises :class:`~pytest_ai_how.errors.FactError` where it says nothing."""
        if result.returncode not in self.statuses:
            said = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise FactError(result.node, f"{self.name} is not known: `{result.command}` exited with "
                            f"{result.returncode}: {said}")  # fmt: skip
        try:
            return self.parse(result.stdout)
        except (ValueError, LookupError) as error:
            seen = result.stdout.strip().splitlines() or ["nothing"]
            raise FactError(
                result.node, f"{self.name} is not known: `{result.command}` said {seen[0][:120]!r} ({error})"
            ) from error


#: What commands said, by machine and argument vector.
Read = dict[str, dict[tuple[str, ...], Result]]


class Shelf(Protocol):
    """Where what was read is kept for all who use it."""

    def open(self) -> AbstractContextManager[Read]:
        """What was read so far, to be added to or cleared; nobody else has it meanwhile."""


class Memory:
    """The shelf of one process. Threads may share it."""

    def __init__(self, read: Read | None = None) -> None:
        self._read: Read = read or {}
        self._lock = threading.Lock()

    @contextmanager
    def open(self) -> Iterator[Read]:
        """See :class:`Shelf`."""
        with self._lock:
            yield self._read


class Readings:
    """What was read so far. Threads may share it.

    ``batch`` is read together, with the first of it that is asked for; what is read after a service, with the first
    that is read after the same. Facts of the same command are read by one.

    >>> kernel = Fact("the kernel's release", ("uname", "-r"), str)
    >>> told = Readings.told({"node01": {kernel: "6.12.48"}, "node02": {kernel: Result((), 127, stderr="not found")}})
    >>> kernel.of(told.results(kernel)["node01"])
    '6.12.48'
    """

    def __init__(self, nodes: Iterable[Node], batch: Iterable[Fact[Any]] = (), shelf: Shelf | None = None) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._batch = {fact.argv: fact for fact in batch}
        self._shelf: Shelf = shelf or Memory()

    @classmethod
    def told(cls, answers: Mapping[str, Mapping[Fact[Any], str | Result]]) -> Readings:
        """Readings of machines that do not exist, for the tests of a check: by machine and fact, output or result."""
        read = {
            node: {
                fact.argv: Result(fact.argv, said.returncode, said.stdout, said.stderr, node=node)
                if isinstance(said, Result)
                else Result(fact.argv, 0, said, node=node)
                for fact, said in facts.items()
            }
            for node, facts in answers.items()
        }
        return cls((), (), Memory(read))

    def results(self, fact: Fact[Any], names: Iterable[str] | None = None) -> dict[str, Result]:
        """What the command of a fact said, by machine (default: all of them). What is not known yet is read now.

        Raises an :class:`ExceptionGroup` that names the machines that could not be asked.
        """
        with self._shelf.open() as known:
            wanted = tuple(names) if names is not None else tuple(self._nodes or known)
            unknown = [self._nodes[name] for name in wanted if fact.argv not in known.get(name, {})]
            if unknown:
                batch = tuple(one for one in self._batch.values() if one.after == fact.after)
                facts = batch if fact.argv in self._batch else (fact,)

                def ask(node: Node) -> None:  # what others said is kept, when one of them can't be asked
                    found = read(node, facts)
                    known.setdefault(node.name, {}).update({one.argv: result for one, result in found.items()})

                Nodes(unknown).map(ask)
            return {name: known[name][fact.argv] for name in wanted}

    def forget(self) -> None:
        """Read anew from now on, whoever shares the shelf: something was broken, or repaired."""
        with self._shelf.open() as known:
            known.clear()


def read(node: Node, facts: Iterable[Fact[Any]]) -> dict[Fact[Any], Result]:
    """Run the commands of ``facts`` on a machine in one round trip, one after the other.

    Raises :class:`~pytest_ai_how.errors.TransportError`, and :class:`~pytest_ai_how.errors.CommandTimeout` when they
    don't end; a command that fails, is not there or is killed after :data:`WITHIN` seconds is a result like others.
    """
    wanted = tuple(facts)
    mark = secrets.token_hex(16)
    try:
        told = node.run("sh", "-s", input=script(wanted, mark), timeout=WITHIN + len(wanted))
    except CommandTimeout:  # one of them hangs, or the machine is slow: each gets a guard, which takes as long again
        told = node.run("sh", "-s", input=script(wanted, mark, guarded=True), timeout=10.0 + WITHIN * len(wanted))
    found = dict(zip(wanted, _results(told, wanted, mark), strict=False))
    if len(found) < len(wanted):
        missing = wanted[len(found)]
        raise TransportError(node.name, f"the answer ends before {missing.name}: `{quote(missing.argv)}` said nothing")
    return found


def script(facts: Iterable[Fact[Any]], mark: str, *, guarded: bool = False) -> str:
    """The program for a machine's shell: of each fact its errors, a line with ``mark`` and status, and its output.

    Commands are programs, never the shell's own. ``guarded``: each is killed after :data:`WITHIN` seconds, by a process
    of its own.
    """
    guard = f"timeout -k 1 {WITHIN:g} " if guarded else ""
    head = f"""\
export LC_ALL=C
fact() {{
  {{ said=$(exec {guard}"$@" 2>&3 3>&- </dev/null); }} 3>&1
  printf '\\n{mark} %s\\n%s\\n{mark}\\n' "$?" "$said"
}}
"""
    return head + "".join(f"fact {quote(fact.argv)}\n" for fact in facts)


def _results(told: Result, facts: tuple[Fact[Any], ...], mark: str) -> Iterator[Result]:
    """Split what :func:`script` says; an answer that was cut short yields fewer than ``facts``."""
    rest = told.stdout
    for fact in facts:
        errors, _, rest = rest.partition(f"\n{mark} ")
        status, _, rest = rest.partition("\n")
        output, end, rest = rest.partition(f"\n{mark}\n")
        if not end:
            return
        yield Result(fact.argv, int(status), output, errors, node=told.node)
