"""Run a program that sees folders of ours in place of libvirt's, in the mount namespace that this process is in.

Where a folder does not exist its parent is replaced by a tmpfs that shows all that the parent held: a mount point may
not be made where others see it. Some two hundred mounts are made for that, which would take mount(8) longer than
libvirtd takes to start. Run as a script of its own: it must stay small and start fast.
"""

import ctypes
import os
import sys
from pathlib import Path

# mount(2), linux/mount.h
_BIND, _MOVE, _RECURSIVE = 4096, 8192, 16384
# Ours below "home", and what each takes the place of. The cache is a folder of its own.
_PLACES = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "run": "/run/libvirt"}
_CACHE = "/var/cache/libvirt"
_ACCOUNTS = ("passwd", "group")


def main(home: Path, cache: Path, argv: list[str]) -> None:
    """Put ``cache`` and what lies in ``home`` into their places, and become ``argv``. Raises OSError."""
    for name, target in _PLACES.items():
        _place(home / name, Path(target), home / "fresh")
    _place(cache, Path(_CACHE), home / "fresh")
    for name in _ACCOUNTS:
        if (home / name).exists():
            _mount(home / name, Path("/etc") / name, flags=_BIND)
    # libvirt looks for huge pages among the mounts that it sees. What lies in "pages" is named by their size.
    for folder in (home / "pages").glob("*"):
        _mount(Path("hugetlbfs"), folder, b"hugetlbfs", data=f"pagesize={folder.name}".encode())
    os.execvp(argv[0], argv)  # noqa: S606  a list of words, from daemon.py


def _place(folder: Path, target: Path, fresh: Path) -> None:
    if not target.is_dir():
        _mount(Path("aihow"), fresh, b"tmpfs", data=b"mode=755")
        for entry in target.parent.iterdir():
            _show(entry, fresh / entry.name)
        (fresh / target.name).mkdir()
        _mount(fresh, target.parent, flags=_MOVE)
    _mount(folder, target, flags=_BIND)


def _show(entry: Path, copy: Path) -> None:
    if entry.is_symlink():
        copy.symlink_to(entry.readlink())
    elif entry.is_dir():
        copy.mkdir()
        _mount(entry, copy, flags=_BIND | _RECURSIVE)
    else:
        copy.touch()
        _mount(entry, copy, flags=_BIND)


def _mount(source: Path, target: Path, kind: bytes | None = None, flags: int = 0, data: bytes | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(bytes(source), bytes(target), kind, ctypes.c_ulong(flags), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", str(target))


if __name__ == "__main__":
    # The first argument is the mark by which the process is found.
    main(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
