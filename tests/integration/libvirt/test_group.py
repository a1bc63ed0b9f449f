"""A member of the daemon's group, who is not root, brings a machine up in the daemon that runs, and takes it down.

Daemon and member are in a network of their own: libvirt's firewall rules and the bridge are nobody else's.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.libvirt import daemon, reaper, view
from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.image import ensure_image
from pytest_ai_how.progress import Silent

from .sample import config

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a libvirt daemon and a member of its group are made by root"),
    pytest.mark.skipif(bool(host_lacks()), reason=f"driver libvirt {host_lacks()}"),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="apt-get install libvirt-daemon"),
    pytest.mark.skipif(
        shutil.which("iptables") is None, reason="libvirt's own bridges need it: apt-get install iptables"
    ),
]
NAME, GROUP, MARK = "aihow-t-member", "aihow-t-libvirt", "aihow-t-group"
REPOSITORY = Path(__file__).parents[3]
CLUSTER, SUBNET = "vmgroup", "10.68.7"
ONE = {"name": "one", "roles": ["controller", "compute"], "address": f"{SUBNET}.10", "cpus": 1, "memory": 512}
SLURM = {"cluster": CLUSTER, "accounting": False, "partitions": [{"name": "debug", "nodes": ["one"], "default": True}]}
# As Debian's daemon is, but for the group's name; and for who checks a member, which polkit is there.
LIBVIRTD = """\
unix_sock_dir = "{sockets}"
unix_sock_group = "{group}"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
"""
# This host's control groups may be somebody else's. Consoles are written by virtlogd, as they are by default.
QEMU = "namespaces = []\ncgroup_controllers = []\n"
# The two daemons, in a network of their own, and with processes that end with the first of them.
APART = ("unshare", "--net", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child", "--mount-proc")
# The host's systemd knows nothing of these processes and could not register a machine for them: its bus is hidden.
DAEMONS = """\
[ ! -d /run/dbus ] || mount -t tmpfs tmpfs /run/dbus
virtlogd --pid-file "$1/virtlogd.pid" &
exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$1/libvirtd.pid"
"""
# Interpreter and tests may lie where only root can look: the member sees them at their place, and nothing else there.
OPENED = """\
scratch=$1; shift
number=0
for path; do
    [ "$path" != -- ] || break
    number=$((number + 1)); mkdir "$scratch/$number"
    mount --bind "${path#*:}" "$scratch/$number"
done
number=0
while [ "$1" != -- ]; do
    closed=${1%%:*}; path=${1#*:}; shift
    number=$((number + 1))
    [ -e "$path" ] && mount -t tmpfs -o mode=755 tmpfs "$closed"
    mkdir -p "$path"; mount --bind "$scratch/$number" "$path"
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Member:
    """Who may use the daemon; ``folder`` holds a home, and the socket that ``uri`` names."""

    folder: Path
    uri: str
    network: int

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, *argv: str, groups: Sequence[str] = ("--init-groups",)) -> subprocess.CompletedProcess[str]:
        """Run the product's command line as the member, with an environment of their own."""
        environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LIBVIRT_DEFAULT_URI": self.uri,
        }
        me = pwd.getpwnam(NAME)
        as_member = ("setpriv", f"--reuid={me.pw_uid}", f"--regid={me.pw_gid}", *groups, "--")
        with tempfile.TemporaryDirectory() as scratch:
            return subprocess.run(
                (
                    *("nsenter", f"--net=/proc/{self.network}/ns/net", "unshare", "--mount", "--propagation=slave"),
                    *("sh", "-euc", OPENED, "sh", scratch, *closed(), "--", *as_member),
                    *(sys.executable, "-m", "pytest_ai_how", *argv),
                ),
                env=environment,
                cwd=self.home,
                text=True,
                capture_output=True,
                check=False,
                timeout=600,
            )


def closed() -> list[str]:
    """What Python needs that the member can't reach, each behind the first folder that keeps others out."""
    found = []
    for path in dict.fromkeys(map(Path, (sys.base_prefix, sys.prefix, REPOSITORY))):
        for folder in (*reversed(path.parents), path):
            if not folder.stat().st_mode & 0o001:
                found.append(f"{folder}:{path}")
                break
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where others can look, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="aihow-t-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def account(folder: Path) -> Iterator[None]:
    """The group, and its member with a home in which root has built the image, as `images build` says."""
    remove_account()
    subprocess.run(["groupadd", "--system", GROUP], check=True)
    options = ("--system", "--home-dir", str(folder / "home"), "--create-home", "--groups", GROUP)
    subprocess.run(["useradd", *options, NAME], check=True)
    try:
        image = ensure_image("vm", Silent())
        images = folder / "home/.cache/pytest-ai-how/images"
        images.mkdir(parents=True)
        shutil.copytree(image.folder, images / image.folder.name, copy_function=linked)
        for path in (folder / "home").rglob("*"):
            if not path.is_relative_to(images / image.folder.name):
                shutil.chown(path, NAME)
        whole = config(CLUSTER, SUBNET, nodes=[ONE], storage={"kind": "none"}, slurm=SLURM)
        (folder / "home/one.yaml").write_text(yaml.safe_dump(whole.model_dump(mode="json", exclude_none=True)))
        yield
    finally:
        remove_account()


def remove_account() -> None:
    for command, name in (("userdel", NAME), ("groupdel", GROUP)):
        subprocess.run([command, name], check=False, capture_output=True)


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def member(folder: Path, account: None) -> Iterator[Member]:
    """The member, and root's daemon."""
    home, sockets = folder / "daemon", folder / "sockets"
    # The last two are made by Debian's packages of what a daemon of one's own does without.
    for name in ("etc", "lib", "log", "run", "fresh", "cache", "lib/dnsmasq", "log/qemu"):
        (home / name).mkdir(parents=True)
    sockets.mkdir()
    (home / "etc/libvirtd.conf").write_text(LIBVIRTD.format(sockets=sockets, group=GROUP))
    (home / "etc/qemu.conf").write_text(QEMU)
    daemon._accounts(home)
    python = (sys.executable, "-IS")
    with (home / "log.txt").open("wb") as log:
        started = subprocess.Popen(
            (
                *(*APART, "sh", "-euc", 'ip link set lo up; mount -t sysfs sysfs /sys; exec "$@"', "sh"),
                *(*python, view.__file__, MARK, str(home), str(home / "cache")),
                *(*python, reaper.__file__, MARK, "sh", "-euc", DAEMONS, "sh", str(home)),
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": f"{os.environ['PATH']}:{daemon._SBIN}"},
        )
    try:
        wait_for(lambda: (sockets / "libvirt-sock").exists() or started.poll(), within=30.0, what="listening")
        assert started.poll() is None, (home / "log.txt").read_text()
        yield Member(folder, f"qemu+unix:///system?socket={sockets}/libvirt-sock", started.pid)
    finally:
        started.kill()  # it waits for the others, and would not end before them; they end with it
        started.wait(30)


def test_a_member_of_the_group_brings_a_machine_up_and_takes_it_down(member: Member) -> None:
    up = member.run("up", "--cluster", "one.yaml")
    assert up.returncode == 0, up.stdout + up.stderr + (member.folder / "daemon/log.txt").read_text()
    try:
        said = member.run("exec", "--cluster", "vmgroup", "--", "sh", "-c", "hostname; id -un")
        assert said.stdout.split() == ["one:", "one", "one:", "root"], said.stdout + said.stderr
        me = pwd.getpwnam(NAME)
        machines = member.home / ".local/state/pytest-ai-how/vmgroup/machines"
        assert [path for path in machines.rglob("*") if path.stat().st_uid != me.pw_uid] == []
    finally:
        down = member.run("down", "--cluster", "vmgroup")
    assert "cluster vmgroup is down, nothing of it remains" in down.stdout, down.stdout + down.stderr
    look = ["nsenter", f"--net=/proc/{member.network}/ns/net", "ip", "-brief", "link"]
    assert "ah-vmgroup" not in subprocess.run(look, capture_output=True, text=True, check=True).stdout


def test_a_session_that_is_older_than_the_membership_is_told_so(member: Member) -> None:
    refused = member.run("up", "--cluster", "one.yaml", groups=("--clear-groups",))
    assert refused.returncode == 1
    assert f"user {NAME} may not use libvirt's socket {member.folder}/sockets/libvirt-sock" in refused.stderr
    assert f"it is of root:{GROUP}, mode 0770" in refused.stderr
    assert f"do: log in anew, since this session is older than {NAME}'s place in the group {GROUP}" in refused.stderr
