"""What is measured, how often, and what is to be reached."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from pytest_ai_how.lease.state import cache_home
from tests.bench.figure import ROOT, Figure, pytest_run, tool


def cluster_figures(times: int = 5) -> Iterator[Figure]:
    """Bring-up and take-down as whole commands, so that the interpreter's own start is in the figure."""
    ups, downs = [], []
    for _ in range(times):
        ups.append(tool("up", "--cluster", "local"))
        downs.append(tool("down", "--cluster", "local"))
    yield Figure("bring-up of local, warm: command to idle nodes and accounting", "s", 5, tuple(ups))
    yield Figure("take-down of local, verified empty", "s", 3, tuple(downs))


FIRST_CHECK = """
import time, os, pytest
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    if not os.path.exists(os.environ["FIRST_CHECK"]):
        with open(os.environ["FIRST_CHECK"], "w") as out:
            out.write(repr(time.time()))
"""


def attach_figure(times: int = 5) -> Figure:
    """From the start of the pytest process to the first line of the first check, on a cluster that is kept.

    One run before those that count, in which Python compiles the suites.
    """
    values = []
    tool("up", "--cluster", "local")
    try:
        for _ in range(times + 1):
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "first_check.py").write_text(FIRST_CHECK)
                mark = Path(folder, "time")
                env = {"PYTHONPATH": folder, "FIRST_CHECK": str(mark)}
                start = time.time()
                pytest_run(
                    "suites/phase6", "-p", "first_check", "-k", "SLU-08", "--cluster=local",
                    "--cluster-keep=always", env=env,
                )  # fmt: skip
                values.append(float(mark.read_text()) - start)
    finally:
        tool("down", "--cluster", "local")
    return Figure("attach to a kept cluster: process start to first check", "s", 1, tuple(values[1:]))


def phase6_figures() -> Iterator[Figure]:
    """Phase 6 as a person runs it, alone and with four workers, in one go."""
    yield Figure("phase 6 whole, warm", "s", 240, (pytest_run("suites/phase6", "--cluster=local")[0],))
    yield Figure("phase 6 whole, warm, -n4", "s", 240, (pytest_run("suites/phase6", "--cluster=local", "-n4")[0],))


def training_figures() -> Iterator[Figure]:
    """The suites that train, at the scale that needs no network and no GPU."""
    for suite, cluster, target, workers in (
        ("training", "local", 60, ()),
        ("distributed", "local", 120, ()),
        ("oumi", "mlops", 360, ()),
        ("oumi", "mlops", 360, ("-n2",)),
    ):
        seconds, _ = pytest_run(f"suites/mlops/{suite}", f"--cluster={cluster}", "--scale=smoke", *workers)
        yield Figure(", ".join((f"mlops/{suite} whole, warm, scale smoke", *workers)), "s", target, (seconds,))


def cold_figure() -> Figure:
    """Empty caches to verdict, with the system packages and the environment in place."""
    with tempfile.TemporaryDirectory(prefix="ai-how-cold-", dir="/var/tmp") as cache:
        seconds, _ = pytest_run("suites/phase6", "--cluster=local", "-n4", env={"XDG_CACHE_HOME": cache})
    return Figure("cold: empty caches to verdict of phase 6", "s", 360, (seconds,))


def unused_figure(times: int = 15) -> Figure:
    """What the installed plugin adds to pytest's start, with and without it in turn.

    A bare ``--version`` loads no plugin since pytest 9.1; given twice it loads and lists them all.
    """
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        extra = [
            (pytest_run("-VV", cwd=there)[0] - pytest_run("-VV", "-p", "no:ai_how", cwd=there)[0]) * 1000
            for _ in range(times)
        ]
    return Figure("plugin installed and unused: added to pytest -VV", "ms", 50, tuple(extra))


MANY = """
import pytest
@pytest.mark.parametrize("number", range(20_000))
def test_many(number):
    assert number >= 0
"""


def collection_figure(times: int = 3) -> Figure:
    """20,000 parametrised items, collected with the plugin."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_many.py").write_text(MANY)
        values = []
        for _ in range(times):
            seconds, out = pytest_run("--collect-only", "-q", "test_many.py", cwd=Path(folder))
            assert re.search(r"^20000 tests collected", out, re.MULTILINE), out[-300:]
            values.append(seconds)
    return Figure("collection of 20,000 parametrised items", "s", 5, tuple(values))


TRIVIAL = """
import os, pytest
@pytest.mark.parametrize("number", range(int(os.environ["CHECKS"])))
def test_trivial(cluster, evidence, number):
    evidence.result(cluster.controller.run("true"))
"""
BARE = """
import os, pytest
@pytest.mark.parametrize("number", range(int(os.environ["CHECKS"])))
def test_trivial(number):
    assert number >= 0
"""


def overhead_figure(times: int = 3) -> Figure:
    """A trivial check on a node over a kept connection, less a bare test.

    The slope between few and many checks leaves out what a session pays once: start-up, attaching, the report.
    """
    values = []
    tool("up", "--cluster", "local")
    try:
        for _ in range(times):
            check = _slope(TRIVIAL, "--cluster=local", "--cluster-keep=always")
            values.append((check - _slope(BARE, "-p", "no:ai_how")) * 1000)
    finally:
        tool("down", "--cluster", "local")
    return Figure("overhead of a trivial check on a node over a bare test", "ms", 10, tuple(values))


def _slope(text: str, *args: str, few: int = 20, many: int = 320) -> float:
    """Seconds that one more test takes."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_it.py").write_text(text)
        for count in (few, many):
            seconds[count], _ = pytest_run("test_it.py", "-q", *args, env={"CHECKS": str(count)}, cwd=Path(folder))
    return (seconds[many] - seconds[few]) / (many - few)


def machine_figures(times: int = 3) -> Iterator[Figure]:
    """Virtual machines: from the command to all nodes idle, and what of them libvirt and this host know afterwards."""
    from suites.phase6._inventory import difference, inventory

    ups, left = [], []
    for _ in range(times):
        before = inventory("vm")
        ups.append(tool("up", "--cluster", "vm"))
        tool("down", "--cluster", "vm")
        left.append(float(len(difference(before, inventory("vm")))))
    yield Figure("three virtual machines, warm image: command to idle nodes and accounting", "s", 40, tuple(ups))
    yield Figure("life cycle of virtual machines: residue", "", 0, tuple(left))


def restore_figure(times: int = 5) -> Figure:
    """The machines of ``vm``, without virtiofs, kept once and continued: from the command to idle nodes.

    What is kept is minutes old by the last time, as it is for a person.
    """
    with tempfile.TemporaryDirectory() as folder:
        described = yaml.safe_load((ROOT / "configs/vm.yaml").read_text())
        described |= {"name": "bench-restored", "bringup": "restore", "storage": {"kind": "none"}}
        path = Path(folder, "restored.yaml")
        path.write_text(yaml.safe_dump(described))
        env = {"XDG_CACHE_HOME": folder}
        for name in ("images", "kvm", "libvirt"):
            Path(folder, "pytest-ai-how").mkdir(exist_ok=True)
            Path(folder, "pytest-ai-how", name).symlink_to(cache_home() / name)
        ups = []
        for _ in range(times + 1):
            ups.append(tool("up", "--cluster", str(path), env=env))
            tool("down", "--cluster", "bench-restored", env=env)
    return Figure("three virtual machines that continue: command to idle nodes and accounting", "s", 6, tuple(ups[1:]))


def libvirt_figure(times: int = 3) -> Figure:
    """The longest call of libvirt's among those that define, find and forget three machines; none may probe QEMU."""
    from tests.bench.calls import longest_call

    return Figure("longest libvirt call of a cluster's life", "s", 0.5, tuple(longest_call() for _ in range(times)))


def fleet_figures() -> Iterator[Figure]:
    """Twenty read-only checks of 200 machines, side by side with others' tools."""
    from tests.bench.fleet.figures import fleet_figures

    yield from fleet_figures()


ALL: Mapping[str, Callable[[], Iterator[Figure] | Figure]] = {
    "unused": unused_figure,
    "collection": collection_figure,
    "cluster": cluster_figures,
    "attach": attach_figure,
    "overhead": overhead_figure,
    "phase6": phase6_figures,
    "training": training_figures,
    "cold": cold_figure,
    "machines": machine_figures,
    "restore": restore_figure,
    "libvirt": libvirt_figure,
    "fleet": fleet_figures,
}


def measure(names: Sequence[str]) -> Iterator[Figure]:
    """Measure the figures of these names, in order."""
    for name in names:
        found = ALL[name]()
        yield from [found] if isinstance(found, Figure) else found
