"""Whether a daemon on a machine is ready: its unit is active, its port is listened on, and what asks it is answered.

One round trip a look, nothing is repaired, and whoever waits is given a reason that names machine and cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.facts import Fact, read
from pytest_ai_how.listening import LISTENING, Listener
from pytest_ai_how.node import Node
from pytest_ai_how.services.protocol import Cause
from pytest_ai_how.shell import Result, quote

#: Seconds that a wait may last at most (TASK-048).
LONGEST = 30.0
# Seconds that a probe may take on its machine before it is killed there.
_PROBE = 5
# timeout(1): its own status when the time is up, and when it had to kill.
_TIMED_OUT = (124, 137)
_INIT = 1
# Machines asked at once.
_FAN_OUT = 32
_TAKEN = "is taken by"
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "MainPID")


@dataclass(frozen=True, slots=True)
class Daemon:
    """What is to be ready: a unit, and where they are given the TCP port it serves and a command that asks it."""

    unit: str
    port: int | None = None
    probe: tuple[str, ...] = ()


def faults(node: Node, daemon: Daemon) -> tuple[str, ...]:
    """Why the daemon is not ready, a reason a line with the machine first; empty when it is.

    Raises :class:`~pytest_ai_how.errors.TransportError` and :class:`~pytest_ai_how.errors.FactError` when the machine
    can't be asked.
    """
    return tuple(cause.text for cause in _look(node, daemon))


def _look(node: Node, daemon: Daemon) -> tuple[Cause, ...]:
    unit: Fact[Mapping[str, str]] = Fact(
        f"unit {daemon.unit}", ("systemctl", "show", f"--property={','.join(_PROPERTIES)}", daemon.unit), parse_unit
    )
    # Whatever it exits with is an answer: it is judged here.
    probe = Fact("probe", ("timeout", "--kill-after=1", str(_PROBE), *daemon.probe), str, frozenset(range(256)))
    wanted: list[Fact[Any]] = [unit]
    wanted += [LISTENING, _PARENTS] if daemon.port else []
    wanted += [probe] if daemon.probe else []
    results = read(node, wanted)
    seen = unit.of(results[unit])
    found = list(_of_unit(daemon, seen))
    if daemon.port:
        own = family(int(seen["MainPID"]), _PARENTS.of(results[_PARENTS]))
        holders = [one for one in LISTENING.of(results[LISTENING]) if (one.protocol, one.port) == ("tcp", daemon.port)]
        # Before what comes of it: a daemon whose port is taken ends.
        found = [*_taken(daemon, own, holders), *found, *_closed(daemon, holders)]
    if daemon.probe:
        found += _of_probe(daemon, results[probe])
    return tuple(Cause(f"{node.name}: {cause.text}", cause.final) for cause in found)


def causes(daemons: Iterable[tuple[Node, Daemon]]) -> tuple[Cause, ...]:
    """The faults of several daemons, ports that are taken first. A machine that can't be asked has none.

    A port that is taken is final, and so is a unit that failed: one that systemd starts again is activating meanwhile.
    """

    def look(one: tuple[Node, Daemon]) -> tuple[Cause, ...]:
        try:
            return _look(*one)
        except AiHowError:
            return ()

    with ThreadPoolExecutor(_FAN_OUT) as pool:
        found = [cause for causes in pool.map(look, daemons) for cause in causes]
    return tuple(sorted(found, key=lambda cause: _TAKEN not in cause.text))


def await_ready(node: Node, daemon: Daemon, within: float = LONGEST) -> None:
    """Return as soon as the daemon is ready.

    Raises :class:`~pytest_ai_how.errors.DeadlineExceeded` with the last reasons after ``within`` seconds, which
    are :data:`LONGEST` at most.
    """
    deadline = Deadline(min(within, LONGEST))
    last: tuple[str, ...] = ("nothing yet",)

    def ready() -> bool:
        nonlocal last
        try:
            last = faults(node, daemon)
        except AiHowError as error:
            last = (f"{node.name}: {error.seen}",)
        return not last

    wait_for(
        ready, within=deadline, what=f"{daemon.unit} ready", where=node.name, every=0.05, at_most=0.5,
        last_seen=lambda: "; ".join(reason.removeprefix(f"{node.name}: ") for reason in last),
        cure=f"read its log: journalctl --unit={daemon.unit} on {node.name}",
    )  # fmt: skip


def parse_unit(text: str) -> dict[str, str]:
    r"""Read ``systemctl show --property=…`` (systemd 257): a property a line.

    >>> parse_unit("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nMainPID=0")["Result"]
    'exit-code'
    """
    found = dict(line.partition("=")[::2] for line in text.splitlines())
    return {name: found[name] for name in _PROPERTIES}


def parse_parents(text: str) -> dict[int, int]:
    r"""Read ``ps -eo pid=,ppid=`` (procps 4.0): the parent of each process.

    >>> parse_parents("    1     0\n   41     1")
    {1: 0, 41: 1}
    """
    return {int(pid): int(parent) for pid, parent in (line.split() for line in text.splitlines())}


def family(pid: int, parents: Mapping[int, int]) -> frozenset[int]:
    """A process and all that descend from it; nobody where ``pid`` is 0.

    >>> sorted(family(41, {1: 0, 41: 1, 50: 41, 51: 50, 60: 1}))
    [41, 50, 51]
    """
    found, fresh = set[int](), {pid} - {0}
    while fresh:
        found |= fresh
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
    return frozenset(found)


_PARENTS = Fact("the parents of processes", ("ps", "-eo", "pid=,ppid="), parse_parents)


def _of_unit(daemon: Daemon, seen: Mapping[str, str]) -> Iterator[Cause]:
    if seen["LoadState"] != "loaded":
        yield Cause(f"unit {daemon.unit} is {seen['LoadState']}, expected it to be installed", final=True)
    elif seen["ActiveState"] != "active":
        state = f"{seen['ActiveState']} ({seen['SubState']})"
        text = f"unit {daemon.unit} is {state}, result {seen['Result']}, expected active"
        yield Cause(text, final=seen["ActiveState"] == "failed")


def _taken(daemon: Daemon, own: frozenset[int], holders: Sequence[Listener]) -> Iterator[Cause]:
    # systemd itself holds the sockets of units that it starts on demand; of the kernel's no process is told.
    others = [one for one in holders if one.pids and not one.pids & (own | {_INIT})]
    if others:
        programs = ", ".join(sorted({name for one in others for name in one.programs}))
        pids = ", ".join(sorted({str(pid) for one in others for pid in one.pids}))
        text = f"port {daemon.port} {_TAKEN} {programs} (process {pids}), expected {daemon.unit}"
        yield Cause(text, final=True)


def _closed(daemon: Daemon, holders: Sequence[Listener]) -> Iterator[Cause]:
    if not holders:
        yield Cause(f"nothing listens on port {daemon.port}, expected {daemon.unit}")


def _of_probe(daemon: Daemon, result: Result) -> Iterator[Cause]:
    if result.ok:
        return
    said = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
    how = f"did not end within {_PROBE} s" if result.returncode in _TIMED_OUT else f"exited with {result.returncode}"
    yield Cause(f"`{quote(daemon.probe)}` {how}: {said}, expected 0")
