"""What the machines of a BeeGFS run at their start, with programs of BeeGFS that only pretend."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_ai_how.assets import asset

HEAD = """\
TargetID     Reachability  Consistency   NodeID
========     ============  ===========   ======
"""
# beegfs-ctl 7.4.7 --listtargets --state --nodetype=storage
GOOD = f"{HEAD}     101           Online         Good        1\n     201           Online         Good        2\n"
ONE = f"{HEAD}     101           Online         Good        1\n"
LOST = f"{HEAD}     101           Online         Good        1\n     201 Probably-offline         Good        2\n"
RESYNC = f"{HEAD}     101           Online         Good        1\n     201           Online Needs-resync        2\n"
META = f"{HEAD}       1           Online         Good        1\n"
# beegfs 8.2 target list --state --node-type=storage
TOOL = """\
ID    ALIAS       ON NODE  POOL          REACHABILITY  LAST CONTACT  CONSISTENCY
s:101 node01-101  node01   storage_pool  Online        2s ago        Good
s:201 node02-201  node02   storage_pool  Online        3s ago        Good
"""


class Machine:
    """A folder in which the scripts find what they find on a machine; sleeping is instant and moves the clock."""

    def __init__(self, folder: Path, generation: str = "7.4") -> None:
        self.folder = folder
        for place in ("bin", "etc", "data"):
            (folder / place).mkdir()
        (folder / "etc/beegfs").write_text(
            f"GENERATION={generation}\nMANAGEMENT=10.0.0.10\nMOUNT=/mnt/beegfs\nMETADATA=1\nSTORAGE=2\n"
            "NODE=node01\nSERVER=1\nTARGET=101\n"
        )
        (folder / "etc/beegfs-tool").write_text("export BEEGFS_MGMTD_ADDR=10.0.0.10:8010\n")
        (folder / "clock").write_text("1000")
        self.program("timeout", 'shift 3; exec "$@"')
        self.program("date", f"cat {folder}/clock")
        self.program(
            "sleep", f"echo $(($(cat {folder}/clock) + 20)) >{folder}/clock.new; mv {folder}/clock.new {folder}/clock"
        )

    def program(self, name: str, text: str) -> None:
        place = self.folder / "bin" / name
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(0o755)

    def ctl(self, meta: str, *storage: str) -> None:
        """Pretend beegfs-ctl: ``storage`` are its successive answers, the last for ever."""
        for number, text in enumerate(storage):
            (self.folder / f"storage{number}").write_text(text)
        (self.folder / "meta").write_text(meta)
        count, last = self.folder / "count", len(storage) - 1
        count.write_text("0")
        self.program(
            "beegfs-ctl",
            f"case $* in *nodetype=meta*) cat {self.folder}/meta; exit ;; esac\n"
            f"n=$(cat {count}); cat {self.folder}/storage$n; [ $n -ge {last} ] || echo $((n + 1)) >{count}",
        )

    def meta_after(self, looks: int) -> None:
        """No metadata server answers the first ``looks`` looks."""
        ctl, count = self.folder / "bin/beegfs-ctl", self.folder / "looks"
        count.write_text("0")
        text = ctl.read_text().removeprefix("#!/bin/sh\n")
        none = f"[ $n -ge {looks} ] || {{ echo '[ERROR: No metadata servers found]'; exit; }}"
        ask = f"case $* in *nodetype=meta*) n=$(cat {count}); echo $((n + 1)) >{count}; {none} ;; esac"
        self.program("beegfs-ctl", f"{ask}\n{text}")

    def run(self, role: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        text = asset(f"provisioning/roles/{role}/files/usr/lib/ai-how/{script}").read_text()
        for there, here in (("/etc/ai-how/", "etc/"), ("/data/beegfs", "data"), ("/opt/beegfs/sbin/", "bin/")):
            text = text.replace(there, f"{self.folder}/{here}")
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        argv = ["sh", "-c", text, script, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env={"PATH": path})

    def wait(self) -> subprocess.CompletedProcess[str]:
        return self.run("beegfs-client", "beegfs-wait")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("first", [ONE, LOST, RESYNC, "[ERROR: No storage servers found]\n", ""])
def test_the_mount_waits_for_every_target(machine: Machine, first: str) -> None:
    machine.ctl(META, first, first, GOOD)
    ended = machine.wait()
    assert ended.returncode == 0
    assert ended.stdout == "all targets are online and good after 40 s: 1 of 1 for metadata, 2 of 2 for storage\n"


def test_a_client_that_comes_back_while_a_target_is_down_mounts_all_the_same(machine: Machine) -> None:
    machine.ctl(META, LOST)
    ended = machine.wait()
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1] == (
        "mounting after 300 s without all targets online and good: 1 of 1 for metadata, 1 of 2 for storage"
    )


def test_without_metadata_the_client_waits_as_long_as_it_takes_and_says_so(machine: Machine) -> None:
    machine.program("sleep", f"echo $(($(cat {machine.folder}/clock) + 400)) >{machine.folder}/clock")
    machine.ctl(META, GOOD)
    machine.meta_after(5)
    ended = machine.wait()
    assert ended.returncode == 0
    assert ended.stderr.splitlines() == [
        f"still waiting after {waited} s for management server 10.0.0.10, online and good: "
        "0 of 1 for metadata, 0 of 2 for storage"
        for waited in (400, 800, 1200, 1600)
    ]
    assert ended.stdout.startswith("all targets are online and good after 2000 s")


def test_generation_8_is_asked_by_its_own_command(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "8")
    (tmp_path / "table").write_text(TOOL)
    machine.program("beegfs", f'[ "$BEEGFS_MGMTD_ADDR" = 10.0.0.10:8010 ] && cat {tmp_path}/table')
    ended = machine.wait()
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_server_gets_its_numbers_and_names_once(machine: Machine) -> None:
    done = machine.folder / "done"
    machine.program("beegfs-setup-storage", f'echo "$*" >>{done}; mkdir -p "$3"')
    for _ in range(2):
        assert machine.run("beegfs-common", "beegfs-setup", "storage").returncode == 0
    new = f"{machine.folder}/data/storage.new"
    assert done.read_text() == f"-C -p {new} -s 1 -S node01 -i 101 -I node01-101\n"
    assert [path.name for path in (machine.folder / "data").iterdir()] == ["storage"]


def test_a_set_up_that_was_interrupted_begins_anew(machine: Machine) -> None:
    (machine.folder / "data/meta.new").mkdir()
    (machine.folder / "data/meta.new/format.conf").touch()
    machine.program("beegfs-setup-meta", '[ ! -e "$3" ] && mkdir -p "$3"')
    assert machine.run("beegfs-common", "beegfs-setup", "meta").returncode == 0
    assert (machine.folder / "data/meta").is_dir()
    assert not (machine.folder / "data/meta/format.conf").exists()


def test_a_set_up_that_fails_leaves_no_folder_to_start_with(machine: Machine) -> None:
    machine.program("beegfs-setup-mgmtd", 'mkdir -p "$3"; exit 1')
    assert machine.run("beegfs-common", "beegfs-setup", "mgmtd").returncode == 1
    assert not (machine.folder / "data/mgmtd").exists()


def test_the_folders_are_never_made_below_the_mount(machine: Machine) -> None:
    machine.program("findmnt", "exit 1")
    machine.program("systemd-tmpfiles", f"touch {machine.folder}/made")
    ended = machine.run("beegfs-client", "shared-folders")
    assert ended.returncode == 1
    assert "nothing is mounted at /mnt/beegfs, expected beegfs" in ended.stderr
    assert not (machine.folder / "made").exists()


def test_the_folders_are_made_on_beegfs(machine: Machine) -> None:
    machine.program("findmnt", "echo beegfs")
    machine.program("systemd-tmpfiles", f'[ "$1" = --create ] && touch {machine.folder}/made')
    assert machine.run("beegfs-client", "shared-folders").returncode == 0
    assert (machine.folder / "made").exists()


def test_a_machine_without_an_address_says_so(machine: Machine) -> None:
    machine.program("ip", "true")
    ended = machine.run("beegfs-common", "beegfs-address")
    assert (ended.returncode, ended.stderr) == (1, "no interface has an IPv4 address after 60 s\n")
