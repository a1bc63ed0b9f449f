"""Finding and ending the processes of a cluster, recorded or not.

A process is ours when its arguments or environment carry the cluster's cookie (see :mod:`.state`). So those are found
too whose number was never written down because we died between the fork and the write.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.errors import DeadlineExceeded, LeaseError
from pytest_ai_how.lease.state import carries

# How long a process may take to end by itself, in seconds: a machine of ours powers off in under one.
GRACE = 2.0
# What SIGKILL is given to take effect; only a process in an uninterruptible wait needs more.
_KILL = 5.0
# In execve(2) a process has neither arguments nor environment for a moment: 0.2 ms of the 8 that Python takes to start,
# more where its program has to be read from a disk. Seconds between looks, and how many.
_BETWEEN, _LOOKS = 0.001, 100


@dataclass(frozen=True, slots=True)
class Process:
    """One process; ``start`` (clock ticks since boot) tells it from a later one with the same number."""

    pid: int
    start: int
    parent: int
    name: str

    @property
    def alive(self) -> bool:
        """Whether it still runs. A zombie has ended, even where nobody reaps it."""
        now = process(self.pid)
        return now is not None and now.start == self.start


def process(pid: int) -> Process | None:
    """Read ``/proc/<pid>/stat`` (proc(5)); None when there is no such process or it is a zombie.

    ``4242 (sleep) S 1 4242 …``: number, name (may hold spaces and brackets), state, parent, … field 22 is the start.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    if not fields or fields[0] in "ZX":
        return None
    return Process(pid, int(fields[19]), int(fields[1]), head.partition("(")[2])


def marked(cookie: str) -> tuple[Process, ...]:
    """All live processes whose arguments or environment carry ``cookie``, but for this one and those it runs under."""
    own = set(_ancestry(os.getpid()))
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = (process(pid) for pid in pids if pid not in own and _carries(pid, cookie))
    return tuple(one for one in found if one is not None)


def _ancestry(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        known = process(pid)
        pid = known.parent if known else 0


def _carries(pid: int, cookie: str) -> bool:
    for look in range(_LOOKS):
        arguments, variables = _content(pid, "cmdline"), _content(pid, "environ")
        if any(_names(content, cookie) for content in (arguments, variables)):
            return True
        # Arguments come first, by microseconds; some have no environment at all.
        if variables or (arguments and look) or not _becomes_another(pid):
            return False
        time.sleep(_BETWEEN)
    return False


def _content(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone, or somebody else's and so not ours
        return b""


def _names(content: bytes, cookie: str) -> bool:
    # Bytes first: all processes are looked at, many times a second, and hardly any is ours.
    return cookie.encode() in content and carries(content.decode(errors="replace"), cookie)


def _becomes_another(pid: int) -> bool:
    """Whether a process without environment may be in execve(2): kernel threads and the dead have no program."""
    try:
        return bool(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return False


class Processes:
    """Undoes ``process`` entries, and ``work``: commands on this machine, of which there may be none.

    ``cookie`` is needed; ``pid`` and ``start`` may say which process it was, ``signal`` (``SIGTERM``) how it is asked
    to end: only the outermost processes are asked, what still runs after :data:`GRACE` is killed.
    """

    kind = "process"

    def __init__(self, kind: str = kind) -> None:
        self.kind = kind
        self._asked: dict[tuple[int, int], Deadline] = {}

    def begin(self, data: Mapping[str, str]) -> None:
        """Ask the processes to end."""
        found = marked(_cookie(data))
        pids = {one.pid for one in found}
        ask = signal.Signals[data.get("signal", "SIGTERM")]
        for one in found:
            # Once only: to some (systemd-nspawn) a second request means "at once".
            if one.parent not in pids and (one.pid, one.start) not in self._asked:
                self._asked[one.pid, one.start] = Deadline(GRACE)
                send_signal(one, ask)

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Ask the processes to end, wait, and kill what does not. Raises LeaseError naming what survived SIGKILL."""
        end = Deadline(deadline)
        self.begin(data)
        found = marked(_cookie(data))
        grace = max((left.left for key in found if (left := self._asked.get((key.pid, key.start)))), default=GRACE)
        if not _ended(found, min(grace, end.left)) or marked(_cookie(data)):
            found = marked(_cookie(data))
            for one in found:
                send_signal(one, signal.SIGKILL)
            if not _ended(found, _KILL):
                stuck = ", ".join(f"{one.pid} ({one.name})" for one in found if one.alive)
                raise LeaseError("localhost", f"processes do not end, even by SIGKILL: {stuck}")

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The processes that still run."""
        for one in marked(_cookie(data)):
            yield f"process {one.pid} ({one.name}) with the mark {data['cookie']}"


def _cookie(data: Mapping[str, str]) -> str:
    cookie = data.get("cookie", "")
    if not cookie.startswith("pytest-ai-how:"):
        raise LeaseError("journal", f"a process entry without a cookie of ours: {cookie!r}")
    return cookie


def send_signal(one: Process, number: int) -> None:
    """Signal exactly this process: the descriptor pins it, so its number can't have gone to another meanwhile."""
    try:
        descriptor = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return
    try:
        if one.alive:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _ended(processes: Iterable[Process], within: float) -> bool:
    waiting = list(processes)

    def gone() -> bool:
        waiting[:] = [one for one in waiting if one.alive]
        return not waiting

    try:
        return wait_for(gone, within=within, what="ended", every=0.01)
    except DeadlineExceeded:
        return False
