"""A fault and what is to be seen of it, for all groups of checks."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from .inject import APPTAINER_CONF, SLURM_CONF, Inject, edited
from .live import Check, Live

#: Without these no machine is made.
NEEDED = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]
CGROUP_CONF, ECL = "/etc/slurm/cgroup.conf", "/etc/apptainer/ecl.toml"
# reset-failed also forgets how often a unit was started lately, which systemd else limits to five in ten seconds.
RESTART_SLURMD = "systemctl reset-failed slurmd; systemctl restart slurmd"
RESTART_SLURMCTLD = "systemctl reset-failed slurmctld; systemctl restart slurmctld"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what the first line of each check that must see it says."""

    inject: Inject
    seen: Sequence[tuple[Check, str]]


def sees(check: Check, says: str, inject: Inject) -> Fault:
    return Fault(inject, [(check, says)])


def unconfined(key: str) -> Inject:
    """A node whose jobs are not held to what they asked for."""
    return edited("node01", CGROUP_CONF, f"{key}=yes", f"{key}=no", RESTART_SLURMD)


def conf(node: str, old: str, new: str) -> Inject:
    """A line of slurm.conf that is another on one machine."""
    then = RESTART_SLURMCTLD if node == "controller" else RESTART_SLURMD
    return edited(node, SLURM_CONF, old, new, then)


def apptainer_conf(directive: str, right: str, wrong: str) -> Inject:
    """A directive of apptainer.conf that is another on one machine."""
    return edited("node02", APPTAINER_CONF, f"{directive} = {right}", f"{directive} = {wrong}")


def put_to_the_test(live: Live, fault: Fault) -> None:
    """Make the fault; each check goes red and names the culprit; undo it, and each is green again."""
    with fault.inject(live):
        for check, says in fault.seen:
            verdict = live.judge(check)
            assert verdict.kind == "red", f"{check.__name__} is {verdict.kind}: {verdict.text}"
            assert re.match(says, verdict.text.replace("\n", " ")), f"{check.__name__} says:\n{verdict.text}"
    live.settle()
    for check, _ in fault.seen:
        again = live.judge(check)
        # A figure is the host's, which others use meanwhile; what the fault broke is a fact.
        assert again.kind in {"green", "figure"}, f"{check.__name__} stays {again.kind}: {again.text}"
