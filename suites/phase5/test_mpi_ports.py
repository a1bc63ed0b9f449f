"""TASK-042: the ports of MPI jobs: the range is reachable between all nodes, and jobs keep to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.listening import Listener
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.services.slurm.facts import CONFIG

from ..phase6._containers import cause, culprit
from ..phase6._slurm_jobs import cancelling, collect, completed, judged, submit
from ._ranks import placed
from ._sockets import Connection, appeared, connections, listeners

pytestmark = [pytest.mark.requires("slurm", "shared-storage"), pytest.mark.exclusive("slurm")]

#: What jobs may listen on: SLU-24, and what a firewall between nodes is to let through.
PORTS = range(12000, 13000)
#: MiB on each node.
MEMORY = 128
#: Besides the last port every so-manieth is tried: rules of firewalls are about ranges.
EACH = 111


@pytest.mark.check("SLU-24")
@pytest.mark.requires("compute.several")
@pytest.mark.reads(CONFIG)
def test_range_is_reachable(slurm: Slurm, facts: Facts, evidence: Evidence, run_id: str) -> None:
    """Slurm keeps to the range, and in a job each node reaches ports of it on each other node."""
    for machine, config in facts(CONFIG).items():
        configured(machine, config)
    nodes = slurm.cluster.on("compute")
    assert len(nodes) > 1, f"{nodes[0].name}: is the only compute node; whether others reach its ports can't be told"
    addresses = json.dumps({node.name: node.address for node in nodes})
    ports = sorted({*PORTS[::EACH], PORTS[-1]})
    with placed(slurm, run_id, "ports.py") as folder:
        argv = ("python3", f"{folder}/ports.py", folder, addresses, ",".join(map(str, ports)))
        result = slurm.srun(*argv, nodes=len(nodes), ntasks=len(nodes), ntasks_per_node=1, mem=MEMORY)
    evidence.result(result, "ports.py on all compute nodes")
    assert result.ok, f"{culprit(result)}: ports.py ended with {result.returncode}: {cause(result)}"
    reached([json.loads(line) for line in result.stdout.splitlines()], nodes.names, len(ports))


def configured(machine: str, config: Mapping[str, str]) -> None:
    """Hold ``MpiParams=ports=12000-12499`` and ``SrunPortRange=12500-12999`` (slurm.conf(5)) to the range."""
    for key in ("MpiParams", "SrunPortRange"):
        bounds = [int(word) for word in re.findall(r"\d+", config.get(key, ""))] or [0]
        assert set(bounds) <= set(PORTS), (
            f"{machine}: {key} is {config.get(key) or 'unset'}, expected ports in {shown()}; do: set it in slurm.conf"
        )


def reached(told: Sequence[Mapping[str, Any]], names: Sequence[str], ports: int) -> None:
    """Each node told of as many ports on each other node, and reached them all."""
    tried = {one["node"]: one["tried"] for one in told}
    for name in names:
        assert tried.get(name) == ports * (len(names) - 1), (
            f"{name}: tried {tried.get(name, 'no')} connections, expected {ports} to each of {len(names) - 1} nodes"
        )
    failed = [one for found in told for one in found["failed"]]
    for held in (one for one in failed if not one["from"]):
        raise AssertionError(f"{held['to']}: port {held['port']} can't be listened on: {held['error']}")
    for first in failed:
        more = sum((one["from"], one["to"]) == (first["from"], first["to"]) for one in failed)
        raise AssertionError(
            f"{first['from']}: port {first['port']} of {first['to']} is not reached: {first['error']} ({more} of "
            f"{ports} there); expected all of {shown()}; do: open them in the firewall of {first['to']}"
        )


@pytest.mark.check("SLU-24")
@pytest.mark.requires("mpi", "compute.several")
def test_jobs_keep_to_the_range(slurm: Slurm, evidence: Evidence, run_id: str) -> None:
    """While ranks on two nodes exchange data, all that listens for the job is in the range, and carries the data."""
    nodes = slurm.cluster.on("compute")
    before = {node.name: listeners(node, evidence) for node in nodes}
    with placed(slurm, run_id, "mpi/ranks.py", "mpi/exchange.py") as folder, cancelling(slurm) as ids, judged():
        script = f"exec srun --mpi=pmix python3 {folder}/exchange.py {folder}"
        job = submit(slurm, JobSpec(script, name="exchange", nodes=2, ntasks=2, ntasks_per_node=1, mem=MEMORY, time=3))
        ids.append(job)
        ranks = {one["node"]: one["pid"] for one in begun(slurm, job, folder, 2)}
        new = {name: appeared(before[name], listeners(slurm.cluster[name], evidence)) for name in ranks}
        held = {name: connections(slurm.cluster[name], evidence) for name in ranks}
        slurm.query("touch", f"{folder}/stop")
        run = completed(collect(slurm, evidence, [job])[0])
    in_range(ranks, new, held)
    for told in json.loads(run.stdout):
        assert told["whole"], f"{told['node']}: rank {told['rank']} of {run.label} got no message whole"


def begun(slurm: Slurm, job: int, folder: str, ranks: int) -> list[dict[str, Any]]:
    """Wait until data has flowed between the ranks of a job, and return what each wrote then: its node and process."""
    paths = [f"{folder}/rank-{n}.json" for n in range(ranks)]
    state = ""

    def probe() -> list[dict[str, Any]] | None:
        nonlocal state
        read = slurm.query("cat", "--", *paths, check=False)
        record = slurm.job(job)
        state = f"{record.state} on {','.join(record.nodes) or 'no node'}, {read.stdout.count('}')} ranks got a message"
        assert not record.final, (
            f"{record.nodes[0]}: job {job} (exchange) ended as {record.state} before data had flowed"
        )
        return [json.loads(text) for text in re.findall(r"\{.*?\}", read.stdout)] if read.ok else None

    return wait_for(
        probe, within=30, what="exchanging data between its ranks", where=f"job {job} (exchange)", at_most=0.2,
        last_seen=lambda: state, cure="look for a firewall between the nodes, and at the job's standard error",
    )  # fmt: skip


def in_range(
    ranks: Mapping[str, int], new: Mapping[str, Iterable[Listener]], held: Mapping[str, Iterable[Connection]]
) -> None:
    """All ports that listen anew, and that others reach, are in the range, and the ranks' data flows through it.

    ``ranks`` are processes by node.
    """
    for node, pid in ranks.items():
        assert any(pid in one.pids for one in new[node]), (
            f"{node}: its rank, process {pid}, listens on no port that others reach; expected one of {shown()}"
        )
        outside = sorted(f"{one}" for one in new[node] if one.port not in PORTS)
        assert not outside, (
            f"{node}: {outside[0]} listens for the job outside of {shown()}; do: set SrunPortRange in slurm.conf, and "
            "btl_tcp_port_min_v4 in openmpi-mca-params.conf"
        )
    between = [one for node, pid in ranks.items() for one in held[node] if pid in one.pids]
    assert any(one.ports & set(PORTS) for one in between), (
        f"{next(iter(ranks))}: no connection of its rank uses a port of {shown()}; the ranks have "
        f"{', '.join(map(str, between)) or 'none'}"
    )


def shown() -> str:
    """The range in words."""
    return f"{PORTS[0]}-{PORTS[-1]}"
