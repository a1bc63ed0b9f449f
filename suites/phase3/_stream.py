"""Data that is written and verified all the time while something is broken: what a fault does to it is then known.

One node writes blocks of random data, each named by its SHA-256; another reads each as soon as it is there, past its
own cache, and compares. Both log to their own memory, so the logs outlive the shared file system.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError, DeadlineExceeded
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence

from ._judged import judged
from ._payloads import payload, tell

#: Bytes of a block: each of several targets gets a part of it (BeeGFS stripes by 512 KiB).
BLOCK = 2 * 2**20
#: Seconds between two blocks: what is written in minutes must fit onto the small disks of virtual machines.
PACE = 0.25
#: How many blocks that were written and verified show that data flows.
FLOWING = 3
#: Where scripts and logs lie on a node: its memory.
_FOLDER = "/run"


@dataclass(frozen=True, slots=True)
class Line:
    """What a log says of one attempt: the block's number, when it began and ended by that node's clock, the error."""

    block: int
    begun: float
    at: float
    error: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of blocks from ``writer`` through ``folder`` to ``reader``."""

    writer: Node
    reader: Node
    folder: str
    name: str
    evidence: Evidence

    def written(self) -> list[Line]:
        """The attempts to write, in their order."""
        return self._log(self.writer, "write")

    def verified(self) -> list[Line]:
        """The attempts to verify, in their order."""
        return self._log(self.reader, "verify")

    def flow(self, within: float, since: str) -> None:
        """Wait until new blocks are written and verified; that they are not within ``within`` seconds is a failure."""
        first = max((line.block for line in self.written() if not line.error), default=-1) + 1
        state = "nothing"

        def flows() -> bool:
            nonlocal state
            written = {line.block for line in self.written() if not line.error and line.block >= first}
            verified = written & {line.block for line in self.verified() if not line.error}
            state = f"{len(written)} new blocks written, {len(verified)} of them verified; {self._last_errors()}"
            return len(verified) >= FLOWING

        cure = f"look at the mount on {self.writer.name} and {self.reader.name}"
        with judged():
            wait_for(
                flows, within=within, what=f"{FLOWING} new blocks {since}", where=self.writer.name, at_most=0.5,
                last_seen=lambda: state, cure=cure,
            )  # fmt: skip

    def stall(self) -> float:
        """The longest time in seconds from one block that was written to the next, by the writer's clock."""
        ends = [line.at for line in self.written() if not line.error]
        gaps = [later - earlier for earlier, later in pairwise(ends)]
        return max(gaps, default=float("inf"))

    def longest(self) -> float:
        """The longest that one attempt to write took until the program had its answer, in seconds."""
        return max((line.at - line.begun for line in self.written()), default=float("inf"))

    def since_last(self) -> float:
        """Seconds since the last block was written, by the writer's clock."""
        now = float(self.writer.run("date", "+%s.%N").stdout)
        return now - max((line.at for line in self.written() if not line.error), default=now)

    def errors(self) -> list[Line]:
        """What the writing programs were refused."""
        return [line for line in self.written() if line.error]

    def whole(self) -> int:
        """Read every block again on the node that did not write it, and return how many there are; none may differ."""
        # Before they are counted on the other node, or one that is written meanwhile would seem to be lost.
        written = len({line.block for line in self.written() if not line.error})
        found: dict[str, Any] = tell(self.reader, "stream_verify.py", self.folder, evidence=self.evidence, within=300)
        wrong = found["wrong"]
        first = next(iter(wrong.items()), ("", ""))
        assert not wrong, (
            f"{self.reader.name}: {len(wrong)} of {found['blocks']} blocks that {self.writer.name} wrote are damaged: "
            f"{first[0][:24]}… reads as {first[1]}"
        )
        assert 0 < written <= found["blocks"], (
            f"{self.reader.name}: {found['blocks']} blocks are there, {self.writer.name} was told that {written} are "
            "written: data was lost"
        )
        damaged = [line for line in self.verified() if line.error.startswith("sha256")]
        assert not damaged, f"{self.reader.name}: block {damaged[0].block} read with {damaged[0].error} for a while"
        return written

    def _last_errors(self) -> str:
        logs = {self.writer.name: self.written(), self.reader.name: self.verified()}
        last = [f"{name} said {lines[-1].error}" for name, lines in logs.items() if lines and lines[-1].error]
        return ", ".join(last) or "no error"

    def _log(self, node: Node, role: str) -> list[Line]:
        text = node.run("cat", "--", self.path(role, "log"), check=False).stdout
        rows = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [Line(row["n"], row.get("begun", row["at"]), row["at"], row["error"]) for row in rows]

    def path(self, role: str, kind: str) -> str:
        """A file of ours on a node's memory."""
        return f"{_FOLDER}/ai-how-{self.name}-{role}.{kind}"

    @contextmanager
    def running(self, node: Node, role: str, *args: str) -> Iterator[None]:
        """Run ``stream_<role>.py`` on a node in the background; what hangs at the end is killed."""
        unit, stop = f"ai-how-{self.name}-{role}", self.path(role, "stop")
        script = self.path(role, "py")
        files = [self.path(role, kind) for kind in ("py", "log", "stop")]
        try:
            node.write(script, payload(f"stream_{role}.py"))
            words = ("python3", script, self.folder, self.path(role, "log"), stop, *args)
            node.run("systemd-run", f"--unit={unit}", "--collect", "--property=KillSignal=SIGKILL", *words)
            yield
        finally:
            self._end(node, unit, stop)
            self.evidence.result(node.run("cat", "--", files[1], check=False), f"{node.name}: log of {role}")
            node.run("rm", "-f", "--", *files, check=False)

    def _end(self, node: Node, unit: str, stop: str) -> None:
        node.run("touch", stop, check=False)

        def ended() -> bool:
            return node.run("systemctl", "is-active", unit, check=False).stdout.strip() not in (
                "active",
                "deactivating",
            )

        try:
            wait_for(ended, within=10, what="ended", where=f"{node.name}: {unit}")
        except (DeadlineExceeded, AiHowError):
            node.run("systemctl", "kill", "--signal=KILL", unit, check=False)


@contextmanager
def streaming(writer: Node, reader: Node, folder: str, evidence: Evidence) -> Iterator[Stream]:
    """A stream that flows, for the time of the block; afterwards nothing of it runs."""
    name = folder.rpartition("/")[2].lstrip(".").removeprefix("ai-how-")
    stream = Stream(writer, reader, folder, f"stream-{name}", evidence)
    with ExitStack() as stack:
        stack.enter_context(stream.running(writer, "write", str(BLOCK), str(PACE)))
        stack.enter_context(stream.running(reader, "verify"))
        stream.flow(120.0, "before anything is broken")
        yield stream
