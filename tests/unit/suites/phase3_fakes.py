"""Pretended machines for the checks of storage: what nodes say of files, and a stream of blocks between two of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import Answers, Matcher
from tests.fakes import Script, fake_cluster

Rule = tuple[Matcher, Answers]
Rules = list[Rule]
KILLED = Result((), 137)
#: iproute2 6.15: `ss -Hlntup`; the client's socket is the kernel's own and has no process.
LISTENING = """\
udp   UNCONN 0      0            0.0.0.0:8008       0.0.0.0:*    users:(("beegfs-mgmtd/Ma",pid=301,fd=8))
udp   UNCONN 0      0            0.0.0.0:8005       0.0.0.0:*    users:(("beegfs-meta/Mai",pid=302,fd=8))
udp   UNCONN 0      0            0.0.0.0:8003       0.0.0.0:*    users:(("beegfs-storage/",pid=303,fd=8))
udp   UNCONN 0      0            0.0.0.0:8004       0.0.0.0:*
tcp   LISTEN 0      128          0.0.0.0:8008       0.0.0.0:*    users:(("beegfs-mgmtd/Ma",pid=301,fd=9))
tcp   LISTEN 0      128          0.0.0.0:8005       0.0.0.0:*    users:(("beegfs-meta/Mai",pid=302,fd=9))
tcp   LISTEN 0      128          0.0.0.0:8003       0.0.0.0:*    users:(("beegfs-storage/",pid=303,fd=9))
"""


def says(text: str) -> Matcher:
    """A command that has this text in it, whatever stands around it."""

    def fits(argv: tuple[str, ...]) -> bool:
        return text in " ".join(argv)

    fits.__name__ = f"…{text}…"
    return fits


def storage(scripts: Mapping[str, Script], config: ClusterConfig | None = None) -> Storage:
    """A shared storage on machines that answer so."""
    return Storage(fake_cluster(scripts, config=config))


def new_measure(evidence: Evidence | None = None) -> Measurements:
    """Judging by the limits that ship."""
    return Measurements(load_limits("local"), evidence)


@dataclass
class Flow:
    """A stream as its logs tell it: a block each quarter of a second by the writer's clock.

    Each look at the log of the writer finds ``step`` more blocks, until ``ends``; block ``gap[0]`` took ``gap[1]``
    seconds to be written; ``errors`` are told beside the blocks of these numbers, ``damaged`` by the verifier.
    """

    step: int = 4
    ends: int = 10_000
    gap: tuple[int, float] = (0, 0.0)
    errors: Mapping[int, str] = field(default_factory=dict)
    damaged: Mapping[int, str] = field(default_factory=dict)
    lost: int = 0
    wrong: Mapping[str, str] = field(default_factory=dict)
    quiet: float = 10.0
    blocks: int = 0

    def at(self, block: int) -> float:
        """When a block was written."""
        return 1000.0 + block * 0.25 + (self.gap[1] if self.gap[0] and block >= self.gap[0] else 0.0)

    def write_log(self, argv: tuple[str, ...]) -> str:
        """What the writer's log says now."""
        self.blocks = min(self.blocks + self.step, self.ends)
        lines = []
        for block in range(self.blocks):
            if block in self.errors:
                lines.append({"n": block, "begun": self.at(block), "at": self.at(block), "error": self.errors[block]})
            begun = self.at(block - 1) if block == self.gap[0] else self.at(block)
            lines.append({"n": block, "begun": begun, "at": self.at(block), "error": ""})
        return "".join(json.dumps(line) + "\n" for line in lines)

    def verify_log(self, argv: tuple[str, ...]) -> str:
        """What the verifier's log says now."""
        rows = (
            {"n": block, "at": self.at(block), "error": self.damaged.get(block, "")} for block in range(self.blocks)
        )
        return "".join(json.dumps(row) + "\n" for row in rows)

    def checked(self, argv: tuple[str, ...]) -> str:
        """What reading all blocks once more finds."""
        return json.dumps({"blocks": self.blocks - self.lost, "wrong": dict(self.wrong)}) + "\n"

    def now(self, argv: tuple[str, ...]) -> str:
        """The writer's clock."""
        return f"{self.at(self.blocks - 1) + self.quiet}\n"

    def rules(self, folder: str) -> Rules:
        """What a node answers that writes or verifies."""
        return [
            (says("write.log"), self._only("cat", self.write_log)),
            (says("verify.log"), self._only("cat", self.verify_log)),
            (("systemd-run",), ""),
            (("systemctl", "is-active"), Result((), 3, "inactive\n")),
            (("systemctl", "stop"), ""),
            (("touch",), ""),
            (("rm",), ""),
            (("date",), self.now),
            (says(f"python3 - {folder}"), self.checked),
        ]

    def _only(self, program: str, answer: Callable[[tuple[str, ...]], str]) -> Callable[[tuple[str, ...]], str]:
        return lambda argv: answer(argv) if argv[0] == program else ""
