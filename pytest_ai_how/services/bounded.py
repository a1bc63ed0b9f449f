"""Commands that may wait for a file system whose servers are gone, ended by the machine itself."""

from __future__ import annotations

from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result

#: Seconds. A healthy file system answers in one; a BeeGFS client whose server is gone may never answer.
WITHIN = 20.0
# The status of a program that timeout(1) killed by SIGKILL: 128 + 9, or the signal itself where it killed itself, too.
_KILLED = (137, -9)
# Seconds that the way to the machine may add.
_GRACE = 10.0


def bounded(node: Node, *argv: str, within: float = WITHIN, input: str = "", user: str | None = None) -> Result:
    """Run ``argv`` on a machine and have the machine kill it by SIGKILL after ``within`` seconds.

    What waits for a BeeGFS server ignores SIGTERM. Of what was killed, :func:`hung` is true; nothing is raised for a
    status. Raises :class:`~pytest_ai_how.errors.CommandTimeout` when not even that ended it.
    """
    words = ("timeout", "--signal=KILL", f"{within:g}", *argv)
    return node.run(*words, check=False, timeout=within + _GRACE, input=input, user=user)


def hung(result: Result) -> bool:
    """Whether :func:`bounded` had to kill the command."""
    return result.returncode in _KILLED
