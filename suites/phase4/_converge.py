"""Comparing the files of a machine with what is rendered for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_ai_how.drivers.machines.reality import Reality
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence

# In the machine, for each path: digest, mode in octal, owner, path; a path that is not there is left out.
_LOOK = r"""
for path; do
    [ -f "$path" ] || continue
    read -r digest _ <<EOF
$(sha256sum <"$path")
EOF
    printf '%s %s %s\n' "$digest" "$(stat -c '%a %U' -- "$path")" "$path"
done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that a second rendering would change; ``failed`` when it is not there."""

    node: str
    path: str
    seen: str
    expected: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.node}: {self.path} is {self.seen}, rendered {self.expected}"


def reality_of(driver: Driver) -> Reality:
    """The driver as what tells reality. Raises :class:`AiHowError` when it can't."""
    if not isinstance(driver, Reality):
        raise AiHowError(f"driver {driver.name}", "does not tell what its machines are", expected="shape() and files()")
    return driver


def changes(node: Node, files: Sequence[File], evidence: Evidence) -> list[Change]:
    """What of ``files`` is not on the machine as it was rendered. The last of several for one path counts."""
    wanted = {file.path: file for file in files}
    result = node.run("sh", "-c", _LOOK, "sh", *wanted, check=False)
    evidence.result(result)
    seen = {}
    for line in result.stdout.splitlines():
        digest, mode, owner, path = line.split(" ", 3)
        seen[path] = (digest, f"{int(mode, 8):04o}", owner)
    found = []
    for path, file in wanted.items():
        expected = (hashlib.sha256(file.content).hexdigest(), f"{file.mode:04o}", file.owner)
        if path not in seen:
            found.append(Change(node.name, path, "not there", _words(expected), failed=True))
        elif seen[path] != expected:
            found.append(Change(node.name, path, _words(seen[path]), _words(expected)))
    return found


def _words(facts: tuple[str, str, str]) -> str:
    digest, mode, owner = facts
    return f"{digest[:12]} {mode} {owner}"
