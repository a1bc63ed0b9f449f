"""The stack of SPANK plug-ins: plain text that slurmd, srun and sbatch read for each job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_ai_how.facts import Fact
from pytest_ai_how.services.slurm.facts import PLUGSTACK

_HEAD = re.compile(r"==> (.*) <==")
#: spank(8): a plug-in that is required or optional with its arguments, or other files.
_LINE = re.compile(r"(?:(?P<kind>required|optional)\s+(?P<plugin>[^\s=]\S*)(?:\s+\S+)*|include\s+\S+)")


@dataclass(frozen=True, slots=True)
class Stack:
    """What the files of a machine say: its plug-ins, as ``optional spank_pbs.so``, and lines that say nothing."""

    plugins: tuple[str, ...]
    mistakes: tuple[str, ...]


def parse_stack(text: str) -> Stack:
    r"""Read files as ``tail --verbose --lines=+1`` prints them (coreutils 9.7), each under its name.

    >>> parse_stack("==> /etc/slurm/plugstack.conf <==\n# x\ninclude /d/*\n\n==> /d/a.conf <==\noptional a.so x=1")
    Stack(plugins=('optional a.so',), mistakes=())
    >>> parse_stack("==> /etc/slurm/plugstack.conf <==\n[plugins]\nrequired = a.so").mistakes
    ("/etc/slurm/plugstack.conf:1: '[plugins]'", "/etc/slurm/plugstack.conf:2: 'required = a.so'")
    """
    plugins, mistakes = [], []
    for where, line in _lines(text):
        found = _LINE.fullmatch(line)
        if not found:
            mistakes.append(f"{where}: {line!r}")
        elif found["kind"]:
            plugins.append(f"{found['kind']} {found['plugin']}")
    return Stack(tuple(plugins), tuple(mistakes))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    path, number = PLUGSTACK, 0
    for line in text.splitlines():
        if head := _HEAD.fullmatch(line):
            path, number = head[1], 0
            continue
        number += 1
        if said := line.partition("#")[0].strip():
            yield f"{path}:{number}", said


# Without a file there is no stack. A glob that fits nothing stays as it is, and is no file.
_READ = 'for file in "$1" "$1".d/*.conf; do [ ! -f "$file" ] || tail --verbose --lines=+1 -- "$file"; done'
#: The files of the stack. Slurm reads others only where plugstack.conf includes them by another name.
STACK: Fact[Stack] = Fact(
    "the stack of SPANK plug-ins", ("sh", "-c", _READ, "sh", PLUGSTACK), parse_stack, after="slurm"
)
