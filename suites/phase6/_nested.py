"""The product as its user runs it: pytest in a process of its own, on a small cluster of its own.

Twice the same profile with one GPU, then one without GPU and containers, and one without shared storage too. On
machines that we did not make, all run on those, with capabilities declared absent, and look only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pytest_ai_how.config.models import ClusterConfig, Storage
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.errors import AiHowError, HostError
from pytest_ai_how.lease import reap
from pytest_ai_how.report.model import RunReport
from pytest_ai_how.report.writer_json import load_report
from pytest_ai_how.shell import Result

from ._inventory import inventory

SUITE = Path(__file__).parent
#: Quick checks that change nothing: of jobs, of the registry with a figure, of GPUs.
SELECTED = ("SLU-08", "SLU-12", "STO-30", "STO-31", "SLU-31", "SLU-32", "SLU-35", "CON-25")
# Nothing answers there (discard, RFC 863): a run that asked a package archive for anything would not come far.
_OFFLINE = {"AI_HOW_MIRROR": "http://127.0.0.1:9"}
# Seconds: a hundred times what a run takes; and what it may take to end when it is told to.
_WITHIN, _GRACE = 600.0, 60.0
_FIRST, _SUBNETS = 201, 40
# What pytest_ai_how.progress writes before each line of it.
_PROGRESS = re.compile(r"\[ *\d+\.\d s\] ")


@dataclass(frozen=True, slots=True)
class Profile:
    """A configuration, and the capabilities that it does not have on purpose."""

    name: str
    config: ClusterConfig
    lacks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NestedRun:
    """One run: what it said, its reports, and the host before and after. ``started`` is Unix time."""

    profile: Profile
    result: Result
    report: RunReport
    folder: Path
    started: float
    before: frozenset[str]
    after: frozenset[str]


@dataclass(frozen=True, slots=True)
class Nested:
    """All runs: the same one twice, then the degraded ones."""

    first: NestedRun
    second: NestedRun
    degraded: tuple[NestedRun, ...]


# profiles


def profiles(config: ClusterConfig, driver: Driver, run_id: str) -> list[Profile]:
    """The profile with one GPU, then those with less."""
    name = f"nested-{run_id[-4:]}"
    gpu = {"gpu", "gpu.real", "gpu.pair"}
    containers = {"apptainer", "pytorch", "image.mpi", "image.pytorch", "image.oumi"}
    storage = {"shared-storage", "storage.raw", "storage.tree", "storage.baseline"}
    if not config.is_ours:
        same = config.model_copy(update={"name": name, "storage": _beside(config, name)})
        return [
            Profile("as it is", same),
            *(
                Profile(words, same.model_copy(update={"absent": (*config.absent, *sorted(lacks))}), frozenset(lacks))
                for words, lacks in (("no gpu", gpu), ("no gpu no containers", gpu | containers))
            ),
        ]
    whole = free(lambda subnet: _small(config, driver, name, subnet), driver, _FIRST, name)
    none = {"runtime": "none", "images": []}
    fewer = changed(whole, nodes=[{**node, "gpus": None} for node in _data(whole)["nodes"]], containers=none)
    least = changed(fewer, storage={"kind": "none"})
    return [
        Profile("one gpu", whole),
        Profile("no gpu no containers", fewer, frozenset(gpu | containers)),
        Profile("no storage either", least, frozenset(gpu | containers | storage)),
    ]


def _beside(config: ClusterConfig, name: str) -> Storage:
    """The storage of a run beside this one, which has a scratch folder already."""
    storage = config.storage
    return storage.model_copy(update={"mount": f"{storage.mount}-{name}"}) if storage.kind == "scratch" else storage


def free(make: Callable[[str], ClusterConfig], driver: Driver, first: int, name: str) -> ClusterConfig:
    """A cluster in a private subnet that this host has no other use for, as the driver sees it.

    ``make`` is given the first three numbers of the subnet, from 10.``first`` on; the third follows from the last two
    characters of ``name``, which are those of a run's identifier.
    """
    for number in range(first, first + _SUBNETS):
        small = make(f"10.{number}.{int(name[-2:], 16)}")
        try:
            driver.check(small)
        except HostError as error:
            if "subnet" not in error.seen:
                raise
            refused = error
        else:
            return small
    raise refused


def _small(config: ClusterConfig, driver: Driver, name: str, subnet: str) -> ClusterConfig:
    gpu = {"kind": "simulated", "count": 1}
    node = {"cpus": 1, "memory": 512}
    return changed(
        config,
        name=name,
        driver=driver.name,
        network={"subnet": f"{subnet}.0/24", "bridge": f"ah-{name}"},
        nodes=[
            {"name": "controller", "roles": ["controller"], "address": f"{subnet}.10", **node},
            {"name": "node01", "roles": ["compute"], "address": f"{subnet}.11", "gpus": gpu, **node},
        ],
        storage={"kind": "host-directory"},
        slurm={"cluster": name, "partitions": [{"name": "gpu", "nodes": ["node01"], "default": True}]},
        containers={"images": ["base"]},
        absent=[],
    )


def _data(config: ClusterConfig) -> dict[str, Any]:
    data: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return data


def as_yaml(config: ClusterConfig) -> str:
    """A configuration as its file says it."""
    return yaml.safe_dump(_data(config))


def changed(config: ClusterConfig, **changes: object) -> ClusterConfig:
    """A configuration with some of its keys replaced."""
    return ClusterConfig.model_validate_json(json.dumps({**_data(config), **changes}))


# runs


def run_nested(profile: Profile, folder: Path, checks: Iterable[str] = SELECTED) -> NestedRun:
    """Run the checks on a profile, from nothing to nothing. Raises :class:`AiHowError` when no report is there."""
    folder.mkdir(parents=True)
    cluster = folder / "cluster.yaml"
    cluster.write_text(as_yaml(profile.config))
    reports = folder / "reports"
    argv = [*selecting(folder, checks), f"--cluster={cluster}", f"--reports={reports}", "--cluster-keep=never"]
    before = inventory(profile.config.name)
    started = time.time()
    result = execute(argv, folder, environment(os.environ), _WITHIN)
    after = inventory(profile.config.name)
    written = list(reports.glob("*/report.json"))
    if len(written) != 1:
        raise AiHowError(
            "localhost",
            f"pytest with {profile.name} wrote {len(written)} reports\n{result.describe()}",
            expected="one report",
        )
    return NestedRun(profile, result, load_report(written[0]), written[0].parent, started, before, after)


def selecting(folder: Path, checks: Iterable[str]) -> list[str]:
    """The command that runs these checks of this suite in a pytest of its own, with a configuration from ``folder``."""
    ini = folder / "pytest.ini"
    ini.write_text("[pytest]\n")
    return [
        *(sys.executable, "-m", "pytest", str(SUITE), f"--rootdir={SUITE.parents[1]}", f"--config-file={ini}"),
        *("-p", "no:cacheprovider", "--color=no", "-k", " or ".join(checks)),
    ]


def environment(outer: Mapping[str, str]) -> dict[str, str]:
    """The environment for a run that takes nothing from the one around it, and that nothing answers outside of."""
    ours = ("AI_HOW_", "PYTEST_")
    return {**{name: value for name, value in outer.items() if not name.startswith(ours)}, **_OFFLINE}


def execute(argv: list[str], folder: Path, environ: Mapping[str, str], within: float) -> Result:
    """Run a command in ``folder`` to its end. When we are told to end, or ``within`` seconds are over, it is, too."""
    log = folder / "output"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            _end(process)
        except BaseException:
            _end(process)
            raise
    said = log.read_text(errors="replace")
    return Result(tuple(argv), process.returncode, said, seconds=time.monotonic() - started)


def exit_of(result: Result) -> str:
    r"""What a command of ours exited with and what it said to that, without the progress before.

    >>> exit_of(Result(("up",), 1, "[  0.4 s] small: starting\nnode01: does not boot\n  do: read console.log\n"))
    'exited with 1, expected 0: node01: does not boot\n  do: read console.log'
    """
    lines = f"{result.stdout}\n{result.stderr}".splitlines()
    said = "\n".join(line for line in lines if line.strip() and not _PROGRESS.match(line))
    return f"exited with {result.returncode}, expected 0: {said or 'it said nothing'}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def nothing_left(name: str, run_id: str) -> Iterator[None]:
    """Whatever happens to a run inside: what it leaves of its cluster is taken down."""
    try:
        yield
    finally:
        reap.take_down(name, f"{run_id}-nested")
