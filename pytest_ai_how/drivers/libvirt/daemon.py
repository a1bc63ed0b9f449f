"""The libvirt daemon: the one that runs on this host, or a private one that begins and ends with the cluster.

A private daemon sees its own folders in place of libvirt's, in a mount namespace of its own: nothing of the user's is
read or written, and nothing of it stays behind. Its socket is reached through ``/proc/<pid>/root``.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.libvirt import api, names, reaper, view
from pytest_ai_how.drivers.libvirt.rights import refusal
from pytest_ai_how.errors import DeadlineExceeded, HostError, ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import Process, marked
from pytest_ai_how.lease.state import cache_home, cluster_state

SYSTEM = "qemu:///system"
# Machines are on a bridge and on files of this host: another host's daemon can't have them, nor a session's.
_OF_THIS_HOST = re.compile(r"qemu(\+unix)?:///system(\?|$)")
#: What stands for the private daemon's address, which changes with its process.
PRIVATE = "private"
_SOCKET, _PROGRAM = "run/libvirt/libvirt-sock", "libvirtd"
# Seconds. Measured: 0.6 with nothing else running, 2 beside seven others on two cores.
_START = 30.0
# The accounts that Debian's libvirt looks up before it reads its configuration; its postinst makes them, so they are
# missing where only libvirt-daemon is installed. Their numbers are those that Debian gave them.
_USER, _PASSWD, _GROUP = (
    "libvirt-qemu",
    "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
    "libvirt-qemu:x:64055:\n",
)

# Machines run as root, on files that are root's alone. Without "file", a second daemon (virtlogd) writes the consoles.
# With its own user unable to open /dev/kvm, libvirt would ask qemu for its capabilities anew at each look-up.
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""
_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
log_outputs = "3:stderr"
"""

_DETACHED = ("setsid", "--fork", "unshare", "--mount", "--propagation=slave")
# Without what is installed for it: it starts in a third of the time.
_PYTHON = (sys.executable, "-IS")
_SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


def running_daemon() -> str:
    """The address of a daemon that runs on this host and that we may use; empty when there is none."""
    wanted = os.environ.get("LIBVIRT_DEFAULT_URI", "")
    if wanted:
        return wanted if _OF_THIS_HOST.match(wanted) else ""
    return SYSTEM if api.answers(SYSTEM) else ""


def chosen_daemon() -> str:
    """The daemon for a new cluster: one that runs, or else :data:`PRIVATE`, which only root can start.

    Raises :class:`HostError` when there is neither.
    """
    wanted = os.environ.get("LIBVIRT_DEFAULT_URI", "")
    if wanted and not _OF_THIS_HOST.match(wanted):
        raise HostError(
            "localhost",
            f"LIBVIRT_DEFAULT_URI is {wanted}",
            expected=f"the daemon of this host's virtual machines: {SYSTEM}, or qemu+unix:///system?socket=PATH",
            cure="unset LIBVIRT_DEFAULT_URI",
        )
    found = running_daemon()
    if not found and os.geteuid() != 0:
        if refused := refusal(SYSTEM):
            raise refused
        raise HostError(
            "localhost",
            f"no libvirt daemon answers at {SYSTEM}, and a private one can't be started: not root",
            expected="a running libvirtd that this user may use (group libvirt), or root",
            cure="systemctl start libvirtd and add the user to the group libvirt, or run the same command as root",
        )
    return found or PRIVATE


def address(cluster: str, daemon: str) -> str:
    """The URI of ``daemon``. Raises :class:`HostError` when the cluster's private one does not run."""
    if daemon != PRIVATE:
        return daemon
    socket = _private_socket(cluster)
    if socket is None:
        raise HostError(
            "localhost",
            f"the private libvirt daemon of cluster {cluster!r} does not run",
            expected="a libvirtd with the mark " + names.daemon_mark(cluster),
            cure=f"pytest-ai-how down --cluster {cluster}, then bring it up again",
        )
    return _uri(socket)


def is_up(cluster: str) -> bool:
    """Whether the cluster's private daemon runs."""
    return _private_socket(cluster) is not None


def start_private(cluster: str, journal: Journal, pages: Iterable[str] = ()) -> None:
    """Start the cluster's private daemon and return when it answers.

    ``pages`` are the sizes of huge pages (``2M``, ``1G``) for which it sees a hugetlbfs that nobody else sees.
    Raises :class:`ProvisionError` with what it said when it does not.
    """
    home = cluster_state(cluster) / "machines" / "libvirt"
    for name in ("etc", "lib", "log", "run", "fresh"):
        (home / name).mkdir(parents=True, mode=0o700)
    for size in pages:
        (home / "pages" / size).mkdir(parents=True, mode=0o700)
    (home / "etc/qemu.conf").write_text(_QEMU_CONF)
    (home / "etc/libvirtd.conf").write_text(_LIBVIRTD_CONF)
    _accounts(home)
    # What libvirt found out about qemu is kept: to ask anew takes seconds. It sees itself when that is out of date.
    cache = cache_home() / "libvirt"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = names.daemon_mark(cluster)
    journal.intend("daemon", cookie=mark)
    with (home / "libvirtd.log").open("wb") as log:
        subprocess.run(
            [
                *_DETACHED,
                *(*_PYTHON, view.__file__, mark, str(home), str(cache)),
                *(*_PYTHON, reaper.__file__, mark, _PROGRAM, "--config", "/etc/libvirt/libvirtd.conf"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            close_fds=True,
            check=True,
            cwd="/",
            env={"PATH": _SBIN, "AI_HOW": mark},
        )
    _wait_for_answer(cluster, home / "libvirtd.log")


def _wait_for_answer(cluster: str, log: Path) -> None:
    # To look through all processes takes as long as the daemon's own start does, so that is done until it is found.
    found: Process | None = None

    def answer() -> bool:
        nonlocal found
        if found is None or not found.alive:
            ours = marked(names.daemon_mark(cluster))
            if not ours:
                raise _failed(log, "ended while it started")
            found = next((one for one in ours if one.name == _PROGRAM), None)
        return found is not None and _socket_of(found).exists() and api.answers(_uri(_socket_of(found)))

    try:
        wait_for(answer, within=_START, what="answering", where="private libvirtd", every=0.02, at_most=0.1)
    except DeadlineExceeded as error:
        raise _failed(log, error.seen) from error


def _failed(log: Path, seen: str) -> ProvisionError:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-8:]
    tail = "\n".join(f"    {line}" for line in said) or "    (nothing)"
    return ProvisionError(
        "private libvirtd", f"{seen}; it said:\n{tail}", expected="a daemon that answers", cure=f"read {log}"
    )


def _private_socket(cluster: str) -> Path | None:
    for one in marked(names.daemon_mark(cluster)):
        if one.name == _PROGRAM and _socket_of(one).exists():
            return _socket_of(one)
    return None


def _socket_of(daemon: Process) -> Path:
    return Path(f"/proc/{daemon.pid}/root") / _SOCKET


def _uri(socket: Path) -> str:
    return f"qemu+unix:///system?socket={socket}"


def _accounts(home: Path) -> None:
    """Give the daemon's view the account that it was built for, where this host has none."""
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        for name, line in (("passwd", _PASSWD), ("group", _GROUP)):
            (home / name).write_text((Path("/etc") / name).read_text() + line)
