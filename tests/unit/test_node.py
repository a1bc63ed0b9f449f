from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.errors import CommandError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport, LocalTransport, Transport


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
