"""What the machines of a cluster in order tell about Slurm (Debian 13, Slurm 24.11.5), to be spoilt by tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_ai_how.facts import Fact, Readings
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONF_TEXT, CONFIG, NODES, PARTITIONS, VERSIONS
from pytest_ai_how.shell import Result
from suites._machine import CONTAINER
from suites.phase1._facts import CPUS, MEMORY
from suites.phase2 import test_configuration as configuration
from suites.phase2 import test_daemons as daemons
from suites.phase2 import test_munge as munge
from suites.phase2 import test_nodes as nodes
from suites.phase2._journal import LAST
from suites.phase2._spank import STACK
from tests.fakes import fake_cluster
from tests.unit.suites.task042_fakes import DATA, nodes_json

NAMES = ("controller", "node01", "node02")
Told = Mapping[Fact[Any], str | Result]

MUNGE = """\
0400 munge munge /etc/munge/munge.key
0700 munge munge /etc/munge
0711 munge munge /var/lib/munge
0700 munge munge /var/log/munge
0755 munge munge /run/munge"""
CONF = "ClusterName=local\nSlurmctldHost=controller(10.78.0.10)\nSlurmUser=slurm\n"
VERSIONS_TOLD = "".join(f"{name} slurm-wlm 24.11.5\n" for name in ("sinfo", "slurmctld", "slurmdbd", "slurmd"))
STACK_TOLD = """\
==> /etc/slurm/plugstack.conf <==
include /etc/slurm/plugstack.conf.d/*.conf
==> /etc/slurm/plugstack.conf.d/pbs.conf <==
# Jobs get the names of PBS, too.
optional spank_pbs.so"""
LINE = '{"__REALTIME_TIMESTAMP":"2000000","_SYSTEMD_UNIT":"munge.service","MESSAGE":"Started."}'


def data(name: str) -> str:
    """A file that was captured."""
    return Path(DATA / f"24.11.5-{name}").read_text()


def digest(letter: str) -> str:
    """What sha256sum says of a file with such a digest."""
    return f"{letter * 64}  /a/file"


def slurm_nodes(**changes: Mapping[str, Any]) -> str:
    """``scontrol show node --json`` of two nodes whose memory is what we tell Slurm, and changes by name."""
    return nodes_json(**{name: {"real_memory": 972} | dict(changes.get(name, {})) for name in ("node01", "node02")})


def services(node: str, **changes: str) -> str:
    """``systemctl show`` of the daemons of a machine; ``slurmd="failed disabled"`` is another state than is right."""
    runs = ("munge", "slurmctld", "slurmdbd", "mariadb") if node == "controller" else ("munge", "slurmd")
    states = {name: "active enabled" if name in runs else "inactive enabled" for name in daemons_of()} | changes
    return "\n\n".join(
        f"Id={name}.service\nActiveState={state.split()[0]}\nUnitFileState={state.partition(' ')[2]}"
        for name, state in states.items()
    )


def daemons_of() -> tuple[str, ...]:
    """The daemons that machines are asked for."""
    return ("munge", "slurmctld", "slurmdbd", "mariadb", "slurmd")


def usual(node: str) -> dict[Fact[Any], str | Result]:
    """What a machine tells when all is well."""
    return {
        munge.MUNGE_FILES: MUNGE,
        munge.MUNGE_KEY: digest("a"),
        daemons.DAEMONS: services(node),
        nodes.SLURMD: services(node).split("\n\n")[-1],
        VERSIONS: VERSIONS_TOLD,
        CONFIG: data("scontrol-config.txt"),
        NODES: slurm_nodes(),
        PARTITIONS: data("scontrol-partition-oneliner.txt"),
        CONF_TEXT: CONF,
        configuration.CONF_DIGEST: digest("c"),
        configuration.DBD_FILES: "0600 slurm slurm /etc/slurm/slurmdbd.conf",
        configuration.WEAK_PASSWORDS: "0",
        configuration.GRES_PRINTED: "",
        CPUS: "2",
        MEMORY: "MemTotal:        1009664 kB",
        CONTAINER: "none",
        STACK: STACK_TOLD,
        LAST: LINE,
    }


def facts(more: Told | None = None, evidence: Evidence | None = None, **changes: Told) -> Facts:
    """What all machines tell: the usual, ``more`` on each of them, and by its name what one tells otherwise."""
    told = {node: {**usual(node), **(more or {}), **changes.get(node, {})} for node in NAMES}
    return Facts(Readings.told(told), evidence or Evidence())


def slurm() -> Slurm:
    """Slurm on machines that answer nothing but facts."""
    return Slurm(fake_cluster({}), run="r1")


def refused(*words: str) -> Result:
    """A command that ended with 1 and these words."""
    return Result((), 1, stderr=" ".join(words))
