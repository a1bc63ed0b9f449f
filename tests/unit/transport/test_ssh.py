"""What of SshTransport needs no sshd; the rest is in tests/integration/test_ssh_transport.py."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import TransportError
from pytest_ai_how.shell import quote
from pytest_ai_how.transport import SshTransport, Transport
from pytest_ai_how.transport.command import Output
from pytest_ai_how.transport.ssh_channel import KILL, Line, _number, as_user
from pytest_ai_how.transport.ssh_connect import _transport, pinned
from tests.sshd import keygen

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "busybox") if shutil.which(shell)]


def test_it_is_a_transport(tmp_path: Path) -> None:
    assert isinstance(SshTransport("node01", "10.0.0.1", 22, "root", tmp_path / "k", tmp_path / "h"), Transport)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_login_shell_says_its_id_and_becomes_the_command(shell: str) -> None:
    words = ["sh", "-c", 'echo $$ "$1" $LC_ALL; echo noise >&2', "sh", "a 'b' $(c)\n"]
    line = Line(tuple(words), "pid-1234")
    start = [shell, "sh", "-c"] if shell == "busybox" else [shell, "-c"]
    with subprocess.Popen([*start, str(line)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stdout, stderr = process.communicate(timeout=10)
    output = Output("node01", tuple(words), stdout=bytearray(stdout), stderr=bytearray(stderr))
    assert line.pid(output) == process.pid
    assert output.stdout.decode() == f"{process.pid} a 'b' $(c)\n C.UTF-8\n"
    assert output.stderr == b"noise\n"


def test_what_start_up_files_say_before_is_kept() -> None:
    line = Line(("true",), "pid-1234")
    output = Output("node01", ("true",), stderr=bytearray(b"motd\npid-1234 77\nrest"))
    assert (line.pid(output), output.stderr) == (77, b"motd\nrest")
    traced = Output("node01", ("true",), stderr=bytearray(b"+ printf 'pid-1234 %s\\n' 77\npid-12 5\npid-1234 77\n"))
    assert (line.pid(traced), traced.stderr) == (77, b"+ printf 'pid-1234 %s\\n' 77\npid-12 5\n")
    silent = Output("node01", ("true",), stderr=bytearray(b"This account is not available.\n"))
    assert (line.pid(silent), silent.stderr) == (None, b"This account is not available.\n")


@pytest.mark.parametrize(
    ("user", "login", "sudo", "words"),
    [
        (None, "root", False, "id"),
        ("root", "root", False, "id"),
        ("hpc", "root", False, "runuser -u hpc -- id"),
        (None, "admin", True, "sudo -n -H -u root -- id"),
        ("hpc", "admin", True, "sudo -n -H -u hpc -- id"),
    ],
)
def test_who_runs_it(user: str | None, login: str, sudo: bool, words: str) -> None:
    assert quote(as_user(["id"], user, login=login, sudo=sudo)) == words


def test_signals_have_their_numbers() -> None:
    assert _number("KILL") == signal.SIGKILL
    assert _number("SYS@openssh.com") == signal.SIGSYS
    assert _number("INFO") == 128


def test_the_kill_ends_a_session_with_all_its_process_groups() -> None:
    text = "trap '' TERM; sleep 61.5 & echo ready; sleep 61.5; true"
    process = subprocess.Popen(["bash", "-m", "-c", text], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def members() -> list[str]:
        ps = ["ps", "-o", "stat=", "-s", str(process.pid)]
        found = subprocess.run(ps, check=False, capture_output=True, text=True)  # 1 when there is none
        return [state for state in found.stdout.split() if not state.startswith("Z")]

    wait_for(lambda: len(members()) >= 3, within=5, what="the session's processes")
    killed = subprocess.run(["sh", "-c", KILL, "sh", str(process.pid)], check=False, timeout=20, capture_output=True)
    assert (killed.returncode, killed.stderr) == (0, b"")
    assert members() == []
    assert process.wait(5) == -signal.SIGKILL
    process.stdout.close()


def test_files_that_are_missing_are_named_before_connecting(tmp_path: Path) -> None:
    key = tmp_path / "key"
    transport = SshTransport("node01", "10.0.0.1", 22, "root", key, tmp_path / "known")
    with pytest.raises(TransportError) as caught:
        transport.execute(["true"], timeout=1)
    assert str(caught.value) == (
        f"node01: the key {key} to reach root@10.0.0.1:22 by does not exist\n  do: provide {key}"
    )
    transport.close()


def test_aes_gcm_is_asked_for_first_and_no_cipher_is_more_or_less_than_before() -> None:
    from paramiko import Transport

    ours, theirs = socket.socketpair()
    with ours, theirs:
        offered = _transport(ours).get_security_options().ciphers
        before = Transport(theirs).get_security_options().ciphers
    assert offered[:2] == ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
    assert [one for one in offered if one not in offered[:2]] == [one for one in before if one not in offered[:2]]
    assert len(offered) == len(before)


def test_only_the_keys_of_the_machine_are_taken_from_known_hosts(tmp_path: Path) -> None:
    from paramiko.hostkeys import HostKeys

    keys = [keygen(tmp_path / str(number)) for number in range(6)]
    hashed = HostKeys.hash_host("[10.0.0.1]:2222")
    lines = [
        f"10.0.0.1,node01 {keys[0]} a comment",
        f"node01 {keys[1]}",  # a second one of the same type, which paramiko does not look at
        f"10.0.0.11 {keys[2]}",
        f"{hashed} {keys[3]}",
        f"@revoked 10.0.0.9 {keys[4]}",
        f"#10.0.0.8 {keys[4]}",
        f"* {keys[4]}",
        "10.0.0.7 ssh-ed25519 !!!!",
        "10.0.0.6",
        "",
    ]
    path = tmp_path / "known_hosts"
    path.write_text("\n".join(lines))

    def known(name: str) -> list[str]:
        return [f"{key.get_name()} {key.get_base64()}" for key in pinned(path, name)]

    assert known("10.0.0.1") == [keys[0]]
    assert known("node01") == [keys[0]]
    assert known("10.0.0.11") == [keys[2]]
    assert known("[10.0.0.1]:2222") == [keys[3]]
    for name in ("10.0.0.6", "10.0.0.7", "10.0.0.8", "10.0.0.9", "10.0.0.10", "*", "@revoked", ""):
        assert known(name) == ([keys[4]] if name == "*" else []), name
    # paramiko takes the same, once it is spared what it fails on.
    path.write_text("\n".join(line for line in lines if "!!!!" not in line and not line.startswith("@")))
    theirs = HostKeys(str(path))
    for name in ("10.0.0.1", "node01", "10.0.0.11", "[10.0.0.1]:2222", "10.0.0.9", "10.0.0.10"):
        found = theirs.lookup(name) or {}
        assert known(name) == [f"{type} {found[type].get_base64()}" for type in dict.fromkeys(found.keys())], name
