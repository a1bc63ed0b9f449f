"""``status``, ``ssh``, ``exec``: looking into clusters that are up. The record holds all that is needed for it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_ai_how.cli.life import cluster_name
from pytest_ai_how.cluster import Cluster, Nodes
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import AiHowError, HostError, LeaseError
from pytest_ai_how.lease.reap import Status, clusters
from pytest_ai_how.lease.reap import status as status_of
from pytest_ai_how.lease.undo import describe
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result, quote
from pytest_ai_how.transport.ssh import SshTransport


def status(args: argparse.Namespace) -> int:
    """Show clusters: 0, or 1 when the one that was asked for is not there or can't be read."""
    wanted = cluster_name(args.cluster) if args.cluster else None
    found = [status_of(name) for name in clusters() if wanted in {None, name}]
    if args.json:
        sys.stdout.write(json.dumps([_as_json(one) for one in found], indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(map(_as_text, found)) + "\n" if found else "no clusters\n")
    return 1 if any(one.problem for one in found) or (wanted and not found) else 0


def ssh(args: argparse.Namespace) -> int:
    """Become ssh, with the cluster's own key and pinned host keys and nothing of the user's ssh set-up."""
    if shutil.which("ssh") is None:
        raise HostError("localhost", "ssh is not installed", cure="apt-get install openssh-client")
    transport = _cluster(args.cluster)[args.node].transport
    if not isinstance(transport, SshTransport):
        raise AiHowError(args.node, "is not reached by ssh", cure=f"pytest-ai-how exec --on {args.node} -- COMMAND")
    argv = ssh_argv(transport, args.argv)
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606  no shell is wanted


def ssh_argv(transport: SshTransport, command: Sequence[str]) -> list[str]:
    """The ssh command line; options of ssh_config(5)."""
    options = {
        "IdentityFile": _config_path(transport.key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _config_path(transport.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    login = [f"{transport.user}@{transport.address}"]
    return ["ssh", "-F", "none", "-p", str(transport.port), *words, *login, *([quote(command)] if command else [])]


def _config_path(path: Path) -> str:
    """A path as ssh_config(5) reads it: blanks part words, and percent signs begin tokens."""
    return '"{}"'.format(str(path).replace("%", "%%"))


def execute(args: argparse.Namespace) -> int:
    """Run a command on nodes; every line with its node before it, the worst status as our own."""
    results = on(_cluster(args.cluster), args.on).map(lambda node: _outcome(node, args.argv, args.timeout))
    for result in results.values():
        _show(result)
    return max(worst(result.returncode) for result in results.values())


def on(cluster: Cluster, where: str | None) -> Nodes:
    """All nodes, the node of that name, or the nodes with that role. Raises AiHowError when there is none."""
    if where is None:
        return cluster.all
    names = [node.name for node in cluster.nodes]
    roles = {role for node in cluster.nodes for role in node.roles}
    if where not in names and where not in roles:
        expected = f"a node ({', '.join(names)}) or a role ({', '.join(sorted(roles))})"
        raise AiHowError(cluster.name, f"no node is called {where!r} or has that role", expected=expected)
    return Nodes([cluster[where]]) if where in names else cluster.on(where)


def worst(returncode: int) -> int:
    """A status as a shell shows it: 128 and the number for a signal."""
    return 128 - returncode if returncode < 0 else returncode


def _outcome(node: Node, argv: Sequence[str], timeout: float) -> Result:
    """What came of it; a node that can't be reached, or does not end in time, counts as 255, as with ssh."""
    try:
        return node.run(*argv, check=False, timeout=timeout)
    except AiHowError as error:
        return Result(tuple(argv), 255, "", str(error), node=node.name)


def _show(result: Result) -> None:
    for stream, text in ((sys.stdout, result.stdout), (sys.stderr, result.stderr)):
        for line in text.splitlines():
            stream.write(f"{result.node}: {line}\n")
    if not result.ok:
        sys.stderr.write(f"{result.node}: exit status {worst(result.returncode)}\n")
    sys.stdout.flush()


def _cluster(cluster: str) -> Cluster:
    """A cluster that is up, from its record alone."""
    from pytest_ai_how.drivers.select import choose_driver

    name = cluster_name(cluster)
    found = status_of(name)
    if found.problem:
        raise found.problem
    step = found.record.steps.get("machines") if found.record else None
    if found.record is None or step is None or step.state != "done":
        raise LeaseError(f"cluster {name!r}", "is not up", cure=f"pytest-ai-how up --cluster {cluster}")
    made = {**found.record.claim.config, "driver": found.record.claim.driver}
    config = ClusterConfig.model_validate_json(json.dumps(made))
    driver = choose_driver(config)
    return Cluster(config, [Node(node, driver.transport(config, node.name)) for node in config.nodes])


def _as_json(found: Status) -> dict[str, Any]:
    record = found.record
    return {
        "cluster": found.name,
        "condition": found.condition,
        "owner": {"run": found.owner.run, "pid": found.owner.pid, "host": found.owner.host} if found.owner else None,
        "driver": record.claim.driver if record else None,
        "run": record.run if record else None,
        "started": record.started if record else None,
        "age_seconds": round(record.age, 1) if record and record.age is not None else None,
        "steps": {
            name: {"state": step.state, "seconds": step.seconds, "cause": step.cause}
            for name, step in (record.steps.items() if record else ())
        },
        "spoilt": record.spoilt if record and not found.owner else "",
        "machines": dict(record.steps["machines"].facts) if record and "machines" in record.steps else {},
        "to_undo": [describe(entry) for entry in found.pending],
        "problem": str(found.problem) if found.problem else None,
    }


def _as_text(found: Status) -> str:
    if found.problem:
        return f"{found.name}: unreadable\n  {found.problem}"
    record = found.record
    by = f" by {found.owner}" if found.owner else ""
    age = f", up for {record.age:.0f} s" if record and record.age is not None else ""
    lines = [f"{found.name}: {found.condition}{by}{age}, {len(found.pending)} parts to undo"]
    if record and record.spoilt and not found.owner:
        lines.append(f"  not used again: {record.spoilt}")
    for name, step in record.steps.items() if record else ():
        facts = ", ".join(f"{key} {value}" for key, value in step.facts.items()) if name == "machines" else step.cause
        lines.append(f"  {name:<12} {step.state:<7} {step.seconds:6.2f} s  {facts}".rstrip())
    return "\n".join(lines)
