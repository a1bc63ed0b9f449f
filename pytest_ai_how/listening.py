"""What a machine listens on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from pytest_ai_how.facts import Fact


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes connections or datagrams, and the processes that hold it (none: the kernel, or not told)."""

    protocol: str
    address: str
    port: int
    pids: frozenset[int]
    programs: frozenset[str]

    @property
    def local(self) -> bool:
        """Whether only the machine itself can reach it."""
        return self.address != "*" and ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"{self.protocol} {self.address}:{self.port} of {', '.join(sorted(self.programs)) or 'nobody known'}"


def parse_ss(text: str) -> Iterator[Listener]:
    """Read ``ss -Hlntup`` (iproute2 6.15). An IPv6 address stands in brackets, an interface behind a ``%``.

    >>> line = 'tcp LISTEN 0 128 0.0.0.0:8003 0.0.0.0:* users:(("beegfs-storage/",pid=412,fd=9))'
    >>> print(*parse_ss(line))
    tcp 0.0.0.0:8003 of beegfs-storage/
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and (port := words[4].rpartition(":")[2]).isdigit():
            address = words[4].rpartition(":")[0].strip("[]").partition("%")[0]
            yield Listener(
                words[0],
                address,
                int(port),
                frozenset(map(int, re.findall(r"pid=(\d+)", line))),
                frozenset(re.findall(r'\("([^"]*)",pid=', line)),
            )


LISTENING = Fact("what it listens on", ("ss", "-H", "-l", "-n", "-t", "-u", "-p"), lambda text: tuple(parse_ss(text)))
