import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_ai_how.drivers.machines.accounts import Accounts
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.drivers.nspawn.cgroups import Cgroups, Hierarchy
from pytest_ai_how.drivers.nspawn.machine import Machine
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal

from .sample import config, with_node


def machine(tmp_path: Path, **changes: object) -> Machine:
    cluster = with_node(1, **changes)
    return Machine(cluster, cluster.nodes[1], tmp_path / "node01")


def test_mount_that_fails_names_machine_and_command(tmp_path: Path) -> None:
    found, journal = machine(tmp_path), Journal(tmp_path / "journal")
    with pytest.raises(
        ProvisionError, match=r"^node01: `mount -t overlay aihow-lab-node01 -o lowerdir=/no/image,.*exited"
    ):
        found.mount(Path("/no/image"), journal)
    assert [(entry.kind, entry.data) for entry in journal.pending()] == [("mount", {"target": str(found.root)})]


def test_files_get_their_modes_and_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr("os.chown", lambda path, uid, gid: owners.update({Path(path).name: (uid, gid)}))
    found = machine(tmp_path)
    for folder in ("etc", "home", "root"):
        (found.root / folder).mkdir(parents=True)
    for name in ("passwd", "group", "shadow"):
        (found.root / "etc" / name).write_text("")
    accounts = Accounts({"root": (0, 0), "munge": (101, 102), "hpc": (1000, 1000)})
    found.furnish([File("/etc/munge/munge.key", b"k" * 8, 0o400, "munge"), File("/etc/hosts", b"hosts")], accounts)
    assert stat.S_IMODE((found.root / "etc/munge/munge.key").stat().st_mode) == 0o400
    assert stat.S_IMODE((found.root / "home/hpc/.ssh").stat().st_mode) == 0o700
    assert (owners["munge.key"], owners["hosts"], owners["hpc"]) == ((101, 102), (0, 0), (1000, 1000))


def test_start_journals_the_process_before_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, seen = Journal(tmp_path / "journal"), []

    def run(argv: list[str], **options: object) -> None:
        seen.append(([entry.kind for entry in journal.pending()], argv, options))

    monkeypatch.setattr("subprocess.run", run)
    found = machine(tmp_path)
    found.folder.mkdir()
    (tmp_path / "c/pytest-ai-how:lab").mkdir(parents=True)
    cgroups = Cgroups((Hierarchy(tmp_path / "c", frozenset({"memory"}), 1),))
    found.start(tmp_path / "shared", cgroups, journal)
    ((kinds, argv, options),) = seen
    assert kinds == ["process"]
    assert journal.pending()[0].data == {"cookie": "pytest-ai-how:lab/node01"}
    assert argv[:2] == ["setsid", "--fork"]
    assert argv[argv.index("-c") + 2 :][:3] == [
        "pytest-ai-how:lab/node01",
        str(tmp_path / "c/pytest-ai-how:lab/node01"),
        "",
    ]
    assert {"--machine=aihow-lab-node01", "--keep-unit", "--register=no", "--network-bridge=aihow-lab"} <= set(argv)
    assert f"--bind={tmp_path}/shared:/mnt/shared" in argv
    assert argv[-2:] == ["--", "ai_how.role=compute"]
    assert options["close_fds"] is True
    assert (tmp_path / "c/pytest-ai-how:lab/node01/memory.limit_in_bytes").read_text() == str(1024 * 2**20)


def test_machine_on_version_2_is_alone_in_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell that starts nspawn is in a group beside it: else nspawn could not hand the controllers on."""
    seen: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda argv, **_: seen.append(argv))
    found = machine(tmp_path)
    found.folder.mkdir()
    group = tmp_path / "c/pytest-ai-how:lab"
    group.mkdir(parents=True)
    cgroups = Cgroups((Hierarchy(tmp_path / "c", frozenset({"memory"}), 2),))
    found.start(tmp_path / "shared", cgroups, Journal(tmp_path / "journal"))
    node = group / "node01"
    (argv,) = seen
    assert argv[argv.index("-c") + 3 :][:2] == [f"{node}/launch", str(node)]
    assert (node / "launch").is_dir()
    assert (node / "cgroup.subtree_control").read_text() == "+memory"


@contextmanager
def server(says: bytes) -> Iterator[int]:
    """A port on the loopback interface that says ``says`` to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def on_loopback(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: connect(("127.0.0.1", port), timeout))


def test_machine_is_up_when_an_ssh_server_greets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(b"SSH-2.0-OpenSSH_10.0\r\n") as port:
        on_loopback(monkeypatch, port)
        machine(tmp_path).wait_for_ssh(5.0)


def test_something_else_on_the_port_is_no_ssh_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(b"220 smtp ready\r\n") as port:
        on_loopback(monkeypatch, port)
        with pytest.raises(ProvisionError) as caught:
            machine(tmp_path).wait_for_ssh(0.1)
    assert caught.value.where == "node01"
    assert caught.value.seen.startswith("not answering on port 22 within 0.1 s")
    assert caught.value.expected == "sshd answering on 10.99.0.11 port 22"


def test_machine_that_ended_shows_its_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    found = machine(tmp_path)
    found.folder.mkdir()
    found.console.write_text("".join(f"line {n}\n" for n in range(30)) + "Failed to mount root: No such file\n")
    with pytest.raises(ProvisionError) as caught:
        found.wait_for_ssh(30.0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "node01: systemd-nspawn ended while the machine booted; the console's end:"
    assert "    Failed to mount root: No such file" in lines
    assert "    line 0" not in lines
    assert lines[-1] == f"  do: read {found.console}"


def test_names_of_two_clusters_never_meet(tmp_path: Path) -> None:
    first = config()
    second = first.model_copy(update={"name": "lab2"})
    assert Machine(first, first.nodes[0], tmp_path).name != Machine(second, second.nodes[0], tmp_path).name
