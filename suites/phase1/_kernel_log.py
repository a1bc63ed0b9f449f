"""What a kernel's log says that it must not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

#: What is looked for, as Linux 6.12 writes it.
TROUBLE: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        # lib/bug.c, arch/x86/kernel/dumpstack.c: "BUG: unable to handle page fault", "Oops: 0002 [#1] SMP"
        "oops": re.compile(r"\bBUG: |\bOops: |general protection fault|Kernel panic"),
        # kernel/hung_task.c: "INFO: task fio:412 blocked for more than 120 seconds."
        "hung task": re.compile(r"blocked for more than \d+ seconds|soft lockup|hard LOCKUP|rcu_\w+ .*detected stalls"),
        # block/blk-core.c: "I/O error, dev vda, sector 2048 op 0x1:(WRITE)"; fs: "EXT4-fs error (device vda)"
        "I/O error": re.compile(r"I/O error|EXT4-fs error|XFS .*[Cc]orruption|Medium Error"),
        # mm/oom_kill.c: "Out of memory: Killed process 812 (python3)"
        "out of memory": re.compile(r"\bOut of memory: "),
    }
)
#: A job that is killed at the limit of its own control group is Slurm at work (SLU-37), not a machine in trouble.
_A_JOBS = re.compile(r"Memory cgroup out of memory")


def troubles(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Each line that tells of trouble, with the kind of it."""
    return [
        (kind, line)
        for line in lines
        for kind, pattern in TROUBLE.items()
        if pattern.search(line) and not _A_JOBS.search(line)
    ]
