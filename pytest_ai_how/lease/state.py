"""Where state and caches lie (XDG Base Directory Specification 0.8), and the cookie that marks what is ours."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_ai_how.errors import LeaseError

PRODUCT = "pytest-ai-how"
# No cluster's name begins with a dot.
FAILED = ".failed"
# The same form as config.models.Name: what reaches a path or a process's arguments is checked here once more,
# because `reap --force NAME` takes it from the command line.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


def state_home() -> Path:
    """``$XDG_STATE_HOME/pytest-ai-how``; the default base is ``~/.local/state``."""
    return _base("XDG_STATE_HOME", ".local/state") / PRODUCT


def cache_home() -> Path:
    """``$XDG_CACHE_HOME/pytest-ai-how``; the default base is ``~/.cache``."""
    return _base("XDG_CACHE_HOME", ".cache") / PRODUCT


def cluster_state(name: str) -> Path:
    """The folder of one cluster's record, journal and locks; it need not exist. Raises LeaseError on a bad name."""
    return state_home() / checked_name(name)


def failed_folder(name: str) -> Path:
    """What is kept of the last bring-up that failed, when the cluster's own folder is gone."""
    return state_home() / FAILED / checked_name(name)


def cookie(name: str) -> str:
    """The mark on everything that is made for a cluster: in process arguments or environment, interface aliases."""
    return f"{PRODUCT}:{checked_name(name)}"


def carries(text: str, mark: str) -> bool:
    """Whether ``text`` holds the cookie ``mark`` as a whole: ``…:local`` is not found in ``…:local2``."""
    return re.search(rf"(?<![A-Za-z0-9-]){re.escape(mark)}(?![A-Za-z0-9-])", text) is not None


def checked_name(name: str) -> str:
    """Return ``name`` when it is a cluster's name (RFC 1123 label, at most 32 characters); LeaseError otherwise."""
    if not is_name(name):
        raise LeaseError(
            repr(name[:64]),
            "not a cluster name",
            expected="a lower-case letter, then letters, digits and hyphens, 32 characters at most",
        )
    return name


def is_name(text: str) -> bool:
    """Whether ``text`` has the form of a cluster's name."""
    return _NAME.fullmatch(text) is not None


def private_folder(path: Path) -> Path:
    """Make ``path`` and its parents, ``path`` itself with mode 0700, and return it.

    Raises :class:`LeaseError` when it is a link, not a folder, or somebody else's: another account could then
    choose what we undo as root.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise LeaseError(str(error.filename), "is not a folder", cure=f"move {error.filename} away") from None
    except OSError as error:
        raise LeaseError(
            str(path),
            f"can't be made ({error.strerror})",
            expected="a place for clusters' records that can be written",
            cure="point XDG_STATE_HOME at a folder of yours",
        ) from error
    seen = path.lstat()
    if path.is_symlink() or seen.st_uid != os.geteuid():
        what = "is a symbolic link" if path.is_symlink() else f"belongs to uid {seen.st_uid}"
        raise LeaseError(str(path), what, expected=f"a folder of uid {os.geteuid()}", cure=f"move {path} away")
    if seen.st_mode & 0o077:
        path.chmod(0o700)
    return path


def _base(variable: str, default: str) -> Path:
    """An XDG base folder. The specification says that a relative value is invalid and to be ignored."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default
