"""Bad input and bad luck, through the real command line: a clear error, nothing lost and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from tests.integration.conftest import BRIDGE, CONFIG, NAME, SUBNET, Ended, Life, small_disk

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]

GOOD = """
def test_good(cluster):
    assert cluster["node01"].run("uname", "-n").stdout.strip() == "node01"
"""
UP = ("up", "--cluster", "small.yaml")
HOSTILE = {
    "command": "x; rm -rf pwned",
    "substitution": "$(touch pwned)",
    "newline": "x\ntouch pwned",
    "option": "-x",
    "path": "../../pwned",
    "long": "x" * 300,
}


def refused(life: Life, ended: Ended, *said: str) -> None:
    """It failed in words: ``said`` in this order, the place first; nothing of the cluster is left."""
    assert ended.status in (1, 4), ended
    assert "Traceback" not in ended.errors
    text = "\n".join(line for line in ended.errors.splitlines() if not line.startswith("[ ")).removeprefix("ERROR: ")
    assert text.startswith(said[0]), text
    at = 0
    for word in said:
        at = text.find(word, at)
        assert at >= 0, (word, text)
    assert life.left == []
    assert not list(life.folder.rglob("pwned"))


@contextmanager
def link(name: str, address: str = "") -> Iterator[None]:
    """A bridge of somebody else's on this host."""
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        if address:
            subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


# hostile input


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_the_configuration(life: Life, text: str) -> None:
    """Every name that reaches a command, a path or a file of a machine."""
    hostile = json.dumps(text)
    where = {
        "name": f"name: {NAME}",
        "nodes.1.name": "name: node01",
        "network.bridge": f"bridge: {BRIDGE}",
        "slurm.cluster": f"cluster: {NAME}",
        "slurm.partitions.0.name": "name: debug",
        "storage.mount": "kind: none}\ncontainers",
        "user": "version: 1",
    }
    life.config(
        **{key: (old, f"{old.partition(':')[0]}: {hostile}") for key, old in list(where.items())[:5]},
        storage=("kind: none}\ncontainers", f"mount: {hostile}}}\ncontainers"),
        user=("version: 1", f"version: 1\nuser: {hostile}"),
    )
    ended = life.cli(*UP)
    refused(life, ended, "small.yaml:2: user: is ")
    for key in where:
        assert f": {key}: is " in ended.errors, (key, ended.errors)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("command", ["up", "down"])
def test_hostile_names_on_the_command_line(life: Life, command: str, text: str) -> None:
    ended = life.cli(command, f"--cluster={text}")
    assert (ended.status, "Traceback" in ended.errors) == (1, False), ended
    assert len(ended.first_error) < 400
    words = ("not a cluster name", "no cluster is named", "no such file")
    assert any(word in ended.first_error for word in words), ended
    assert not list(life.folder.rglob("pwned"))
    assert not life.state.exists()


def test_a_file_with_a_hostile_name_is_a_file(life: Life) -> None:
    name = "$(touch pwned); touch pwned\n.yaml"
    (life.folder / name).write_text(CONFIG.replace("memory: 256", "memory: none"))
    refused(
        life, life.cli("up", "--cluster", name), "'$(touch pwned); touch pwned\\n.yaml':7: nodes.1.memory: is 'none'"
    )


# a host that lacks something


def test_no_root(life: Life) -> None:
    """In a user namespace of its own, root of the host is nobody."""
    for driver, said, expected in (
        ("nspawn", "not root", "expected: root"),
        ("auto", "nspawn: needs root", "expected: KVM and libvirt, or root and systemd-nspawn"),
    ):
        life.config(driver=("driver: nspawn", f"driver: {driver}"))
        ended = life.end(life.start("unshare", "--user", sys.executable, "-m", "pytest_ai_how", *UP))
        refused(life, ended, "localhost: ", said, expected, "do: run ")
        life.config(driver=(f"driver: {driver}", "driver: nspawn"))


@pytest.mark.parametrize("missing", ["systemd-nspawn", "mmdebstrap"])
def test_a_missing_program_names_its_package(life: Life, missing: str) -> None:
    programs = life.folder / "bin"
    programs.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for program in Path(folder).glob("*"):
            if program.name != missing and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    ended = life.cli(*UP, PATH=str(programs), XDG_CACHE_HOME=str(life.folder / "cache"))
    package = {"systemd-nspawn": "systemd-container"}.get(missing, missing)
    refused(life, ended, "localhost: ", missing, "do: apt-get install ", package)
    assert not (life.folder / "cache").exists()


def test_a_mirror_that_does_not_answer(life: Life) -> None:
    cache = life.folder / "cache"
    ended = life.cli(*UP, AI_HOW_MIRROR="http://127.0.0.1:9", XDG_CACHE_HOME=str(cache))
    refused(life, ended, "http://127.0.0.1:9: ", "the node image needs", "do: check the network")
    assert [path.name for path in cache.glob("*/images/*") if not path.name.startswith(".lock-")] == []


def test_too_little_memory(life: Life) -> None:
    life.config(memory=("memory: 512", "memory: 67108864"))
    said = ("MiB of memory available", "expected: 33554560 MiB", "do: end other programs, or give the nodes less")
    refused(life, life.cli(*UP), "localhost: ", *said)
    life.tests(GOOD)
    refused(life, life.run(), "localhost: ", *said)


def test_too_little_disk(life: Life) -> None:
    with small_disk(life.folder, 64) as small:
        ended = life.cli(*UP, XDG_STATE_HOME=str(small))
        assert [path.name for path in (small / "pytest-ai-how").iterdir()] == []
    refused(life, ended, f"{small}/pytest-ai-how", "MiB of disk free", "expected: 2048 MiB", "XDG_STATE_HOME")


@pytest.mark.parametrize("state", ["/proc/nowhere", "file"])
def test_a_state_folder_that_can_not_be_written(life: Life, state: str) -> None:
    (life.folder / "file").touch()
    place = str(life.folder / state)  # an absolute path stays what it is
    refused(life, life.cli(*UP, XDG_STATE_HOME=place), place, "can't be made", "do: point XDG_STATE_HOME at a folder")
    life.tests(GOOD)
    refused(life, life.run(XDG_STATE_HOME=place), place, "can't be made")


# what is taken


def test_a_subnet_in_use(life: Life) -> None:
    life.tests(GOOD)
    with link("other-lcx", f"{SUBNET}.200/30"):
        said = (f"localhost: subnet {SUBNET}.0/24 is in use: ", "do: choose another network.subnet")
        refused(life, life.run(), *said)
        refused(life, life.cli(*UP), "localhost: step 'machines' failed: subnet", *said[1:])
        assert Path("/sys/class/net/other-lcx").exists()


BOTH = """
from pytest_ai_how.config.models import Network
from pytest_ai_how.drivers.machines.network import make_bridge
for name in ("one", "two"):
    make_bridge(Network(subnet="10.99.0.0/24", bridge=name), name)
"""


def test_a_subnet_that_another_takes_at_the_same_time() -> None:
    """Both looked before either bridge was there: the second to make its own sees the first. In a netns."""
    made = [sys.executable, "-c", BOTH]
    ended = subprocess.run(["unshare", "--net", *made], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "HostError: localhost: subnet 10.99.0.0/24 is in use: one has the address 10.99.0.1" in ended.stderr


def test_a_bridge_name_in_use(life: Life) -> None:
    life.tests(GOOD)
    with link(BRIDGE):
        ended = life.run()
        assert Path(f"/sys/class/net/{BRIDGE}").exists()
    said = "exists and belongs to something else"
    refused(life, ended, f"localhost: interface {BRIDGE} {said}", "do: choose another network.bridge")


def test_a_cluster_of_that_name_in_another_state_folder_comes_to_no_harm(life: Life) -> None:
    life.tests(GOOD)
    assert life.cli(*UP).status == 0
    ended = life.run(XDG_STATE_HOME=str(life.folder / "other"))
    assert ended.status == 4, ended
    said = f"localhost: bridge {BRIDGE} belongs to a cluster '{NAME}' that this XDG_STATE_HOME does not know"
    assert ended.first_error == said, ended
    assert life.cli("exec", "--cluster", NAME, "--", "true").status == 0
    assert life.cli("down", "--cluster", NAME).status == 0


NEEDS_SLURM = """
def test_slurm(ready_service):
    ready_service("slurm")
"""


def waited_in_vain(life: Life, *deeds: tuple[str, ...]) -> str:
    """The first line that a run ends with which waits for Slurm after ``deeds`` on the controller."""
    life.tests(NEEDS_SLURM)
    assert life.cli(*UP).status == 0
    for argv in (("systemctl", "stop", "slurmctld"), *deeds, ("systemctl", "start", "--no-block", "slurmctld")):
        assert life.cli("exec", "--cluster", NAME, "--on", "controller", "--", *argv).status == 0, argv
    ended = life.run()
    assert ended.status != 0, ended
    [result] = life.report()["results"]
    return str(result["reason"].splitlines()[0])


def test_a_port_that_another_program_has_taken(life: Life) -> None:
    """Machines have networks of their own, so nothing of this host takes their ports; a program inside may."""
    first = waited_in_vain(
        life,
        ("systemd-run", "--unit=squatter", "python3", "-m", "http.server", "6817"),
        ("timeout", "20", "sh", "-c", "until ss -Hltn 'sport = :6817' | grep -q .; do sleep 0.1; done"),
    )
    assert first.startswith("controller: step 'slurm' failed: port 6817 is taken by python3 (process "), first
    assert "), expected slurmctld.service (and " in first
    assert first.endswith("which no waiting mends"), first


def test_a_daemon_that_can_not_start_is_not_waited_for(life: Life) -> None:
    first = waited_in_vain(life, ("mv", "/usr/sbin/slurmctld", "/usr/sbin/slurmctld.away"))
    failed = "controller: step 'slurm' failed: unit slurmctld.service is failed (failed), result "
    assert first.startswith(failed), first
    assert first.endswith("which no waiting mends"), first


# records that lie


def changed_record(life: Life, **changes: object) -> None:
    path = life.state / "pytest-ai-how" / NAME / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("file", ["record.json", "journal.jsonl"])
def test_a_corrupt_file_is_named_and_its_cure_cures(life: Life, file: str) -> None:
    life.tests(GOOD)
    assert life.cli(*UP).status == 0
    path = life.state / "pytest-ai-how" / NAME / file
    path.write_text("rubbish\n" + path.read_text())
    for ended in (life.run(), life.cli("down", "--cluster", NAME), life.cli("reap"), life.cli(*UP)):
        assert ended.status in (1, 4), ended
        assert ended.first_error.startswith(f"{path}:1: "), ended
        assert f"do: pytest-ai-how reap --force {NAME} " in ended.errors
    assert life.left != []
    cured = life.cli("reap", "--force", NAME)
    assert (cured.status, f"{NAME}: taken down, nothing remains" in cured.text) == (0, True), cured
    aside = [Path(line.partition("set aside: ")[2]) for line in cured.text.splitlines() if "set aside: " in line]
    assert [one.name.startswith(f"{NAME}-{file}") for one in aside] == [True]
    assert aside[0].read_text().startswith("rubbish")
    aside[0].unlink()
    assert life.run().status == 0


@pytest.mark.parametrize("started", ["2099-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_a_record_from_another_time_is_of_now(life: Life, started: str) -> None:
    life.tests(GOOD)
    assert life.cli(*UP).status == 0
    changed_record(life, started=started)
    for path in (life.state / "pytest-ai-how" / NAME).iterdir():
        os.utime(path, (0, 0) if started.startswith("1970") else (4e9, 4e9))
    [told] = json.loads(life.cli("status", "--json").text)
    assert 0 < told["age_seconds"] < 120
    ended = life.run()
    assert ended.status == 0, ended
    assert "found up and used again" in ended.text


def test_a_record_of_another_boot_is_cleaned_up(life: Life) -> None:
    life.tests(GOOD)
    assert life.cli(*UP).status == 0
    changed_record(life, boot="00000000-0000-4000-8000-000000000000")
    ended = life.run()
    assert ended.status == 0, ended
    assert "making 2 machines" in ended.errors


JUMPS = """
import itertools, time
real, jumps = time.time, itertools.cycle((0.0, -86400.0, 3600.0, 1e9))
time.time = lambda: real() + next(jumps)
"""


def test_a_clock_that_jumps_stretches_and_breaks_nothing(life: Life) -> None:
    """Each look at the wall clock is a day, an hour or decades from the one before."""
    path = life.folder / "jumps"
    path.mkdir()
    (path / "sitecustomize.py").write_text(JUMPS)
    life.tests(f"def test_clock():\n    assert max(time.time() for _ in range(9)) > 2.5e9\n{GOOD}")
    ended = life.run("-n2", "-p", "no:cacheprovider", PYTHONPATH=str(path))
    assert ended.status == 0, ended
    assert life.verdicts() == {"test_clock": "passed", "test_good": "passed"}


# up, interrupted


def interrupted_up(life: Life, number: signal.Signals, environ: Mapping[str, str], word: str) -> Ended:
    process = life.start(sys.executable, "-m", "pytest_ai_how", *UP, **environ)
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            break
    return life.end(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_up_that_is_interrupted_leaves_nothing(life: Life, number: signal.Signals) -> None:
    ended = interrupted_up(life, number, {}, "waiting for ssh")
    assert (ended.status, "taking down what was made" in ended.errors) == (130, True), ended
    assert life.left == []


def test_up_that_is_interrupted_leaves_a_kept_cluster_as_it_was(life: Life) -> None:
    assert life.cli(*UP).status == 0
    assert life.cli("exec", "--cluster", NAME, "--on", "node01", "--", "systemctl", "stop", "munge").status == 0
    before = life.left
    ended = interrupted_up(life, signal.SIGINT, {}, "waiting for munge")
    assert (ended.status, "leaving it as it was" in ended.errors) == (130, True), ended
    assert life.left == before
    wait_for(lambda: life.cli("down", "--cluster", NAME).status == 0, within=10, what="taken down")
