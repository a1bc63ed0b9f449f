from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.errors import CommandError, CommandTimeout, FileError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport, LocalTransport, Transport
from pytest_ai_how.transport.command import OUTPUT_LIMIT, writing
from tests.fakes import WRITES, written


def node(transport: Transport) -> Node:
    return Node(NodeConfig(name="node01", roles=("compute",), address="10.9.8.7"), transport)


def test_what_it_is() -> None:
    made = node(FakeTransport("node01"))
    assert (made.name, made.roles, made.address) == ("node01", ("compute",), "10.9.8.7")
    assert repr(made) == "<Node node01 10.9.8.7>"


def test_run_hands_all_on() -> None:
    transport = FakeTransport("node01", {"cat": "said"})
    assert node(transport).run("cat", "-", timeout=3, input="x", user="hpc").stdout == "said"
    (call,) = transport.calls
    assert (call.argv, call.timeout, call.input, call.user) == (("cat", "-"), 3, b"x", "hpc")


def test_a_failure_is_an_error_unless_it_is_asked_for() -> None:
    transport = FakeTransport("node01", {"srun": Result((), 1, stderr="srun: error: Unable\nslurm_load\n")})
    with pytest.raises(CommandError) as caught:
        node(transport).run("srun", "a b")
    assert str(caught.value) == "node01: `srun 'a b'` exited with 1: srun: error: Unable | slurm_load"
    assert node(transport).run("srun", check=False).returncode == 1


def test_sh_is_one_argument() -> None:
    transport = FakeTransport("node01", {"sh -c": ["out", Result((), 2)]})
    assert node(transport).sh("a | b", user="hpc").stdout == "out"
    assert transport.calls[0].argv == ("sh", "-c", "a | b")
    with pytest.raises(CommandError, match=r"node01: `sh -c 'c \| d'` exited with 2, no output"):
        node(transport).sh("c | d")


def test_files() -> None:
    transport = FakeTransport("node01")
    made = node(transport)
    made.write("/a", "ü", 0o600)
    made.write("/b", b"\xff")
    assert (made.read("/a"), made.read("/b")) == ("ü", "\ufffd")
    assert transport.modes == {"/a": 0o600, "/b": 0o644}


@pytest.fixture
def me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def test_a_file_of_a_user_may_be_larger_than_what_a_command_may_say(tmp_path: Path, me: str) -> None:
    path, large = tmp_path / "a 'b'", bytes(OUTPUT_LIMIT + 1)
    made = node(LocalTransport("node01"))
    made.write(str(path), "was here", user=me)
    made.write(str(path), large, 0o600, user=me)
    assert path.read_bytes() == large
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_a_user_cannot_write_stays_as_it_was(tmp_path: Path, me: str) -> None:
    made, path = node(LocalTransport("node01")), tmp_path / "gone" / "file"
    with pytest.raises(FileError) as caught:
        made.write(str(path), "four", user=me)
    first, *rest = str(caught.value).splitlines()
    assert re.match(rf"node01: {path} could not be written: .*gone/\.file\.\w+: (Directory non|No such)", first)
    assert rest == [
        f"  expected: 4 bytes, written by {me}",
        f"  do: see there that {me} may write to that folder, and that its file system has room and answers",
    ]
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=r"^node01: /\S+ could not be written: mv: "):
        made.write(str(tmp_path / "folder"), "x", user=me)
    assert not list((tmp_path / "folder").iterdir())
    assert [one.name for one in tmp_path.iterdir()] == ["folder"], "nothing half done is left"


def test_a_file_that_is_cut_off_is_none(tmp_path: Path) -> None:
    argv = writing(str(tmp_path / "file"), 5, 0o644)
    (tmp_path / "file").write_text("before")
    assert LocalTransport("node01").execute(argv, timeout=30, input="four").returncode == 1
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("file", "before")]


def test_a_file_is_given_time_by_its_size_and_its_machine() -> None:
    transport = FakeTransport("node01", [WRITES])
    made = Node(load_config("local").nodes[1], transport, pace=2.0)
    made.write("/mnt/a", bytes(3 * 2**20), user="hpc")
    (call,) = transport.calls
    assert (call.timeout, call.user, written(transport)["/mnt/a"]) == (66.0, "hpc", "\0" * 3 * 2**20)
    late = FakeTransport("node01", [(WRITES[0], CommandTimeout(Result(("sh",), -9, node="node01"), 66.0))])
    with pytest.raises(FileError, match=r"^node01: /mnt/a could not be written: not done after 66 s\n"):
        node(late).write("/mnt/a", "x", user="hpc")
    silent = FakeTransport("node01", [(WRITES[0], Result((), 1))])
    with pytest.raises(FileError, match=r"^node01: /mnt/a could not be written: nothing was said about why\n"):
        node(silent).write("/mnt/a", "x", user="hpc")


def test_testinfra_on_this_machine() -> None:
    host = node(LocalTransport("node01")).host
    assert host.file("/etc/passwd").exists
    assert not host.file("/etc/no such $(file)").exists
    assert host.file("/etc/passwd").user == "root"
    assert host.user("root").uid == 0
    assert host.run("printf %s", "a 'b' $(c)").stdout == "a 'b' $(c)"
    assert host.run("exit 3").rc == 3
    assert host.process.get(pid=1).pid == 1


def test_testinfra_over_a_fake() -> None:
    # Before it looks at a file, testinfra asks what system it is on.
    system = [
        ("sh -c 'uname -s'", "Linux\n"),
        ("sh -c 'uname -m'", "x86_64\n"),
        (re.compile("test -[ef] /etc/passwd$"), Result((), 1)),
    ]
    transport = FakeTransport("node01", [*system, (re.compile("release|version"), Result((), 1))])
    made = node(transport)
    assert made.host is made.host
    assert made.host.file("/etc/passwd").exists is False
    assert transport.calls[-1].argv == ("sh", "-c", "test -e /etc/passwd")
    with pytest.raises(AssertionError, match="node01: no answer for `sh -c 'test -e /other'`"):
        _ = made.host.file("/other").exists


def test_importing_costs_neither_fabric_nor_testinfra_nor_pytest() -> None:
    text = (
        "import sys, pytest_ai_how.transport, pytest_ai_how.node, pytest_ai_how.cluster\n"
        "print([name for name in ('fabric', 'paramiko', 'invoke', 'testinfra', 'pytest') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_a_slow_machine_is_given_longer() -> None:
    transport = FakeTransport("node01", {"true": ""})
    node = Node(load_config("local").nodes[1], transport, pace=4.0)
    node.run("true", timeout=5.0)
    assert transport.calls[0].timeout == 20.0
