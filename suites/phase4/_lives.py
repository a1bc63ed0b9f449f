"""What is done to the small cluster, and what was seen: the data that the life-cycle checks judge."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ai_how.drivers.protocol import State
from pytest_ai_how.shell import Result

from ._facts import Facts
from ._small import ON, Small, await_made, await_note, kill_with_workers
from ._witness import witnesses

# In the machine: a unit that writes a file to the disk when it is stopped in order, and only then.
_WITNESS = "ai-how-witness"
_SAID = f"/var/lib/{_WITNESS}"
#: Seconds that a graceful stop is given before the machine is cut off; what is good is in the limits.
ASKED = 60.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """A run of several workers, from nothing: its notes by worker, and the facts when it had ended.

    ``seconds`` are those of the record's steps, by name.
    """

    result: Result
    notes: Mapping[str, list[str]]
    facts: Facts
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Again:
    """A start of what may be there already: what it said, and the facts before and after."""

    result: Result
    before: Facts
    after: Facts


@dataclass(frozen=True, slots=True)
class Stop:
    """A graceful stop and a start after it.

    ``said`` is what the machine wrote to its disk while it shut down, ``kept`` whether a file of before is there.
    """

    seconds: float
    state: State
    began: State
    said: str
    kept: bool
    console: str


@dataclass(frozen=True, slots=True)
class End:
    """A cluster that was to leave nothing: the host before it was made and after, and what was not ours."""

    result: Result
    before: frozenset[str]
    during: frozenset[str]
    after: frozenset[str]
    witnesses: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A run on cluster ``name`` that was killed: the facts when it was dead, and the start after that."""

    name: str
    before: Facts
    next: Result
    after: Facts


def crowd(small: Small, workers: int) -> Crowd:
    """Bring the cluster up by several workers at once."""
    small.down()
    small.forget()
    result = small.pytest(f"-n{workers}", "--cluster-keep=always", "-k", "together")
    names = [f"worker{number}" for number in range(workers)]
    record = small.record
    seconds = {name: step.seconds for name, step in record.steps.items()} if record else {}
    return Crowd(result, {name: small.note(name) for name in names}, small.facts(), seconds)


def again(small: Small) -> Again:
    """Start the cluster that is up."""
    small.up()
    before = small.facts()
    return Again(small.up(), before, small.facts())


def stop_and_start(small: Small) -> Stop:
    """Stop the machine in order, look at it, and start it again."""
    small.up()
    node, power = small.node(), small.power
    text = f"echo stopped in order >{_SAID}"
    node.run("rm", "-f", _SAID)
    node.run(
        *("systemd-run", f"--unit={_WITNESS}", f"--property=ExecStop=/bin/sh -c '{text}'", "--property=Type=exec"),
        *("sleep", "infinity"),
    )
    node.write(f"{_SAID}.kept", "written before")
    node.transport.close()
    started = time.monotonic()
    power.stop(small.config, ON, within=ASKED)
    seconds = time.monotonic() - started
    state = power.state(small.config, ON)
    console = small.power.consoles(small.config)[ON].read_text(errors="replace")
    small.machines().start(ON)
    said = node.run("cat", _SAID, check=False).stdout.strip()
    kept = node.run("cat", f"{_SAID}.kept", check=False).stdout == "written before"
    node.transport.close()
    return Stop(seconds, state, power.state(small.config, ON), said, kept, console)


def destroy(small: Small) -> End:
    """Destroy the cluster beside things that are not ours."""
    small.down()
    before = small.inventory()
    small.up()
    during = small.inventory()
    with witnesses(small.config.name) as found:
        result = small.down()
        after = small.inventory() - {line for one in found for line in one.listed}
        seen = {one.name: (one.before, one.now()) for one in found}
    return End(result, before, during, after, seen)


def fail_in_between(small: Small) -> End:
    """A run whose second machine can't be made."""
    small.down()
    before = small.inventory()
    small.forget()
    result = small.pytest("-k", "short")
    return End(result, before, before, small.inventory(), {})


def killed_whole(small: Small) -> Interrupted:
    """Kill a run while its test uses the cluster, and start again."""
    small.up()
    small.forget()
    with small.running("-k", "endless", "--cluster-keep=always") as process:
        await_note(small, "endless", process)
        kill_with_workers(process)
    return _after_kill(small, small.facts())


def killed_half(small: Small) -> Interrupted:
    """Kill a run while it makes machines, and start again."""
    small.down()
    small.forget()
    with small.running("-k", "short", "--cluster-keep=always") as process:
        await_made(small, process)
        kill_with_workers(process)
    return _after_kill(small, small.facts(answering=False))


def _after_kill(small: Small, before: Facts) -> Interrupted:
    result = small.up()
    return Interrupted(small.config.name, before, result, small.facts())
