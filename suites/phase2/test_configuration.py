"""TASK-042: what slurmctld runs with is what the cluster's YAML says, and the same wherever it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from itertools import zip_longest
from types import MappingProxyType

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import FactError
from pytest_ai_how.facts import Fact
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import (
    CONF_TEXT,
    CONFIG,
    PARTITIONS,
    SLURM_CONF,
    SLURMDBD_CONF,
    PartitionSettings,
    control_hosts,
)
from pytest_ai_how.services.slurm.values import minutes

from .._machine import File, digest, files
from ..phase1._facts import resolves
from ._alike import Odd, odd_one

pytestmark = pytest.mark.requires("slurm")

CONF_DIGEST = replace(digest(SLURM_CONF), after="slurm")
DBD_FILES = replace(files(SLURMDBD_CONF), after="slurm")
#: Passwords that installation guides and upstream's own role use as examples. They are compared where they are.
WEAK = "slurm|slurmdbd|password|passwd|some_pass|changeme|secret|admin|root"
WEAK_PASSWORDS: Fact[int] = Fact(
    "passwords that everybody knows",
    ("grep", "-ciE", rf"^[[:space:]]*StoragePass[[:space:]]*=[[:space:]]*({WEAK})[[:space:]]*$", SLURMDBD_CONF),
    int,
    frozenset({0, 1}),
    "slurm",
)
#: What slurmd reads besides slurm.conf: gres.conf, cgroup.conf. It prints them and ends; no second daemon is started.
GRES_PRINTED: Fact[str] = Fact("what slurmd reads of its files", ("slurmd", "-G"), str, after="slurm")
#: The plug-ins that jobs are scheduled, placed, tracked and confined by.
PLUGINS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "SchedulerType": frozenset({"sched/backfill"}),
        "SelectType": frozenset({"select/cons_tres"}),
        "ProctrackType": frozenset({"proctrack/cgroup"}),
        "TaskPlugin": frozenset({"task/cgroup", "task/affinity"}),
    }
)


@pytest.mark.check("SLU-05")
@pytest.mark.reads(CONF_DIGEST, CONF_TEXT)
def test_slurm_conf_is_equal(slurm: Slurm, facts: Facts) -> None:
    """All machines have the same slurm.conf, byte by byte."""
    names = slurm.cluster.all.names
    odd = odd_one(facts(CONF_DIGEST, names))
    if odd is not None:
        where = different_line(facts(CONF_TEXT, names), odd)
        raise AssertionError(
            f"{odd.node}: {SLURM_CONF} is another one than that of {odd.other}: {where}; expected the same sha256 on "
            "all machines; do: render it once and copy it to all, then `scontrol reconfigure`"
        )


def different_line(texts: Mapping[str, str], odd: Odd) -> str:
    """The first line in which the files of two machines differ, in words."""
    pairs = zip_longest(texts[odd.node].splitlines(), texts[odd.other].splitlines())
    for number, (mine, other) in enumerate(pairs, 1):
        if mine != other:
            return f"line {number} is {mine!r}, there {other!r}"
    return "only the newlines at its end differ"


@pytest.mark.check("SLU-06")
@pytest.mark.requires("network")
@pytest.mark.reads(CONF_TEXT)
def test_control_address(slurm: Slurm, facts: Facts) -> None:
    """The name of slurmctld's machine stands for the configured address on all machines, and never for loopback."""
    controller, names = slurm.cluster.controller, slurm.cluster.all.names
    texts = facts(CONF_TEXT, names)
    named = {node: control_hosts(text)[:1] for node, text in texts.items()}
    for node, hosts in named.items():
        assert hosts, f"{node}: {SLURM_CONF} names no SlurmctldHost; expected {controller.name}({controller.address})"
        for word in filter(is_address, [hosts[0].address]):
            assert word == controller.address, wrong_address(node, "SlurmctldHost", word, controller.address)
    for name in dict.fromkeys(
        word for hosts in named.values() for one in hosts for word in (one.name, one.address) if not is_address(word)
    ):
        for node, found in facts(resolves([name]), names).items() if name else ():
            # By the canonical name, which may be a longer one.
            known = [address for those in found.values() for address in those]
            assert known, (
                f"{node}: the name {name!r} of slurmctld's machine is not known; expected {controller.address}"
            )
            for address in known:
                assert address == controller.address, wrong_address(node, f"{name!r}", address, controller.address)


def is_address(word: str) -> bool:
    """Whether a word is an address, not a name."""
    try:
        return bool(ip_address(word))
    except ValueError:
        return False


def wrong_address(node: str, what: str, address: str, wanted: str) -> str:
    """The message for a name that stands for another address than the cluster's YAML says."""
    loopback = ", which is the machine itself" if ip_address(address).is_loopback else ""
    return (
        f"{node}: {what} stands for {address}{loopback}; expected {wanted}, as the cluster's YAML says; do: correct "
        "/etc/hosts (a machine's own name may not stand in a line of 127.0.0.0/8) or slurm.conf"
    )


@pytest.mark.check("SLU-09")
@pytest.mark.reads(PARTITIONS)
def test_partitions(slurm: Slurm, facts: Facts) -> None:
    """Slurm has the partitions of the YAML and no other, with their nodes, limits and default."""
    controller = slurm.cluster.controller.name
    found, wanted = facts(PARTITIONS, [controller])[controller], declared_partitions(slurm.cluster.config)
    assert wanted, f"{slurm.cluster.name}: the YAML declares no partition; nothing to compare"
    wrong = list(partition_mistakes(found, wanted))
    assert not wrong, f"{controller}: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")


def declared_partitions(config: ClusterConfig) -> dict[str, PartitionSettings]:
    """The partitions of the YAML, as slurmctld is to have them."""
    partitions = config.slurm.partitions if config.slurm else ()
    return {one.name: PartitionSettings(one.nodes, one.default, minutes(one.max_time)) for one in partitions}


def partition_mistakes(
    found: Mapping[str, PartitionSettings], wanted: Mapping[str, PartitionSettings]
) -> Iterator[str]:
    """How the partitions differ from those that the YAML declares, in words."""
    for name in wanted.keys() - found.keys():
        yield f"Slurm has no partition {name!r}; expected it, with the nodes {', '.join(wanted[name].nodes)}"
    for name in found.keys() - wanted.keys():
        yield f"Slurm has a partition {name!r} that the YAML does not declare; expected {', '.join(wanted)}"
    for name in wanted.keys() & found.keys():
        seen, claimed = found[name], wanted[name]
        if sorted(seen.nodes) != sorted(claimed.nodes):
            yield f"partition {name!r} has the nodes {', '.join(seen.nodes)}; expected {', '.join(claimed.nodes)}"
        if seen.default != claimed.default:
            yield f"partition {name!r} is {'' if seen.default else 'not '}the default; the YAML says the opposite"
        if seen.max_minutes != claimed.max_minutes:
            limits = [
                f"{one} min" if one is not None else "no limit" for one in (seen.max_minutes, claimed.max_minutes)
            ]
            yield f"partition {name!r} has a time limit of {limits[0]}; expected {limits[1]}"


@pytest.mark.check("SLU-11")
@pytest.mark.requires("cgroup.cpu")
@pytest.mark.reads(CONFIG)
def test_plugins(slurm: Slurm, facts: Facts) -> None:
    """Jobs are scheduled by backfill, placed by resources, and tracked and confined by control groups."""
    controller = slurm.cluster.controller.name
    config = facts(CONFIG, [controller])[controller]
    for key, wanted in PLUGINS.items():
        missing = wanted - set(config.get(key, "").split(","))
        assert not missing, (
            f"{controller}: {key} is {config.get(key) or 'not set'}; expected {', '.join(sorted(missing))} in it; do: "
            f"correct {SLURM_CONF} on all machines"
        )


@pytest.mark.check("SLU-30")
@pytest.mark.requires("accounting")
@pytest.mark.reads(DBD_FILES, WEAK_PASSWORDS)
def test_slurmdbd_keeps_its_secret(slurm: Slurm, facts: Facts) -> None:
    """slurmdbd.conf is its own user's alone, and a password in it is none that everybody knows."""
    controller = slurm.cluster.controller.name
    found, wanted = facts(DBD_FILES, [controller])[controller], File("0600", "slurm", "slurm")
    assert SLURMDBD_CONF in found, f"{controller}: {SLURMDBD_CONF} is not there; expected it with {wanted}"
    assert found[SLURMDBD_CONF] == wanted, (
        f"{controller}: {SLURMDBD_CONF} is {found[SLURMDBD_CONF]}, expected {wanted}: it may hold a password"
    )
    weak = facts(WEAK_PASSWORDS, [controller])[controller]
    assert not weak, (
        f"{controller}: StoragePass in {SLURMDBD_CONF} is a default that everybody knows; do: take another one, or let "
        "MariaDB know the user slurm by its unix socket, which needs none"
    )


@pytest.mark.check("SLU-49")
@pytest.mark.reads(CONFIG, GRES_PRINTED)
def test_files_are_valid(slurm: Slurm, facts: Facts) -> None:
    """Every machine's programs accept its files, and slurmctld has loaded these very ones: none waits to break it.

    No second daemon is started for this: scontrol refuses a slurm.conf that it can't parse, and compares it with what
    slurmctld runs with (HASH_VAL). Slurm 24.11 has no test mode of slurmctld.
    """
    try:
        found = facts(CONFIG, slurm.cluster.all.names)
        facts(GRES_PRINTED, slurm.cluster.on("compute").names)
    except FactError as error:
        raise AssertionError(f"{error}; expected files that Slurm can read; do: correct that line") from error
    for node, config in found.items():
        assert config.get("HASH_VAL") == "Match", (
            f"{node}: its {SLURM_CONF} is not what slurmctld runs with (HASH_VAL is {config.get('HASH_VAL')}); "
            "expected Match; do: `scontrol reconfigure`, and read slurmctld's log when that changes nothing"
        )
