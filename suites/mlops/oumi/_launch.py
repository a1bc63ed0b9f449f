"""Oumi's own launcher with its Slurm cloud: a client in a container on a machine, over ssh to the controller.

The client is the job user on the last compute node, in a home of its own: with a key that the controller knows, and
with the controller's host key alone, which must fit. What the launcher writes below the user's home on the controller
lies on the shared storage, as a home on a cluster does; links see to that for the time of a block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_ai_how.launch import JobFailed, why
from pytest_ai_how.node import Node
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.services.slurm import SacctRecord, Slurm
from pytest_ai_how.shell import Result

from ._oumi import Oumi
from ._submissions import JOB, LONG, MINUTES, SEEN, SHORT, TRAIN, WORK

#: Seconds for a command of the launcher: it loads all of Oumi, and asks over ssh.
WITHIN = 400.0
#: The folders below its user's home on the controller that Oumi 0.9 writes to; it makes the second nowhere.
FOLDERS = ("oumi_launcher", "oumi_slurm_logs")
# Oumi leaves an ssh master behind; with it the container would go on.
_TIDY = """"$@"
status=$?
for c in ~/.ssh/control-*; do [ -S "$c" ] && ssh -S "$c" -O exit x 2>/dev/null; done
exit $status
"""
_SSH = """Host *
  IdentityFile ~/.ssh/{key}
  IdentitiesOnly yes
  BatchMode yes
  ConnectTimeout 10
  StrictHostKeyChecking yes
  UserKnownHostsFile ~/.ssh/known_hosts
  GlobalKnownHostsFile /dev/null
"""


def state_in(status: str, id: str) -> str:
    r"""The state of a job in the table of ``oumi launch status`` (0.9): ``│ │ 12  │ RUNNING │ │``; '' without one.

    >>> state_in("│ │ 7   │ COMPLETED │   │\n│ │ 12  │ RUNNING   │   │", "12")
    'RUNNING'
    """
    found = re.search(rf"^\W*{re.escape(id)}\W+([A-Z][A-Z_+]*)", status, re.MULTILINE)
    return found[1] if found else ""


def submitted(result: Result) -> str:
    """The job's number in what ``oumi launch up --detach`` (0.9) said. Raises :class:`JobFailed` without one."""
    found = re.search(r"Running job (\d+) in\s+detached mode", result.stdout)
    if not result.ok or not found:
        said = result.stderr if result.stderr.strip() else result.stdout
        raise JobFailed(result.node, f"`oumi launch up` ended with {result.returncode}: {why(said)}", expected="a job")
    return found[1]


@dataclass(frozen=True)
class Client:
    """Whoever submits from outside."""

    oumi: Oumi
    slurm: Slurm
    node: Node
    home: str

    @property
    def user(self) -> str:
        """The job user, here and there."""
        return self.slurm.user

    @property
    def where(self) -> str:
        """The cluster, as Oumi names it."""
        return f"{self.user}@{self.slurm.cluster.controller.name}"

    def run(self, *argv: str, home: str = "") -> Result:
        """Run a command in the container, in the client's home or another one."""
        env = {"OUMI_SLURM_CONNECTIONS": self.where, "TERM": "dumb", "COLUMNS": "200"}
        call = command(
            "exec",
            self.oumi.runtime.image,
            *("sh", "-c", _TIDY, "sh", *argv),
            binds=[self.oumi.launcher.folder],
            env=env,
            flags=[f"home={home or self.home}:/home/{self.user}"],
        )
        return self.node.run(*call, check=False, timeout=WITHIN, user=self.user)

    def launch(self, *argv: str, home: str = "") -> Result:
        """``oumi launch …``."""
        return self.run("oumi", "launch", *argv, home=home)

    def up(self, config: str, home: str = "", where: str = "") -> Result:
        """``oumi launch up``, which does not wait."""
        return self.launch("up", "-c", config, "--cluster", where or self.where, "--detach", home=home)

    def status(self) -> Result:
        """``oumi launch status``."""
        return self.launch("status", "--cloud", "slurm")


@contextmanager
def client(oumi: Oumi, slurm: Slurm, name: str) -> Iterator[Client]:
    """A client for the time of the block; nothing of it is left."""
    node, controller = oumi.cluster.on("compute")[-1], oumi.cluster.controller
    home, places = f"/tmp/ai-how-{name}", f"{oumi.folder}/launch"  # noqa: S108  on the node, of mode 0700
    made = Client(oumi, slurm, node, home)
    host_key = controller.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    try:
        for folder in (home, f"{home}/.ssh"):
            node.run("mkdir", "-m", "0700", folder, user=slurm.user)
        node.run("cp", f"/home/{slurm.user}/.ssh/id_ed25519", f"{home}/.ssh/id_ed25519", user=slurm.user)
        files = {"known_hosts": f"{controller.name} {' '.join(host_key)}\n", "config": _SSH.format(key="id_ed25519")}
        for file, text in files.items():
            node.write(f"{home}/.ssh/{file}", text, user=slurm.user)
        slurm.query("mkdir", "-p", f"{oumi.folder}/{WORK}", *(f"{places}/{one}" for one in FOLDERS))
        for one in FOLDERS:
            oumi.cluster.all.run("ln", "-sfn", f"{places}/{one}", f"/home/{slurm.user}/{one}", user=slurm.user)
        yield made
    finally:
        for one in FOLDERS:
            oumi.cluster.all.run("rm", "-f", f"/home/{slurm.user}/{one}", check=False, user=slurm.user)
        node.run("rm", "-rf", home, check=False, user=slurm.user)


def training(oumi: Oumi, slurm: Slurm) -> Mapping[str, str]:
    """Launch a training, look at it on its way and at its end, and fetch what it left; all that was seen, as texts."""
    oumi.valid(TRAIN, JOB)
    with client(oumi, slurm, "launch") as me:
        out = f"{oumi.folder}/launch/out"
        seen: dict[str, str] = {"job": json.dumps(oumi.submissions()[JOB])}
        up = me.up(f"{oumi.folder}/{JOB}")
        id = submitted(up)
        seen |= {"id": id, "up": up.describe(lines=200)}
        slurm.until(int(id), "RUNNING", within=MINUTES * 60)
        seen |= _stage(me, id, "first")
        slurm.query("touch", "--", f"{oumi.folder}/{SEEN}")
        record = slurm.wait(int(id), MINUTES * 60)
        seen |= _stage(me, id, "last")
        if record.state == "COMPLETED":
            fetched = f"/home/{me.user}/fetched"
            rsync = me.run("rsync", "-a", f"{me.where}:{out}/", f"{fetched}/")
            seen["rsync"] = rsync.describe()
            seen["fetched"] = me.node.run(*_SUMS, f"{me.home}/fetched", user=me.user).stdout
            seen["kept"] = slurm.query(*_SUMS, out).stdout
        logs = me.launch("logs", "--cloud", "slurm", "--cluster", me.where, "--job-id", id)
        seen |= {"logs": logs.stdout, "logs status": str(logs.returncode)}
        seen["written"] = slurm.query("cat", "--", f"{oumi.folder}/launch/oumi_slurm_logs/{id}.out", check=False).stdout
        found = slurm.query(
            "find", f"{oumi.folder}/launch/oumi_launcher/", "-name", "oumi_job.sh", "-exec", "cat", "{}", ";"
        )
        return seen | {"script": found.stdout, "state": record.state, "tres": json.dumps(dict(record.tres))}


#: Digests of all files below a folder, by name.
_SUMS = ("sh", "-c", 'cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2', "sh")


def _stage(me: Client, id: str, name: str) -> dict[str, str]:
    """What Oumi says of a job, and what the accounting said right before and right after."""

    def states() -> str:
        return " ".join(one.state for one in me.slurm.sacct(int(id)))

    before = states()
    told = me.status()
    found = {"status": told.describe(lines=200), "oumi": state_in(told.stdout, id), "sacct": f"{before} {states()}"}
    return {f"{name} {key}": value for key, value in found.items()}


def cancelled(oumi: Oumi, slurm: Slurm) -> Mapping[str, str]:
    """Launch a job that would go on, cancel it through Oumi, and see what became of it."""
    oumi.valid(LONG)
    with client(oumi, slurm, "cancel") as me:
        up = me.up(f"{oumi.folder}/{LONG}")
        id = submitted(up)
        try:
            slurm.until(int(id), "RUNNING")
            told = me.launch("cancel", "--cloud", "slurm", "--cluster", me.where, "--id", id)
            record: SacctRecord = slurm.wait(int(id), 60)
        finally:
            slurm.cancel(int(id))
        return {"id": id, "cancel": told.describe(lines=100), "status": str(told.returncode), "state": record.state}


# How Oumi (0.9) hands on what ssh said: "[2026-11-27 02:50:39,060][oumi]…[slurm_client.py:519] Credential error: …".
_HANDED_ON = r"(?:\[.*\] ?Credential error: )?"
#: What is wrong with a submission, and the line that must say so: ssh's (OpenSSH 9 and 10), or OmegaConf's (2.3).
WRONG = {
    "key": _HANDED_ON + r"\S+@\S+: Permission denied \([a-z,-]+\)\.",
    "host key": _HANDED_ON + r"Host key verification failed\.",
    "host": _HANDED_ON + r"ssh: Could not resolve hostname nowhere: .+",
    "configuration": r"(?:[\w.]+: )?(?:Config error at 'run': )?Structured config of type `JobConfig` has missing "
    r"mandatory value: run",
}


def stated(said: str, cause: str) -> bool:
    r"""Whether a line of an output says the cause and nothing else: in a traceback or a path it may stand by chance.

    >>> stated("  File \"main.py\", line 376, in run\nPermissionError: Permission denied: 'x'", WRONG["key"])
    False
    """
    return any(re.fullmatch(cause, line.strip()) for line in said.splitlines())


def refused(oumi: Oumi, slurm: Slurm) -> Mapping[str, str]:
    """Submit with a key that nobody knows, to a host with another key, to no host, and without a job."""
    oumi.valid(SHORT)
    with client(oumi, slurm, "refused") as me:
        config = f"{oumi.folder}/{SHORT}"
        before = _traces(oumi, slurm)
        seen = {
            "configuration": me.up(f"{oumi.folder}/job-no-script.yaml"),
            "host": me.up(config, where=f"{me.user}@nowhere"),
        }
        ssh = f"{me.home}/.ssh"
        me.node.run("cp", f"{ssh}/id_ed25519", f"{ssh}/kept", user=me.user)
        me.node.run("rm", f"{ssh}/id_ed25519", user=me.user)
        me.node.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{ssh}/id_ed25519", user=me.user)
        seen["key"] = me.up(config)
        me.node.run("mv", f"{ssh}/kept", f"{ssh}/id_ed25519", user=me.user)
        other = me.node.read(f"{ssh}/id_ed25519.pub").split()[:2]
        known = f"{slurm.cluster.controller.name} {' '.join(other)}\n"
        me.node.write(f"{ssh}/known_hosts", known, user=me.user)
        seen["host key"] = me.up(config)
        return told(seen) | {"before": before, "after": _traces(oumi, slurm)}


def told(seen: Mapping[str, Result]) -> dict[str, str]:
    """Commands that were refused, by name, as texts; what they said apart from how they were called."""
    found = {name: result.describe(lines=200) for name, result in seen.items()}
    found |= {f"{name} said": f"{result.stdout}\n{result.stderr}" for name, result in seen.items()}
    return found | {"codes": json.dumps({name: result.returncode for name, result in seen.items()})}


def _traces(oumi: Oumi, slurm: Slurm) -> str:
    """What a submission would leave: jobs of its name, and folders of the launcher."""
    listed = slurm.query("ls", f"{oumi.folder}/launch/oumi_launcher").stdout.split()
    jobs = slurm.query("sacct", "--noheader", "--allocations", "--name=ai-how-refused", "--format=JobID").stdout.split()
    return json.dumps({"folders": listed, "jobs": jobs})
