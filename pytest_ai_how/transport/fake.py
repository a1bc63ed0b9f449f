"""A transport that answers from a script, so that a check can be tested without a machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pytest_ai_how.errors import FileError
from pytest_ai_how.shell import Result, quote
from pytest_ai_how.transport.command import checked, encoded
from pytest_ai_how.transport.protocol import local_path

#: Which commands an answer is for: the first words (as text or as a tuple), a pattern found in the words joined by
#: blanks, or a function of the words.
Matcher: TypeAlias = "str | tuple[str, ...] | re.Pattern[str] | Callable[[tuple[str, ...]], bool]"
#: One answer: standard output of a success, a whole result, an error to raise, or a function of the words.
Answer: TypeAlias = "str | Result | Exception | Callable[[tuple[str, ...]], str | Result | Exception]"
#: What belongs to a matcher: one answer for every call, or a list of answers for successive calls.
Answers: TypeAlias = "Answer | Sequence[Answer]"


@dataclass(frozen=True, slots=True)
class Call:
    """One command that a :class:`FakeTransport` was asked to run; ``timeout`` in seconds."""

    argv: tuple[str, ...]
    user: str | None
    input: bytes
    timeout: float


@dataclass
class _Rule:
    matcher: Matcher
    answers: Sequence[Answer]
    used: int = 0

    def fits(self, argv: tuple[str, ...]) -> bool:
        if isinstance(self.matcher, re.Pattern):
            return self.matcher.search(" ".join(argv)) is not None
        if isinstance(self.matcher, str | tuple):
            words = tuple(shlex.split(self.matcher)) if isinstance(self.matcher, str) else self.matcher
            return argv[: len(words)] == words
        return self.matcher(argv)

    def next(self, argv: tuple[str, ...]) -> str | Result | Exception:
        answer = self.answers[min(self.used, len(self.answers) - 1)]
        self.used += 1
        return answer(argv) if callable(answer) else answer

    def __str__(self) -> str:
        if isinstance(self.matcher, re.Pattern):
            return f"/{self.matcher.pattern}/"
        if isinstance(self.matcher, str | tuple):
            return self.matcher if isinstance(self.matcher, str) else quote(self.matcher)
        return getattr(self.matcher, "__name__", repr(self.matcher))


@dataclass
class FakeTransport:
    r"""A :class:`~pytest_ai_how.transport.Transport` to a machine that does not exist.

    ``answers`` maps commands to what they say, or lists ``(matcher, answer)`` pairs; the first matcher that fits
    wins, so put the more special one first. A list of answers serves successive calls, and its last one all further
    calls. A command that nothing fits is an :class:`AssertionError` that names it and the known ones: a fake never
    makes up a success. ``files`` holds what ``get`` reads and ``put`` writes, ``modes`` the modes that ``put`` set,
    and ``calls`` every command in order.

    >>> from pytest_ai_how.shell import Result
    >>> transport = FakeTransport("node01", {
    ...     "systemctl is-active slurmd": Result(("systemctl",), 3, stdout="inactive\n"),
    ...     "squeue": ["1 PENDING\n", "1 RUNNING\n"],
    ...     re.compile(r"^srun .*--gres=gpu:9"): Result((), 1, stderr="srun: error: Invalid generic resource\n"),
    ...     "hostname": lambda argv: "node01\n",
    ... }, files={"/etc/hostname": b"node01\n"})
    >>> transport.execute(["systemctl", "is-active", "slurmd"], timeout=5).returncode
    3
    >>> [transport.execute(["squeue", "-h"], timeout=5).stdout.split()[1] for _ in range(3)]
    ['PENDING', 'RUNNING', 'RUNNING']
    >>> transport.get("/etc/hostname")
    b'node01\n'
    >>> transport.execute(["sinfo", "-N"], timeout=5)
    Traceback (most recent call last):
    AssertionError: node01: no answer for `sinfo -N`
      known: systemctl is-active slurmd, squeue, /^srun .*--gres=gpu:9/, hostname
    >>> [call.argv[0] for call in transport.calls]
    ['systemctl', 'squeue', 'squeue', 'squeue', 'sinfo']
    """

    node: str = "localhost"
    answers: Mapping[Matcher, Answers] | Sequence[tuple[Matcher, Answers]] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        pairs = self.answers.items() if isinstance(self.answers, Mapping) else self.answers
        self._rules = [_Rule(matcher, _sequence(answers)) for matcher, answers in pairs]
        for rule in self._rules:
            if not rule.answers:
                raise ValueError(f"{self.node}: the list of answers for {rule} is empty")

    def execute(
        self, argv: Sequence[str], *, timeout: float, input: str | bytes = "", user: str | None = None
    ) -> Result:
        """Answer from the script. Raises what the script says, or :class:`AssertionError`."""
        words = checked(argv, user)
        self.calls.append(Call(words, user, encoded(input), timeout))
        for rule in self._rules:
            if rule.fits(words):
                return self._result(words, rule.next(words))
        known = ", ".join(map(str, self._rules)) or "nothing"
        raise AssertionError(f"{self.node}: no answer for `{quote(words)}`\n  known: {known}")

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Keep ``content`` in ``files`` and ``mode`` in ``modes``."""
        local_path(path)
        self.files[path], self.modes[path] = content, mode

    def get(self, path: str) -> bytes:
        """Return what ``files`` holds. Raises :class:`~pytest_ai_how.errors.FileError` as the real transports do."""
        local_path(path)
        if path not in self.files:
            raise FileError(self.node, f"{path} could not be read: No such file or directory")
        return self.files[path]

    def close(self) -> None:
        """Remember that it was called."""
        self.closed = True

    def _result(self, argv: tuple[str, ...], answer: str | Result | Exception) -> Result:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return Result(argv, 0, answer, node=self.node)
        return replace(answer, argv=argv, node=self.node)


def _sequence(answers: Answers) -> Sequence[Answer]:
    if isinstance(answers, str | Result | Exception) or callable(answers):
        return [answers]
    return answers
