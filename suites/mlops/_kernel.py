"""What kernels tell of GPUs while a job runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_ai_how.facts import Fact
from pytest_ai_how.launch import Ended
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result

from ..phase1._facts import as_root
from ..phase1._gpus import xids
from ._trainer import Trainer

# The journal keeps what has left the kernel's own buffer; where nobody keeps one, that buffer is all there is. Most
# windows are empty. A log without any line was not read, so the first line counts those of all time.
_WINDOW = (
    'if [ -n "$(journalctl --quiet --dmesg --boot --lines=1 2>/dev/null)" ]; then '
    "journalctl --quiet --no-pager --dmesg --boot | wc -l; "
    'exec journalctl --quiet --no-pager --dmesg --output=short-iso --since="@$1" --until="@$2"; else '
    "dmesg | wc -l; "
    'exec dmesg --time-format=iso --since="$(date -d "@$1" "+%F %T")" --until="$(date -d "@$2" "+%F %T")"; fi'
)


def said(text: str) -> tuple[str, ...]:
    r"""What a kernel said in a window, behind the count of all that it said.

    >>> said("812\n2026-11-27T04:59:01 node01 kernel: eth0: link up"), said("812")
    (('2026-11-27T04:59:01 node01 kernel: eth0: link up',), ())
    """
    count, *found = text.splitlines()
    if not int(count):
        raise ValueError("it has no line at all")
    return tuple(found)


def log(since: float, until: float) -> Fact[tuple[str, ...]]:
    """What a machine's kernel said between two points in Unix time."""
    seconds = (str(math.floor(since)), str(math.ceil(until)))
    return Fact("the kernel's log", as_root("sh", "-c", _WINDOW, "sh", *seconds), said)


def without_xid(trainer: Trainer, ended: Ended, evidence: Evidence) -> None:
    """Hold the kernels of a job's machines to having told of no error of a GPU while it ran.

    Simulated GPUs have no driver that could tell. Where we may not read such logs, that is attached in their place.
    """
    if not trainer.real:
        return
    if trainer.unreadable:
        evidence.attach("kernels' logs: not read", trainer.unreadable)
        return
    window = log(ended.started, ended.ended + 1)  # what a job dies of may be told a moment later
    for told in _told(trainer, ended, window.argv):
        evidence.result(told)
        found = xids(window.of(told))
        assert not found, (
            f"{told.node}: while {ended.label} ran, its kernel told of {len(found)} errors of GPUs, first: "
            f"{found[0].strip()!r}; expected none; do: look the number up among NVIDIA's Xid errors"
        )


def _told(trainer: Trainer, ended: Ended, argv: tuple[str, ...]) -> Iterator[Result]:
    """What each kernel that the job ran on says: those of its machines, or this host's, which they share."""
    if trainer.host is not None:
        yield trainer.host.execute(argv, timeout=30.0)
        return
    for name in ended.nodes:
        yield trainer.cluster[name].run(*argv, check=False)
