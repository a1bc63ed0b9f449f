"""What is read of a machine about Slurm, and how it is understood (Slurm 24.11.5)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pytest_ai_how.facts import Fact
from pytest_ai_how.services.slurm.records import NodeRecord
from pytest_ai_how.services.slurm.values import hosts, minutes

#: Where Debian and Slurm's own builds with ``--sysconfdir=/etc/slurm`` keep it.
SLURM_CONF = "/etc/slurm/slurm.conf"
SLURMDBD_CONF = "/etc/slurm/slurmdbd.conf"
PLUGSTACK = "/etc/slurm/plugstack.conf"


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """A partition as slurmctld has it; ``max_minutes`` is None when unlimited."""

    nodes: tuple[str, ...]
    default: bool
    max_minutes: int | None


@dataclass(frozen=True, slots=True)
class ControlHost:
    """A machine of slurmctld in slurm.conf: its name, and the address to use for it, '' where it is looked up."""

    name: str
    address: str


def parse_config(text: str) -> dict[str, str]:
    r"""Read ``scontrol show config``: key and value a line; the sections of plug-ins have keys of their own.

    >>> parse_config("SchedulerType    = sched/backfill\nEpilog[0]    = /e\nTaskProlog = (null)\n\nCgroup:")
    {'SchedulerType': 'sched/backfill', 'Epilog[0]': '/e', 'TaskProlog': ''}
    """
    rows = (line.partition("=") for line in text.splitlines() if "=" in line)
    found = {key.strip(): "" if value.strip() == "(null)" else value.strip() for key, _, value in rows}
    if "SLURM_CONF" not in found and "SchedulerType" not in found:
        raise ValueError("no configuration of Slurm in it")
    return found


def parse_nodes(text: str) -> dict[str, NodeRecord]:
    """Read ``scontrol show node --json``; a sample is in tests/data/slurm."""
    return {record.name: record for record in map(NodeRecord.of, json.loads(text)["nodes"])}


def parse_partitions(text: str) -> dict[str, PartitionSettings]:
    """Read ``scontrol show partition --oneliner``, which says of all forms alone which partition is the default.

    >>> parse_partitions("PartitionName=gpu AllowGroups=ALL Default=YES MaxTime=01:00:00 Nodes=node[01-02] State=UP")
    {'gpu': PartitionSettings(nodes=('node01', 'node02'), default=True, max_minutes=60)}
    """
    found = {}
    for line in text.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split())
        found[fields["PartitionName"]] = PartitionSettings(
            hosts(fields["Nodes"]), fields["Default"] == "YES", minutes(fields["MaxTime"])
        )
    return found


def parse_versions(text: str) -> dict[str, str]:
    r"""Read what programs say for ``-V``, each after its name.

    >>> parse_versions("slurmd slurm-wlm 24.11.5\nsinfo slurm 24.11.5")
    {'slurmd': '24.11.5', 'sinfo': '24.11.5'}
    """
    found = re.findall(r"^(\w+) slurm\S* (\d\S+)$", text, re.MULTILINE)
    if not found:
        raise ValueError("no program of Slurm told its version")
    return dict(found)


def control_hosts(text: str) -> tuple[ControlHost, ...]:
    r"""The machines of slurmctld in the text of a slurm.conf, the first one first.

    >>> control_hosts("# SlurmctldHost=old\nSlurmctldHost=controller(10.78.0.10)\nslurmctldhost = spare")
    (ControlHost(name='controller', address='10.78.0.10'), ControlHost(name='spare', address=''))
    """
    found = re.findall(r"^\s*SlurmctldHost\s*=\s*([^\s(#]+)(?:\(([^)]*)\))?", text, re.MULTILINE | re.IGNORECASE)
    return tuple(ControlHost(*one) for one in found)


_ASK_VERSIONS = 'for name; do command -v "$name" >/dev/null && printf "%s " "$name" && "$name" -V; done; true'

#: What slurmctld runs with, as the programs of this machine read it; they refuse a slurm.conf that they can't parse.
CONFIG: Fact[dict[str, str]] = Fact(
    "Slurm's configuration", ("scontrol", "show", "config"), parse_config, after="slurm"
)
#: The nodes that slurmctld knows.
NODES: Fact[dict[str, NodeRecord]] = Fact(
    "Slurm's nodes", ("scontrol", "show", "node", "--json"), parse_nodes, after="slurm"
)
#: The partitions that slurmctld has.
PARTITIONS: Fact[dict[str, PartitionSettings]] = Fact(
    "Slurm's partitions", ("scontrol", "show", "partition", "--oneliner"), parse_partitions, after="slurm"
)
#: The versions of the programs that are installed, by program.
VERSIONS: Fact[dict[str, str]] = Fact(
    "Slurm's versions", ("sh", "-c", _ASK_VERSIONS, "sh", "sinfo", "slurmctld", "slurmdbd", "slurmd"), parse_versions
)
#: The text of slurm.conf.
CONF_TEXT: Fact[str] = Fact(SLURM_CONF, ("cat", SLURM_CONF), str)
