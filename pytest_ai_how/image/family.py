"""Which distribution a root is: only Debian and what is made of it has packages that we can install."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.errors import ImageError

_FAMILY = "debian"
#: In this order: the second is the file, the first where distributions link to it (os-release(5)).
OS_RELEASE = ("usr/lib/os-release", "etc/os-release")


def parse_os_release(text: str) -> dict[str, str]:
    r"""Read os-release(5): shell assignments, quoted where they must be.

    >>> parse_os_release('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n# no more')["PRETTY_NAME"]
    'Debian GNU/Linux 13 (trixie)'
    """
    words = (shlex.split(line, comments=True) for line in text.splitlines())
    return dict(word[0].split("=", 1) for word in words if word and "=" in word[0])


def is_debian(release: Mapping[str, str]) -> bool:
    """Whether it is Debian, or like it as Ubuntu is.

    >>> is_debian({"ID": "ubuntu", "ID_LIKE": "debian"}), is_debian({"ID": "rocky", "ID_LIKE": "rhel centos fedora"})
    (True, False)
    """
    return _FAMILY in (release.get("ID", ""), *release.get("ID_LIKE", "").split())


def check_family(root: Path) -> None:
    """Refuse a root that is not of Debian's family. Raises ImageError naming what it is."""
    found = next((root / name for name in OS_RELEASE if (root / name).is_file()), None)
    release = parse_os_release(found.read_text(encoding="utf-8", errors="replace")) if found else {}
    if not is_debian(release):
        what = release.get("PRETTY_NAME") or release.get("ID") or "of no distribution that it names"
        raise ImageError(
            str(root),
            f"is {what}; packages can't be installed there",
            expected="Debian or a distribution made of it (os-release(5): ID or ID_LIKE debian)",
            cure="use an image of ours, or driver: ssh for machines that others have installed",
        )
