"""Running the payloads of the container checks, and turning what a cluster does wrong into a failure that names it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, Unpack, cast

from pytest_ai_how.cluster import Nodes
from pytest_ai_how.errors import AiHowError, CommandTimeout, TransportError
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import Apptainer, ContainerOptions, command
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result

from ._slurm_payloads import payload

T = TypeVar("T")

#: MiB that a job with one small container asks for: the interpreter, and the process that serves the image by FUSE.
SMALL = 128


def python(image: str, name: str, *args: str, **options: Unpack[ContainerOptions]) -> tuple[str, ...]:
    """The command that runs a payload by the Python of ``image``."""
    return command("exec", image, "python3", "-c", payload(name), *args, **options)


def inside(
    apptainer: Apptainer, node: Node, evidence: Evidence, call: Sequence[str], *, timeout: float = 60.0
) -> dict[str, Any]:
    """Run a command as the job user on a node, and return what the payload in it told."""
    result = node.run(*call, check=False, timeout=timeout, user=apptainer.user)
    return told(result, evidence, node.name)


def told(result: Result, evidence: Evidence, where: str) -> dict[str, Any]:
    """The JSON that a payload printed; that it printed none is a failure."""
    evidence.attach(f"{where}: {shown(result)}", result.describe(lines=1000).replace(result.command, shown(result)))
    said = (result.stderr.strip() or "nothing on stderr").splitlines()[-1]
    assert result.ok, f"{where}: {shown(result)} ended with {result.returncode}: {said}"
    try:
        return cast("dict[str, Any]", json.loads(result.stdout))
    except ValueError:
        raise AssertionError(
            f"{where}: {shown(result)} printed {result.stdout[-200:]!r}, expected what the payload found out, as JSON"
        ) from None


def _plain(result: Result) -> str:
    """What was said on stderr, without the colours that Apptainer gives it (ECMA-48, SGR)."""
    return re.sub(r"\x1b\[[0-9;]*m", "", result.stderr)


def culprit(result: Result, otherwise: str = "") -> str:
    """The node whose task failed, by srun's own word (24.11.5): ``srun: error: node02: task 1: Exited with …``.

    Where it names none: ``otherwise``, or who ran srun.
    """
    found = re.search(r"^srun: error: (\S+): tasks? \d", _plain(result), re.MULTILINE)
    return found[1] if found else otherwise or result.node


def status(result: Result) -> int:
    """What the first task that failed exited with; srun's own status may be that of those it ended because of it."""
    found = re.search(r"^srun: error: \S+: tasks? \S+: Exited with exit code (\d+)", _plain(result), re.MULTILINE)
    return int(found[1]) if found else result.returncode


def cause(result: Result) -> str:
    """Apptainer's own last word where it has one, else the last of the program: srun says only that it ended."""
    lines = _plain(result).strip().splitlines() or ["nothing on stderr"]
    own = [line for line in lines if not line.startswith(("srun: ", "slurmstepd: ", "slurmstepd-", "INFO: "))]
    return next((line for line in lines if line.startswith("FATAL:")), (own or lines)[-1])


def shown(result: Result) -> str:
    """A command without the text of the payload in it."""
    return " ".join(word if len(word) < 200 and "\n" not in word else "…" for word in result.argv)


@contextmanager
def judged() -> Iterator[None]:
    """What a node's files say wrongly is the cluster's failure; that a node can't be asked is not."""
    try:
        yield
    except (TransportError, CommandTimeout):
        raise
    except AiHowError as error:
        raise AssertionError(str(error)) from error


def on_each(nodes: Nodes, look: Callable[[Node], T]) -> dict[str, T]:
    """Look at several nodes at once; the first that is wrong, in the order of the file, is the failure."""
    try:
        return nodes.map(look)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


@contextmanager
def job_folder(slurm: Slurm, name: str) -> Iterator[str]:
    """A folder of the job user on the shared storage, for the time of the block."""
    folder = f"{slurm.folder}/{name}"
    slurm.query("mkdir", "-p", folder)
    try:
        yield folder
    finally:
        slurm.query("rm", "-rf", "--", folder, timeout=60)


def declared() -> tuple[str, tuple[str, ...]]:
    """The lowest version of Apptainer that ``configs/versions.yaml`` allows, and the packages of its role."""
    definition = Source.shipped().define("node")
    packages = next(loaded.role.packages for loaded in definition.roles if loaded.name == "apptainer")
    return definition.demands["apptainer"].at_least or "", packages


def numbers(count: int, state: int) -> list[int]:
    """The numbers that ``container-tensor.py`` computes with: small and whole, from a linear congruence."""
    found = []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        found.append((state >> 16) % 16 - 8)
    return found
