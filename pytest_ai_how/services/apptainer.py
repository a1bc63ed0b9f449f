"""Apptainer on a cluster: what is installed and configured, and running something in a container on a node."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result

#: Where Debian's and upstream's packages put the configuration (``apptainer buildcfg``: APPTAINER_CONFDIR).
CONFIG_FOLDER = "/etc/apptainer"
CONFIG = f"{CONFIG_FOLDER}/apptainer.conf"
#: Apptainer's execution control list: which images may run.
POLICY = f"{CONFIG_FOLDER}/ecl.toml"
#: Modes that an execution group can have (ecl.toml of Apptainer 1.4).
POLICY_MODES = ("whitelist", "whitestrict", "blacklist")
#: Seconds for a question that reads a few files.
_TIMEOUT = 20.0
#: Seconds for a container that does little: it starts in a third of one where nothing else runs.
EXEC_TIMEOUT = 60.0
# All that the job user needs, in one round trip: what Apptainer says, and an exit status a line; the last is sh's own.
_LOOK = 'apptainer --version 2>&1; echo "$?"; test -w /dev/fuse; echo "$?"; exec unshare --user true'


class ContainerOptions(TypedDict, total=False):
    """How a container is run. ``binds`` are ``source:target[:ro]``; ``env`` is set inside, whatever the caller has.

    ``flags`` are further options without a value, as Apptainer names them: ``("pid", "containall")``.
    """

    binds: Sequence[str]
    env: Mapping[str, str]
    flags: Sequence[str]
    cwd: str


@dataclass(frozen=True, slots=True)
class SifObject:
    """One object of a SIF file, by the file's own table: its bytes from ``start`` to before ``end``, and its type."""

    id: int
    start: int
    end: int
    type: str

    @property
    def is_system(self) -> bool:
        """Whether it is the file system that containers run on: ``FS (Squashfs/*System/amd64)``."""
        return self.type.startswith("FS (") and "/*System/" in self.type

    @property
    def architecture(self) -> str:
        """The processor that a file system is for, as Go calls it: ``amd64``; '' for other objects."""
        return self.type.rstrip(")").rpartition("/")[2] if self.is_system else ""


class Apptainer:
    """Apptainer on every machine. Containers run as the user that jobs run as, as jobs do."""

    name = "apptainer"
    installed: Literal[True] = True

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.user = cluster.config.user
        has_storage = cluster.config.storage.kind != "none"
        self.needs: tuple[str, ...] = ("storage",) if has_storage else ()

    def faults(self) -> tuple[str, ...]:
        """One line a machine that has no Apptainer, or on which the job user may not use what it stands on."""
        found = self.cluster.all.map(self._fault)
        return tuple(said for said in found.values() if said)

    def config(self, node: Node) -> dict[str, tuple[str, ...]]:
        """The directives of a machine's apptainer.conf. Raises FileError, AiHowError."""
        return parse_config(node.read(CONFIG), node.name)

    def exec(
        self, node: Node, image: str, *argv: str, timeout: float = EXEC_TIMEOUT, **options: Unpack[ContainerOptions]
    ) -> Result:
        """Run a program in a container on a machine as the job user; its outcome, whatever its status."""
        return node.run(*command("exec", image, *argv, **options), check=False, timeout=timeout, user=self.user)

    def run(
        self, node: Node, image: str, *argv: str, timeout: float = EXEC_TIMEOUT, **options: Unpack[ContainerOptions]
    ) -> Result:
        """Run an image's own program (its runscript) as :meth:`exec` runs another."""
        return node.run(*command("run", image, *argv, **options), check=False, timeout=timeout, user=self.user)

    def objects(self, node: Node, image: str) -> tuple[tuple[SifObject, ...], Result]:
        """What a SIF file's own table lists (nothing when it has none), and ``apptainer sif list`` as evidence."""
        told = node.run("apptainer", "sif", "list", image, check=False, timeout=_TIMEOUT, user=self.user)
        return parse_objects(told.stdout) if told.ok else (), told

    def _fault(self, node: Node) -> str:
        told = node.run("sh", "-c", _LOOK, check=False, timeout=3 * _TIMEOUT, user=self.user)
        *said, version, fuse = told.stdout.splitlines() or ("", "", "")
        if version != "0" or not parse_version("\n".join(said)):
            last = ([line for line in said if line.strip()] or [told.stderr.strip() or "no output"])[-1]
            return f"{node.name}: `apptainer --version` exited with {version or told.returncode}: {last}"
        if fuse != "0":
            return f"{node.name}: /dev/fuse cannot be opened by {self.user}; images are mounted by FUSE"
        if not told.ok:
            return f"{node.name}: {self.user} cannot make a user namespace: {told.stderr.strip() or 'no reason given'}"
        return ""


def command(verb: str, image: str, *argv: str, **options: Unpack[ContainerOptions]) -> tuple[str, ...]:
    """The command line that runs ``image``: what srun is given on a node, too.

    >>> command("exec", "base.sif", "true", binds=["/data:/data:ro"], env={"A": "b,c", "B": "c=d"}, flags=["cleanenv"])
    ('apptainer', 'exec', '--cleanenv', '--bind=/data:/data:ro', '--env=A=b,c', '--env="B=c=d"', 'base.sif', 'true')
    """
    words = [f"--{flag}" for flag in options.get("flags", ())]
    words += [f"--bind={bind}" for bind in options.get("binds", ())]
    words += [f"--env={_assignment(name, value)}" for name, value in options.get("env", {}).items()]
    if cwd := options.get("cwd"):
        words.append(f"--cwd={cwd}")
    return ("apptainer", verb, *words, image, *argv)


def _assignment(name: str, value: str) -> str:
    """``NAME=value`` as --env wants it: with a second ``=`` in it, it is read as comma-separated values (pflag 1.0)."""
    text = f"{name}={value}"
    return '"' + text.replace('"', '""') + '"' if "=" in value else text


def parse_version(text: str) -> str:
    r"""Read ``apptainer --version`` (1.4.5); '' when it is something else.

    >>> parse_version("apptainer version 1.4.5-2\n")
    '1.4.5-2'
    """
    found = re.fullmatch(r"apptainer version (\d+\.\d+\.\d+\S*)", text.strip())
    return found[1] if found else ""


def parse_build(text: str) -> dict[str, str]:
    r"""Read ``apptainer buildcfg`` (1.4.5): how the program was built, by key.

    >>> parse_build("PACKAGE_NAME=apptainer\nAPPTAINER_SUID_INSTALL=0\n")
    {'PACKAGE_NAME': 'apptainer', 'APPTAINER_SUID_INSTALL': '0'}
    """
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare by; what is packed with it (``-2``, ``+dfsg``) does not count.

    >>> release("1.4.5-2") > release("1.4.2")
    True
    """
    found = re.match(r"\d+(\.\d+)*", version)
    if not found:
        raise ValueError(f"{version!r} is not a version")
    return tuple(int(number) for number in found[0].split("."))


def parse_config(text: str, where: str) -> dict[str, tuple[str, ...]]:
    r"""Read apptainer.conf (Apptainer 1.4): each directive with all its values, since some may be repeated.

    >>> parse_config("# x\nallow setuid = no\nbind path = /a\nbind path = /b\n", "node01")
    {'allow setuid': ('no',), 'bind path': ('/a', '/b')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (bare := line.strip()) or bare.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in bare.partition("="))
        if not equals or not name:
            raise AiHowError(where, f"{CONFIG}:{number}: {bare!r}", expected="directive = value")
        found[name] = (*found.get(name, ()), value)
    return found


def parse_policy(text: str, where: str) -> dict[str, object]:
    r"""Read an execution control list (ecl.toml, Apptainer 1.4) and hold it to the form that Apptainer demands.

    >>> parse_policy("activated = false\n", "node01")
    {'activated': False}
    """
    try:
        policy = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AiHowError(where, f"{POLICY} is not TOML: {error}") from error
    if not isinstance(policy.get("activated"), bool):
        raise AiHowError(where, f"{POLICY} does not say whether it is activated", expected="activated = true or false")
    for group in policy.get("execgroup", ()):
        if group.get("mode") not in POLICY_MODES or not group.get("keyfp"):
            raise AiHowError(
                where,
                f"{POLICY}: group {group.get('tagname', '')!r} has mode {group.get('mode')!r} and "
                f"{len(group.get('keyfp', ()))} keys",
                expected=f"a mode of {', '.join(POLICY_MODES)}, and at least one key",
            )
    return policy


def parse_objects(text: str) -> tuple[SifObject, ...]:
    r"""Read ``apptainer sif list`` (1.4.5).

    >>> parse_objects("3    |1       |NONE    |36864-55697408            |FS (Squashfs/*System/amd64)\n")
    (SifObject(id=3, start=36864, end=55697408, type='FS (Squashfs/*System/amd64)'),)
    """
    rows = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
    return tuple(
        SifObject(int(row[0]), int(start), int(end), row[4])
        for row in rows
        if len(row) == 5 and row[0].isdecimal()
        for start, _, end in [row[3].partition("-")]
    )
