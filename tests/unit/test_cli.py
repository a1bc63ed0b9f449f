from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.cli import life, look
from pytest_ai_how.cli.parser import main
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.record import Claim
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.ssh import SshTransport
from tests.fakes import fake_cluster

NAME = "aihowlease"
COMMANDS = ("up", "down", "reap", "status", "ssh", "exec", "images", "report", "compare", "inventory")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "state" / "pytest-ai-how"


@pytest.fixture
def kept() -> Iterator[Lease]:
    lease = Lease.acquire(NAME, "run1", Claim("fake", "f", {"name": NAME}))
    lease.ensure("machines", "f", lambda: {"node01": "10.0.0.2"})
    lease.journal.intend("directory", path=str(lease.state / "machines"))
    lease.release("always")
    yield lease
    lease.close()


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_has_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: pytest-ai-how " + " ".join(command))
    assert all(name in said for name in (COMMANDS if not command else ()))


@pytest.mark.parametrize("argv", [[], ["fly"], ["exec"], ["ssh"], ["status", "--nonsense"]])
def test_wrong_usage_is_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from pytest_ai_how.cli.parser import build_parser; build_parser(['--help']).format_help();"
        "print([name for name in ('pydantic', 'fabric', 'rich', 'yaml', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_errors_are_text_not_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--cluster", "loacl"]) == 1
    said = capsys.readouterr().err
    assert "no cluster is named" in said
    assert "Traceback" not in said


def test_an_interrupt_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(life, "down", interrupted)
    assert main(["down"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_interrupts(tmp_path: Path) -> None:
    """A terminated command unwinds, so that what it made is undone."""
    script = """if True:
        import os, signal, sys
        from pytest_ai_how.cli import life
        from pytest_ai_how.cli.parser import main
        life.down = lambda args: os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(main(["down"]))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


# status


def test_status_without_clusters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "no clusters\n"
    assert main(["status", "--cluster", NAME]) == 1


def test_status_of_a_kept_cluster(kept: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("aihowlease: kept, up for ")
    assert lines[0].endswith(" 1 parts to undo")
    assert lines[1].split() == ["machines", "done", "0.00", "s", "node01", "10.0.0.2"]
    assert main(["status", "--json", "--cluster", NAME]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["condition"], told["run"], told["owner"]) == ("kept", "run1", None)
    assert told["machines"] == {"node01": "10.0.0.2"}
    assert told["to_undo"] == [f"directory path={kept.state}/machines"]


def test_status_names_the_owner_and_what_can_not_be_read(kept: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    owner = Lease.acquire(NAME, "run2", Claim("fake", "f"))
    main(["status"])
    assert f"aihowlease: in use by run run2, pid {os.getpid()} on " in capsys.readouterr().out
    owner.release("always")
    (kept.state / "record.json").write_text("{")
    assert main(["status"]) == 1
    assert "reap --force aihowlease" in capsys.readouterr().out


# several clusters in one file


def test_one_of_several_clusters_is_named_by_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--cluster", "workstation/hpc"]) == 0
    assert capsys.readouterr().out == "cluster hpc-cluster: there is none\n"
    for command in ("up", "down", "exec"):
        words = ["--", "true"] if command == "exec" else []
        assert main([command, "--cluster", "workstation", *words]) == 1
        assert capsys.readouterr().err == (
            "--cluster: workstation holds 2 clusters; say --cluster=workstation/hpc or --cluster=workstation/cloud\n"
        )


# down and reap


def test_down_takes_a_kept_cluster_down(kept: Lease, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["down", "--cluster", NAME]) == 0
    assert "cluster aihowlease is down, nothing of it remains" in capsys.readouterr().out
    assert list(home.iterdir()) == []
    assert main(["down", "--cluster", NAME]) == 0
    assert capsys.readouterr().out == "cluster aihowlease: there is none\n"


def test_down_of_a_cluster_in_use_is_refused(kept: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    owner = Lease.acquire(NAME, "run2", Claim("fake", "f"))
    assert main(["down", "--cluster", NAME]) == 1
    assert "in use by run run2" in capsys.readouterr().err
    owner.release()


def test_reap_spares_what_is_kept_or_in_use(kept: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == f"{NAME}: kept; left alone (pytest-ai-how down --cluster {NAME})\n"
    owner = Lease.acquire(NAME, "run2", Claim("fake", "f"))
    assert main(["reap", "--cluster", NAME]) == 0
    assert "in use by run run2" in capsys.readouterr().out
    assert kept.state.exists()
    owner.close()
    assert main(["reap", "--dry-run"]) == 0
    assert f"would be taken down\n  directory path={kept.state}/machines" in capsys.readouterr().out
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == f"{NAME}: taken down, nothing remains\n"
    assert not kept.state.exists()


@pytest.mark.parametrize(
    ("driver", "command", "said"),
    [
        (
            "ssh",
            "down",
            f"{NAME}: warning: run run2 ended while test_break had put a fault into it, which may still be",
        ),
        (
            "host",
            "reap",
            "nothing remains but: warning: run run2 ended while test_break had put a fault into it, which",
        ),
        ("nspawn", "reap", f"{NAME}: taken down, nothing remains\n"),
    ],
)
def test_a_fault_on_machines_that_are_not_ours_is_not_taken_down(
    driver: str, command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease.acquire(NAME, "run2", Claim(driver, "f"))
    lease.breaks("test_break")
    main(["status"])
    assert "had put a fault" not in capsys.readouterr().out, "that run is about to undo it"
    lease.close()
    main(["status"])
    assert "  not used again: run run2 ended while test_break had put a fault into it\n" in capsys.readouterr().out
    assert main([command, "--cluster", NAME]) == 0
    assert said in "".join(capsys.readouterr())
    assert not lease.state.exists()


def test_reap_goes_on_after_one_that_can_not_be_read(kept: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    other = Lease.acquire("aihowlease-b", "run3")
    other.close()
    (kept.state / "journal.jsonl").write_text("rubbish\n")
    assert main(["reap"]) == 1
    said = capsys.readouterr()
    assert "aihowlease-b: taken down" in said.out
    assert f"{kept.state}/journal.jsonl:1: not JSON" in said.err
    assert main(["reap", "--force", NAME]) == 0
    assert "set aside: " in capsys.readouterr().out
    assert not kept.state.exists()


def test_reap_removes_halves_and_stale_builds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = home / ".aihowlease.01234567.gone"
    half.mkdir(parents=True)
    assert main(["reap", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{half}: would be removed\n"
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == f"{half}: removed\n"
    assert not half.exists()


def test_force_needs_a_good_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reap", "--force"]) == 1
    assert "--force needs the name of a cluster" in capsys.readouterr().err
    assert main(["reap", "--force", "../../etc"]) == 1
    assert "not a cluster name" in capsys.readouterr().err


def test_usage_says_how_to_validate_look_and_take_down() -> None:
    text = life.usage(load_config("local"), "local")
    assert "pytest --pyargs pytest_ai_how.suites.phase6 --cluster=local --cluster-keep=always" in text
    assert "pytest-ai-how ssh controller" in text
    assert "pytest-ai-how down" in text


# ssh and exec


def test_ssh_uses_the_leases_keys_only(tmp_path: Path) -> None:
    transport = SshTransport("node01", "10.0.0.2", 22, "root", tmp_path / "100%", tmp_path / "known hosts")
    argv = look.ssh_argv(transport, ["echo", "a b; id"])
    assert argv[-2:] == ["root@10.0.0.2", "echo 'a b; id'"]
    assert argv[:5] == ["ssh", "-F", "none", "-p", "22"]
    options = argv[5:-2][1::2]
    assert f'IdentityFile="{tmp_path}/100%%"' in options
    assert f'UserKnownHostsFile="{tmp_path / "known hosts"}"' in options
    assert {"StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null"} <= set(options)


@pytest.mark.parametrize("command", [["ssh", "node01"], ["exec", "--", "true"]])
def test_a_cluster_that_is_not_up_says_how_to_bring_it_up(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    assert capsys.readouterr().err == "cluster 'local': is not up\n  do: pytest-ai-how up --cluster local\n"


def test_exec_shows_each_node_and_ends_with_the_worst_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = fake_cluster(
        {
            "node01": {"job": Result(("job", "-x"), 3, "one\ntwo\n", node="node01")},
            "node02": {"job": AiHowError("node02", "is gone")},
            "*": {"job": "fine\n"},
        }
    )
    monkeypatch.setattr(look, "_cluster", lambda name: cluster)
    assert main(["exec", "--on", "compute", "--", "job", "-x"]) == 255
    said = capsys.readouterr()
    assert said.out == "node01: one\nnode01: two\n"
    assert said.err == "node01: exit status 3\nnode02: node02: is gone\nnode02: exit status 255\n"
    assert main(["exec", "--on", "controller", "--", "job", "-x"]) == 0
    assert main(["exec", "--on", "node01", "--", "job", "-x"]) == 3
    assert main(["exec", "--on", "storage", "--", "job"]) == 1
    assert "a node (controller, node01, node02) or a role (compute, controller)" in capsys.readouterr().err


def test_a_signal_is_shown_as_a_shell_does() -> None:
    assert [look.worst(code) for code in (0, 3, -9)] == [0, 3, 137]


# a reader that has seen enough


@pytest.mark.parametrize("words", [("status",), ("images", "list")], ids=" ".join)
def test_a_reader_that_is_gone_is_no_error(words: tuple[str, ...], kept: Lease) -> None:
    """As of other tools that SIGPIPE ends: nothing is said, and the status is 141."""
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "pytest_ai_how", *words]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_that_breaks_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: object) -> int:
        raise BrokenPipeError("of another process")

    monkeypatch.setattr("pytest_ai_how.cli.parser.run", broken)
    with open(os.devnull, "w") as null:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", null)
        with pytest.raises(BrokenPipeError, match="of another process"):
            main(["status"])
