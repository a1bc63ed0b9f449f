"""SshTransport against an sshd of our own on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import CommandTimeout, FileError, HostKeyError, OutputLimitExceeded, TransportError
from pytest_ai_how.transport import SshTransport, command
from tests.integration.ssh.conftest import Server, signal_connection
from tests.sshd import keygen

OTHER = "nobody"


def running(words: str) -> list[str]:
    """The processes of this machine with ``words`` on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if words in line and int(path.parent.name) != os.getpid():
                found.append(line)
    return found


ARGUMENTS = [
    "plain",
    "",
    " two  blanks ",
    "new\nline\n",
    "tab\tand\rreturn",
    "it's",
    '"double"',
    "$(id)",
    "`id`",
    "$HOME ${PATH}",
    "; rm -rf /nonexistent #",
    "&& false || true",
    "*?[a-z]",
    "back\\slash\\",
    "~root",
    "!history",
    "-n",
    "--",
    "%s %d",
    "größe 测试 🚀",
    "\x01\x7f",
    "x" * 100_000,
]


@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda text: repr(text[:20]))
@pytest.mark.parametrize("user", [None, OTHER])
def test_arguments_arrive_as_they_are(ssh: SshTransport, argument: str, user: str | None) -> None:
    result = ssh.execute(["printf", "%s|", argument, "last"], timeout=10, user=user)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{argument}|last|", "")
    assert result.node == "node01"
    assert result.argv[2] == argument


def test_a_program_that_is_also_a_word_of_the_shell(ssh: SshTransport) -> None:
    assert ssh.execute(["A=1", "true"], timeout=10).returncode == 127
    assert ssh.execute(["no-such-program"], timeout=10).returncode == 127


def test_a_line_that_no_shell_takes_is_refused_before_anything_is_sent(ssh: SshTransport) -> None:
    with pytest.raises(ValueError, match=r"echo: a command of more than 131071 bytes; give it as input instead"):
        ssh.execute(["echo", "x" * 131_072], timeout=10)


def test_status_streams_and_input(ssh: SshTransport) -> None:
    result = ssh.execute(["sh", "-c", "cat; echo said >&2; exit 7"], timeout=10, input="given ü\n")
    assert (result.returncode, result.stdout, result.stderr) == (7, "given ü\n", "said\n")


def test_without_input_stdin_is_at_its_end(ssh: SshTransport) -> None:
    assert ssh.execute(["cat"], timeout=5).ok


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM", "HUP"])
def test_a_signal_is_a_negative_status(ssh: SshTransport, name: str) -> None:
    result = ssh.execute(["sh", "-c", f"kill -{name} $$"], timeout=10)
    assert result.returncode == -signal.Signals[f"SIG{name}"]


def test_bytes_that_are_not_utf8_are_replaced(ssh: SshTransport) -> None:
    assert ssh.execute(["printf", r"a\377b"], timeout=10).stdout == "a\ufffdb"


def test_much_on_both_streams_and_stdin(ssh: SshTransport) -> None:
    data = b"0123456789abcdef" * 65536
    text = "tee /dev/stderr"
    result = ssh.execute(["sh", "-c", text], timeout=60, input=data)
    assert result.stdout.encode() == data
    assert result.stderr.encode() == data


def test_input_that_nobody_reads_is_no_error(ssh: SshTransport) -> None:
    assert ssh.execute(["true"], timeout=20, input=b"x" * 8_000_000).ok


def test_user_runs_in_a_folder_and_home_of_its_own(ssh: SshTransport) -> None:
    result = ssh.execute(["sh", "-c", "id -un; echo $HOME; pwd"], timeout=10, user=OTHER)
    home = pwd.getpwnam(OTHER).pw_dir
    assert result.stdout.split() == [OTHER, home, home if Path(home).is_dir() else "/"]


def test_no_command_waits_for_what_it_left_behind(ssh: SshTransport) -> None:
    result = ssh.execute(["sh", "-c", "sleep 7.125 & echo started"], timeout=5)
    assert (result.returncode, result.stdout) == (0, "started\n")
    assert result.seconds < 4


@pytest.mark.parametrize("user", [None, OTHER])
def test_a_timeout_kills_all_of_the_command(ssh: SshTransport, user: str | None) -> None:
    seconds = f"{1000 + os.getpid() % 1000}.{'5' if user else '25'}"
    text = f"echo first; echo second >&2; trap '' TERM HUP; sleep {seconds} & sleep {seconds}; true"
    with pytest.raises(CommandTimeout, match=r"node01: `sh -c .*` did not end within 0\.5 s and was killed") as caught:
        ssh.execute(["sh", "-c", text], timeout=0.5, user=user)
    assert running(f"sleep {seconds}") == []
    assert caught.value.result.stdout == "first\n"
    assert caught.value.result.stderr == "second\n"
    assert ssh.execute(["true"], timeout=5).ok


def test_a_timeout_kills_what_closed_its_streams(ssh: SshTransport) -> None:
    seconds = f"{2000 + os.getpid() % 1000}.125"
    with pytest.raises(CommandTimeout):
        ssh.execute(["sh", "-c", f"exec >&- 2>&- sleep {seconds}"], timeout=0.5)
    assert running(f"sleep {seconds}") == []


def test_what_says_too_much_is_killed(ssh: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.Output, "__init__", _limited(command.Output.__init__, 2**20))
    words = f"runaway-{os.getpid()}"
    with pytest.raises(OutputLimitExceeded, match=r"node01: `yes runaway-\d+` wrote more than 1 MiB and was killed"):
        ssh.execute(["yes", words], timeout=30)
    assert running(words) == []


def _limited(original: object, limit: int) -> object:
    def init(self: object, *args: object) -> None:
        original(self, *args, limit=limit)  # type: ignore[operator]  # the class's own __init__

    return init


def test_eight_threads_on_one_connection(server: Server, ssh: SshTransport) -> None:
    def one(number: int) -> str:
        return ssh.execute(["sh", "-c", f"echo {number}; echo {number} >&2"], timeout=30).stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(400))) == [f"{number}\n" for number in range(400)]
    assert len(server.connections()) == 1


def test_no_input_or_end_of_input_reaches_another_command(ssh: SshTransport) -> None:
    """sshd gives a channel's number to the next one at once: what is sent late must not arrive there."""

    def one(number: int) -> str:
        if number % 2:
            return ssh.execute(["true"], timeout=30, input=b"stray " * 20_000).stdout
        return ssh.execute(["cat"], timeout=30, input=f"{number} " * 5000).stdout

    with ThreadPoolExecutor(8) as pool:
        for number, said in enumerate(pool.map(one, range(300))):
            assert said == ("" if number % 2 else f"{number} " * 5000)


def test_more_threads_than_sessions_wait(ssh: SshTransport) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: ssh.execute(["sleep", "0.3"], timeout=30).returncode, range(20)))
    assert results == [0] * 20


def test_waiting_for_a_session_has_a_limit(ssh: SshTransport) -> None:
    with ThreadPoolExecutor(8) as pool:
        ssh.execute(["true"], timeout=10)
        held = [pool.submit(ssh.execute, ["sleep", "2"], timeout=10) for _ in range(8)]
        wait_for(lambda: len(running("sleep 2")) >= 8, within=5, what="eight sleeps")
        with pytest.raises(TransportError, match=r"node01: `true` waited 0\.1 s behind 8 other commands"):
            ssh.execute(["true"], timeout=0.1)
        assert all(one.result().ok for one in held)


def only_connection(server: Server, ssh: SshTransport) -> int:
    """sshd's process of the one connection. Those of other tests may still be closing, on a busy machine."""
    wait_for(lambda: not server.connections(), within=10, what="without connections")
    assert ssh.execute(["true"], timeout=10).ok
    (connection,) = server.connections()
    return connection


def test_a_connection_that_the_server_dropped_is_opened_anew(server: Server, ssh: SshTransport) -> None:
    before = only_connection(server, ssh)
    signal_connection(before, signal.SIGKILL)
    assert ssh.execute(["echo", "again"], timeout=10).stdout == "again\n"
    assert set(server.connections()) - {before}


def test_a_command_that_may_have_run_is_not_sent_again(server: Server, ssh: SshTransport, tmp_path: Path) -> None:
    connection = only_connection(server, ssh)
    mark = tmp_path / "runs"
    text = f"echo run >>{mark}; sleep 1.0625"
    with ThreadPoolExecutor(1) as pool:
        running_command = pool.submit(ssh.execute, ["sh", "-c", text], timeout=10)
        wait_for(mark.exists, within=5, what="the command running")
        signal_connection(connection, signal.SIGKILL)
        broke = r"node01: the connection to root@127.* broke while `sh -c .*` ran: EOFError\n"
        with pytest.raises(TransportError, match=broke):
            running_command.result()
    assert mark.read_text() == "run\n"
    assert ssh.execute(["true"], timeout=10).ok


def test_packets_are_sealed_by_aes_gcm_before_and_after_keys_are_renewed(ssh: SshTransport, tmp_path: Path) -> None:
    ssh.open()
    assert ssh._connection is not None
    transport = ssh._connection.transport
    assert (transport.local_cipher, transport.remote_cipher) == ("aes128-gcm@openssh.com",) * 2  # type: ignore[attr-defined]
    content = os.urandom(1_000_000)
    ssh.put(content, str(tmp_path / "before"))
    transport.renegotiate_keys()
    ssh.put(content, str(tmp_path / "after"))
    assert ssh.get(str(tmp_path / "before")) == ssh.get(str(tmp_path / "after")) == content
    assert ssh._connection.transport is transport


def test_closed_and_used_again(server: Server, ssh: SshTransport) -> None:
    assert ssh.execute(["true"], timeout=10).ok
    ssh.close()
    ssh.close()
    wait_for(lambda: not server.connections(), within=5, what="the connection gone")
    assert ssh.execute(["true"], timeout=10).ok


def test_another_host_key_is_refused_before_authentication(server: Server, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other}\n")
    before = server.log().count("Accepted key") + server.log().count("Accepted publickey")
    with pytest.raises(HostKeyError) as caught:
        server.transport(known_hosts=known).execute(["true"], timeout=5)
    offered, pinned = fingerprint(server.folder / "host.pub"), fingerprint(tmp_path / "other.pub")
    assert str(caught.value) == (
        f"node01: 127.0.0.1:{server.port} shows the host key ssh-ed25519 {offered}\n"
        f"  expected: ssh-ed25519 {pinned} as in {known}\n"
        "  do: find out whether the machine was made anew or another one answers; "
        "then replace its line in that file"
    )
    assert server.log().count("Accepted key") + server.log().count("Accepted publickey") == before


def test_a_machine_without_a_pinned_key_is_refused(server: Server, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    with pytest.raises(HostKeyError) as caught:
        server.transport(known_hosts=known).execute(["true"], timeout=5)
    offered = fingerprint(server.folder / "host.pub")
    assert f"{offered}, and none is pinned for [127.0.0.1]:{server.port}" in str(caught.value)
    assert known.read_text() == ""


def fingerprint(path: Path) -> str:
    said = subprocess.run(["ssh-keygen", "-l", "-f", path], check=True, capture_output=True, text=True)
    return said.stdout.split()[1]


def test_a_key_that_is_not_authorized(server: Server, tmp_path: Path) -> None:
    keygen(tmp_path / "id")
    with pytest.raises(TransportError) as caught:
        server.transport(key=tmp_path / "id").execute(["true"], timeout=5)
    assert f"node01: root@127.0.0.1:{server.port} refused the login with the key {tmp_path}/id" in str(caught.value)
    assert f"do: add {tmp_path}/id.pub to ~root/.ssh/authorized_keys there" in str(caught.value)


def test_nobody_listens(server: Server) -> None:
    known = server.folder / "known_hosts"
    with pytest.raises(TransportError, match=r"node01: no ssh connection to root@127\.0\.0\.1:1: .*refused|Unable"):
        SshTransport("node01", "127.0.0.1", 1, "root", server.folder / "id", known).execute(["true"], timeout=5)


def test_something_else_listens(server: Server) -> None:
    """A web server has the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web, ThreadPoolExecutor(1) as pool:
        port = web.server_address[1]
        pool.submit(web.serve_forever, 0.05)
        try:
            with pytest.raises(TransportError) as caught:
                server.transport(port=port).execute(["true"], timeout=5)
        finally:
            web.shutdown()
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"node01: something takes connections at root@127.0.0.1:{port} and does not answer as sshd")
    assert f"do: see what listens there: ss -ltnp 'sport = :{port}'" in str(caught.value)


@pytest.mark.parametrize("what", ["key", "known_hosts"])
def test_a_file_that_is_missing_is_named(server: Server, tmp_path: Path, what: str) -> None:
    with pytest.raises(TransportError, match=rf"node01: the {what}.* {tmp_path}/gone to reach root@127.* not exist"):
        server.transport(**{what: tmp_path / "gone"}).execute(["true"], timeout=5)


CONTENT = bytes(range(256)) * 5000


@pytest.mark.parametrize("content", [b"", b"one\n", CONTENT], ids=["empty", "line", "binary"])
def test_files_arrive_whole_with_their_mode(ssh: SshTransport, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "it's a 'file' $(id) ü"
    path.write_bytes(b"before")
    ssh.put(content, str(path), mode=0o600)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o7777 == 0o600
    assert ssh.get(str(path)) == content
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_files_that_cannot_be(ssh: SshTransport, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=rf"node01: {tmp_path}/gone could not be read: .*No such file"):
        ssh.get(f"{tmp_path}/gone")
    with pytest.raises(FileError, match=rf"node01: {tmp_path}/no/file could not be written: .*"):
        ssh.put(b"x", f"{tmp_path}/no/file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=r"could not be written: mv: .*directory"):
        ssh.put(b"x", f"{tmp_path}/folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(ValueError, match="'relative' is not absolute"):
        ssh.get("relative")


def test_a_frozen_machine_is_reported_in_bounded_time(server: Server) -> None:
    ssh = server.transport()
    frozen = only_connection(server, ssh)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ssh.execute, ["sleep", "3.0625"], timeout=1)
        wait_for(lambda: running("sleep 3.0625"), within=5, what="the command running")
        started = time.monotonic()
        try:
            signal_connection(frozen, signal.SIGSTOP)
            with pytest.raises(
                TransportError, match=r"node01: `sleep 3\.0625` did not end in time and .* \(process \d+"
            ):
                held.result()
            assert time.monotonic() - started < 25
        finally:
            signal_connection(frozen, signal.SIGCONT)
            ssh.close()
