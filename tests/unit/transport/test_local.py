from __future__ import annotations

import os
import pwd
import shutil
import signal
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import CommandTimeout, FileError, OutputLimitExceeded, TransportError
from pytest_ai_how.transport import LocalTransport, Transport
from pytest_ai_how.transport.command import OUTPUT_LIMIT

LOCAL = LocalTransport("here")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def gone(pid: int) -> bool:
    """Whether a process ended; a zombie that nobody has waited for yet did."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_it_is_a_transport() -> None:
    assert isinstance(LOCAL, Transport)


@pytest.mark.parametrize(
    "word", ["", " a  b ", "x\ny\n", "it's", '"', "$(id)", "`id`", "; id", "*", "ü 🚀", "-n", "\\"]
)
def test_arguments_arrive_as_they_are(word: str) -> None:
    result = LOCAL.execute(["printf", "%s|", word, "last"], timeout=10)
    assert (result.stdout, result.stderr, result.node) == (f"{word}|last|", "", "here")


def test_status_streams_and_input() -> None:
    result = LOCAL.execute(["sh", "-c", "cat; echo said >&2; exit 7"], timeout=10, input="given ü")
    assert (result.returncode, result.stdout, result.stderr) == (7, "given ü", "said\n")


def test_without_input_stdin_is_at_its_end() -> None:
    assert LOCAL.execute(["cat"], timeout=5).ok


@pytest.mark.parametrize(
    ("name", "status", "said"), [("no-such-program", 127, "No such file"), ("/etc", 126, "denied")]
)
def test_what_cannot_be_run_has_the_status_of_a_shell(name: str, status: int, said: str) -> None:
    result = LOCAL.execute([name], timeout=5)
    assert result.returncode == status
    assert result.stderr.startswith(f"{name}: ")
    assert said in result.stderr


def test_a_signal_is_a_negative_status() -> None:
    assert LOCAL.execute(["sh", "-c", "kill -SEGV $$"], timeout=5).returncode == -signal.SIGSEGV


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert LOCAL.execute(["printf", r"a\377b"], timeout=10).stdout == "a\ufffdb"


def test_much_on_all_streams() -> None:
    data = b"0123456789abcdef" * 65536
    result = LOCAL.execute(["tee", "/dev/stderr"], timeout=30, input=data)
    assert result.stdout.encode() == data
    assert result.stderr.encode() == data


def test_input_that_nobody_reads_is_no_error() -> None:
    assert LOCAL.execute(["true"], timeout=10, input=b"x" * 4_000_000).ok


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)])
def test_a_timeout_kills_the_whole_group(user: str | None) -> None:
    """Two seconds: becoming another user took more than a third of one on a machine with a load of thirty."""
    text = "trap '' TERM HUP; sleep 60 & echo $$ $!; echo noise >&2; wait"
    with pytest.raises(CommandTimeout, match=r"here: `sh -c .*` did not end within 2 s and was killed") as caught:
        LOCAL.execute(["sh", "-c", text], timeout=2, user=user)
    pids = [int(pid) for pid in caught.value.result.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        wait_for(lambda pid=pid: gone(pid), within=5, what=f"process {pid} gone")  # type: ignore[misc]  # default
    assert caught.value.result.stderr == "noise\n"


def test_a_timeout_kills_what_closed_its_streams() -> None:
    with pytest.raises(CommandTimeout) as caught:
        LOCAL.execute(["sh", "-c", "echo $$; exec sleep 60 >&- 2>&-"], timeout=2)
    assert gone(int(caught.value.result.stdout))


def test_no_command_waits_for_what_it_left_behind() -> None:
    result = LOCAL.execute(["sh", "-c", "sleep 6.5 & echo started"], timeout=6)
    assert (result.returncode, result.stdout) == (0, "started\n")
    assert result.seconds < 5


def test_a_runaway_command_is_killed() -> None:
    with pytest.raises(OutputLimitExceeded, match="here: `yes` wrote more than 64 MiB and was killed") as caught:
        LOCAL.execute(["yes"], timeout=60)
    assert len(caught.value.result.stdout) <= OUTPUT_LIMIT + 65536


@as_root
def test_user_runs_at_its_home() -> None:
    result = LOCAL.execute(["sh", "-c", "id -un; pwd"], timeout=10, user="nobody")
    assert result.stdout.split() == ["nobody", "/"]


def test_who_runs_us_needs_nobodys_leave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """runuser(1) is for root alone; who hands in jobs of his own is not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    me = pwd.getpwuid(os.geteuid())
    result = LOCAL.execute([shutil.which("pwd", path="/bin:/usr/bin") or "pwd"], timeout=10, user=me.pw_name)
    assert result.stdout.strip() == str(Path(me.pw_dir).resolve() if Path(me.pw_dir).is_dir() else "/")


def test_a_user_that_does_not_exist() -> None:
    with pytest.raises(TransportError, match=r"here: there is no user 'nosuchuser'\n  do: useradd -m nosuchuser"):
        LOCAL.execute(["true"], timeout=5, user="nosuchuser")


def test_another_user_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TransportError) as caught:
        LOCAL.execute(["true"], timeout=5, user="nobody")
    assert str(caught.value) == "here: cannot run a command as 'nobody'\n  expected: root\n  do: run as root"


def test_files_arrive_whole_with_their_mode(tmp_path: Path) -> None:
    path, content = tmp_path / "a 'file' $(id)", bytes(range(256)) * 999
    path.write_text("before")
    LOCAL.put(content, str(path), mode=0o640)
    assert LOCAL.get(str(path)) == content
    assert path.stat().st_mode & 0o7777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"here: {tmp_path}/gone could not be read: No such file or directory"):
        LOCAL.get(f"{tmp_path}/gone")
    with pytest.raises(FileError, match=f"here: {tmp_path}/no/file could not be written: No such file or directory"):
        LOCAL.put(b"", f"{tmp_path}/no/file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=f"here: {tmp_path}/folder could not be written: Is a directory"):
        LOCAL.put(b"", f"{tmp_path}/folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(ValueError, match="'relative' is not absolute"):
        LOCAL.put(b"", "relative")
