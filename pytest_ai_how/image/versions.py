"""Hold a built root to ``configs/versions.yaml``."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.definitions import Definition
from pytest_ai_how.image.models import PackageVersion
from pytest_ai_how.image.sandbox import Sandbox

#: dpkg-query (1.22): a line for each package that it knows.
QUERY = ("dpkg-query", "--show", "--showformat=${Package}\\t${Version}\\t${db:Status-Status}\\n")


def installed(root: Path, sandbox: Sandbox) -> dict[str, str]:
    """Name and version of each package that ``dpkg-query`` (1.22) finds in ``root``. Nothing installed is an error."""
    found = parse_installed(sandbox.run(QUERY, root=root, keep=None).stdout)
    if not found:
        raise ImageError(str(root), "dpkg-query found no installed package in it")
    return found


def parse_installed(text: str) -> dict[str, str]:
    r"""Read what :data:`QUERY` prints: name, version and state of a package a line; those that are installed.

    >>> parse_installed("fio\t3.39-1\tinstalled\nless\t668-1\tconfig-files\n")
    {'fio': '3.39-1'}
    """
    rows = (line.split("\t") for line in text.splitlines())
    return {name: version for name, version, state in rows if state == "installed"}


def check_versions(definition: Definition, found: Mapping[str, str]) -> None:
    """Raise ImageError with every package that is missing or of a version that was not declared."""
    wrong = [f"{name} is not installed" for name in definition.packages if name not in found]
    for name, demand in definition.demands.items():
        if name in found and (what := mismatch(found[name], demand)):
            wrong.append(f"{name} is {found[name]}, {what}")
    if wrong:
        raise ImageError(
            f"{definition.name} image",
            "; ".join(wrong),
            expected="the versions that configs/versions.yaml declares",
            cure="point AI_HOW_MIRROR at a mirror that has them, or declare what is wanted now",
        )


def mismatch(version: str, demand: PackageVersion) -> str:
    """What ``demand`` wants instead of ``version``; empty when it is content."""
    if demand.series:
        upstream = version.partition(":")[2] or version
        if not upstream.startswith(demand.series) or upstream[len(demand.series) :][:1].isdigit():
            return f"expected series {demand.series}"
    if demand.at_least and not _at_least(version, demand.at_least):
        return f"expected at least {demand.at_least}"
    return ""


def _at_least(version: str, lowest: str) -> bool:
    """Debian's own order of versions (deb-version(7))."""
    command = ["dpkg", "--compare-versions", version, "ge", lowest]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == 0
