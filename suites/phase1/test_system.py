"""The operating system of each machine: its clock, version, packages, units, space, log, and what it listens on."""

from __future__ import annotations

import pytest

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.listening import LISTENING
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements

from ._clocks import apart, clock
from ._facts import FAILED, KERNEL, KERNEL_LOG, MODULES, PACKAGES, SPACE, STATE, SYSTEM
from ._kernel_log import troubles
from ._ports import declared, of_node, undeclared
from ._system import drifted, kernel_demand, profile, too_old


@pytest.mark.check("INF-10")
@pytest.mark.requires("machines.several")
def test_clocks(cluster: Cluster, evidence: Evidence, measure: Measurements) -> None:
    """All machines, asked at the same moment, tell the same time."""
    clocks = cluster.all.map(lambda node: clock(node, evidence)).values()
    evidence.attach("clocks", "\n".join(map(str, clocks)))
    for one in clocks:
        measure("node.clock_uncertainty", one.uncertainty, "s", node=one.node)
    worst, other, seconds = apart(clocks)
    evidence.attach("the two furthest apart", f"{worst}\n{other}")
    measure("node.clock_offset", seconds, "s", node=worst.node, samples=len(clocks))


@pytest.mark.check("INF-11")
@pytest.mark.requires("os.declared")
@pytest.mark.reads(SYSTEM)
def test_operating_system(facts: Facts) -> None:
    """Every machine runs the Debian that configs/versions.yaml declares."""
    wanted = Source.shipped().demands().suite
    for name, system in facts(SYSTEM).items():
        seen = f"{system.get('ID', 'nobody')} {system.get('VERSION_CODENAME', 'unknown')}"
        assert seen == f"debian {wanted}", f"{name}: runs {seen}, expected debian {wanted}"


@pytest.mark.check("INF-11")
@pytest.mark.requires("kernel.own", "os.declared")
@pytest.mark.reads(KERNEL, PACKAGES, MODULES)
def test_kernels(facts: Facts) -> None:
    """All machines run the same kernel, no older than declared, and have its headers where modules are built."""
    kernels, packages, modules = facts(KERNEL), facts(PACKAGES), facts(MODULES)
    first, lowest = next(iter(kernels)), kernel_demand(Source.shipped().demands())
    for name, kernel in kernels.items():
        assert kernel == kernels[first], f"{name}: runs kernel {kernel}, {first} runs {kernels[first]}; expected one"
        assert not too_old(kernel, lowest), f"{name}: runs kernel {kernel}, expected {lowest} or later"
        wrong = drifted(kernel, packages[name], modules[name])
        assert not wrong, f"{name}: {wrong}"


@pytest.mark.check("INF-12")
@pytest.mark.requires("packages.claimed")
@pytest.mark.reads(PACKAGES)
def test_packages(bringup: Bringup, cluster: Cluster, facts: Facts, evidence: Evidence) -> None:
    """Every package that the roles of the machines' image declare is installed; elsewhere every one that is claimed."""
    wanted = profile(cluster.config, bringup.driver.name)
    evidence.attach("declared", "\n".join(wanted))
    assert wanted, f"{cluster.name}: no package is declared; nothing was compared"
    for name, found in facts(PACKAGES).items():
        missing = [package for package in wanted if package not in found]
        assert not missing, (
            f"{name}: {len(missing)} of {len(wanted)} declared packages are not installed: {', '.join(missing)}"
        )


@pytest.mark.check("INF-13")
@pytest.mark.requires("systemd")
@pytest.mark.reads(STATE, FAILED)
def test_systemd(facts: Facts) -> None:
    """The state of systemd is running on every machine, and no unit has failed."""
    states, failed = facts(STATE), facts(FAILED)
    for name, units in failed.items():
        assert not units, f"{name}: {', '.join(units)} failed; read `systemctl status {units[0]}` there"
    for name, state in states.items():
        assert state == "running", f"{name}: systemd is {state}, expected running; read `systemctl list-jobs` there"


@pytest.mark.check("INF-14")
@pytest.mark.reads(SPACE)
def test_space(facts: Facts, measure: Measurements) -> None:
    """Every machine has room on its root and where its logs are, for bytes and for files."""
    for name, spaces in facts(SPACE).items():
        assert "/" in spaces, f"{name}: df does not tell of /; nothing was measured"
        for mount, space in spaces.items():
            measure("node.space", space.percent, "%", node=f"{name}: {mount}")


@pytest.mark.check("INF-15")
@pytest.mark.requires("kernel.own", "root")
@pytest.mark.reads(KERNEL_LOG)
def test_kernel_log(facts: Facts) -> None:
    """Since it booted no machine's kernel has told of an oops, a hung task, an I/O error or memory that ran out."""
    for name, log in facts(KERNEL_LOG).items():
        found = troubles(log)
        assert not found, (
            f"{name}: its kernel tells of {found[0][0]}, {len(found)} lines in all, first: {found[0][1].strip()}"
        )


@pytest.mark.check("INF-43")
@pytest.mark.requires("ports.declared")
@pytest.mark.exclusive  # a job may listen on what it likes
def test_listening(cluster: Cluster, evidence: Evidence) -> None:
    """What others can reach of an idle machine is declared for its roles; what only it can reach does not matter."""
    ports = declared(cluster.config)
    for name, told in cluster.all.run(*LISTENING.argv).items():
        evidence.result(told)
        listeners = LISTENING.of(told)
        allowed = of_node(ports, cluster[name].config)
        evidence.attach(f"{name}: declared", "\n".join(map(str, allowed)))
        assert listeners, f"{name}: listens on nothing, though we came by ssh; nothing was compared"
        more = undeclared(allowed, listeners)
        assert not more, (
            f"{name}: listens on {more[0]}, which no role declares"
            + (f" (and {len(more) - 1} more)" if more[1:] else "")
            + "; stop it, or declare it under 'ports' in its role.yaml, or in claims.ports"
        )
