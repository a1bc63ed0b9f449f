#!/usr/bin/python3
"""Try to gain rights inside a container, in each known way; tell, as JSON, what each attempt got.

The host's /etc and /usr/bin are expected at the two paths given as arguments. An attempt is [kind, what, answer]: the
name of the error, OK when it worked, or "uid N", the user that the kernel made a set-uid program run as.
"""

import ctypes
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
BLOCK_DEVICE = os.makedev(8, 0)
Action = Callable[[], object]


def attempt(action: Action) -> str:
    """Do it; return the name of the error, or OK."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "OK"


def system_call(name: str, *arguments: object) -> None:
    """Call a function of the C library that answers 0 or sets errno."""
    if getattr(LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def open_for(path: str | Path, flags: int) -> None:
    """Open and close; what was created is removed again."""
    os.close(os.open(path, flags, 0o600))
    if flags & os.O_CREAT:
        Path(path).unlink()


def make_block_device(path: Path) -> None:
    """Make a device that is the first disk, and remove it again."""
    os.mknod(path, stat.S_IFBLK | 0o600, BLOCK_DEVICE)
    path.unlink()


def user_of(program: str) -> str:
    """Start a set-uid program that waits for input, and tell which user the kernel runs it as."""
    try:
        process = subprocess.Popen(
            [program],
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    finally:
        process.kill()
        process.wait()
    return "uid " + next(line.split()[2] for line in lines if line.startswith("Uid:"))


def sudo() -> None:
    """Ask sudo for root without a password."""
    done = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise PermissionError(errno.EPERM, done.stderr)


def set_uid_programs(folder: str) -> list[str]:
    """The programs of a folder with the set-uid bit."""
    return sorted(str(path) for path in Path(folder).iterdir() if not path.is_symlink() and is_set_uid(path))


def is_set_uid(path: Path) -> bool:
    """Whether a file is run as its owner."""
    return path.is_file() and bool(path.stat().st_mode & stat.S_ISUID)


def as_root_of_a_new_namespace(actions: Mapping[str, Action]) -> list[list[str]]:
    """Become root of a user namespace of our own, and attempt the actions there."""
    reader, writer = os.pipe()
    uid = os.getuid()
    child = os.fork()
    if child == 0:
        answers = [attempt(lambda: system_call("unshare", CLONE_NEWUSER))]
        if answers == ["OK"]:
            answers += [attempt(lambda: Path("/proc/self/uid_map").write_text(f"0 {uid} 1"))]
            answers += [attempt(action) for action in actions.values()]
        os.write(writer, json.dumps(answers).encode())
        os._exit(0)
    os.close(writer)
    answers = json.loads(os.read(reader, 65536))
    os.waitpid(child, 0)
    what = ["unshare", "become root", *actions]
    return [["namespace", *pair] for pair in zip(what, answers, strict=False)]


if "APPTAINER_CONTAINER" not in os.environ:
    # Outside, as root, each attempt would succeed: the machine would have another name.
    sys.exit("not in a container: nothing is tried")
etc, programs = sys.argv[1:]
write, create = os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_CREAT | os.O_EXCL
host: dict[str, Action] = {
    f"read {etc}/shadow": lambda: open_for(f"{etc}/shadow", os.O_RDONLY),
    f"write {etc}/passwd": lambda: open_for(f"{etc}/passwd", write),
    f"create {etc}/ai-how-escaped": lambda: open_for(f"{etc}/ai-how-escaped", create),
    "write /proc/sys/kernel/core_pattern": lambda: open_for("/proc/sys/kernel/core_pattern", write),
    "create /usr/ai-how-escaped": lambda: open_for("/usr/ai-how-escaped", create),
}
devices: dict[str, Action] = {"make a block device": lambda: make_block_device(Path.home() / "ai-how-disk")}
for found in Path("/dev").iterdir():
    if found.is_block_device() or found.name in ("mem", "kmem", "port"):
        devices[f"open {found}"] = partial(open_for, found, os.O_RDONLY)
rights: dict[str, Action] = {
    "mount a file system": lambda: system_call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "set the host name": lambda: system_call("sethostname", b"escaped", 7),
    "become user 0": lambda: os.setuid(0),
    "signal process 1": lambda: os.kill(1, 0),
}
attempts = [["sudo", "sudo -n true", attempt(sudo)]]
for program in (*set_uid_programs("/usr/bin"), *set_uid_programs(programs)):
    attempts.append(["setuid", program, user_of(program)])
attempts.append(["chroot", "chroot /usr", attempt(lambda: os.chroot("/usr"))])
for kind, actions in (("device", devices), ("capability", rights), ("host", host)):
    attempts += [[kind, what, attempt(action)] for what, action in actions.items()]
attempts += as_root_of_a_new_namespace({**devices, **host})
status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
print(
    json.dumps(
        {
            "node": os.uname().nodename,
            "user": os.getuid(),
            "attempts": attempts,
            "effective": status["CapEff"],
            "bounding": status["CapBnd"],
            "no_new_privileges": status["NoNewPrivs"],
        }
    )
)
