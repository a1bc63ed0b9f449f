"""Turn a directory with packages into an image's root: files, accounts, units and steps of its roles, then tidy up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.definitions import Definition, LoadedRole
from pytest_ai_how.image.models import Account, Directory
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.wheels import Wheels

# 2038-01-01T00:00:00Z: later than any boot, so that systemd's ConditionNeedsUpdate= is false.
_FUTURE = 2145916800
# What the build itself leaves; nothing in an image may depend on it.
_LEFTOVERS = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/preferences.d/ai-how",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
    "var/log/*.log",
    "var/log/apt/*",
    "tmp/*",
    "var/tmp/*",
    "run/*",
)


@dataclass(frozen=True)
class _Inside:
    """Runs the commands of roles in ``root``. What they write the time into gets ``epoch``, where they know that.

    ``SOURCE_DATE_EPOCH`` is what reproducible-builds.org has agreed on. useradd, for one, writes the day on which a
    password was changed.
    """

    root: Path
    sandbox: Sandbox
    epoch: int

    def run(self, loaded: LoadedRole, step: str, argv: tuple[str, ...], text: str = "") -> None:
        """Run one command. Raises ImageError naming role and step, with the command's last words."""
        try:
            self.sandbox.run(argv, root=self.root, input=text, env={"SOURCE_DATE_EPOCH": str(self.epoch)})
        except CommandError as error:
            last = " | ".join(error.result.stdout.splitlines()[-5:])
            raise ImageError(
                f"role {loaded.name}, {step}", f"`{error.result.command}` exited with {error.result.returncode}: {last}"
            ) from error


def customize(definition: Definition, root: Path, sandbox: Sandbox, wheels: Wheels | None = None) -> None:
    """Apply the roles to ``root``, all of one kind before the next kind. Raises ImageError naming role and step.

    ``wheels`` installs the Python packages of roles that have such, when their steps have made the environment.
    """
    inside = _Inside(root, sandbox, definition.versions.epoch)
    for loaded in definition.roles:
        _copy_files(loaded, root)
    for loaded in definition.roles:
        for account in loaded.role.users:
            _add_account(loaded, account, inside)
    owners = _numbers(root / "etc/passwd"), _numbers(root / "etc/group")
    for loaded in definition.roles:
        for directory in loaded.role.directories:
            _make_directory(directory, loaded.name, root, owners)
        for link, target in loaded.role.links.items():
            place = _parent(root, link)
            place.unlink(missing_ok=True)
            place.symlink_to(target)
    for loaded in definition.roles:
        for number, step in enumerate(loaded.role.steps, 1):
            inside.run(loaded, f"step {number}", step.run, step.input)
    if wheels:
        for loaded in definition.roles:
            wheels.install(loaded, root)
    _set_units(definition.roles, inside)
    for loaded in definition.roles:
        _blank(loaded, root)
    remove(root, _LEFTOVERS)


def remove(root: Path, patterns: Iterable[str]) -> None:
    """Remove what matches the patterns below ``root``; links are removed, never followed."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _copy_files(loaded: LoadedRole, root: Path) -> None:
    for file in loaded.files:
        place = _parent(root, file.target)
        place.unlink(missing_ok=True)
        place.write_bytes(file.source.read_bytes())
        place.chmod(file.mode)


def _add_account(loaded: LoadedRole, account: Account, inside: _Inside) -> None:
    number = str(account.uid)
    inside.run(loaded, f"group {account.name}", ("groupadd", "--gid", number, account.name))
    # '*' is no password, but unlike '!' no locked account either: sshd without PAM refuses those.
    add = ("useradd", "--uid", number, "--gid", number, "--create-home", "--home-dir", account.home)
    how = ("--shell", account.shell, "--password", "*", account.name)
    inside.run(loaded, f"user {account.name}", (*add, *how))


def _make_directory(directory: Directory, role: str, root: Path, owners: tuple[dict[str, int], dict[str, int]]) -> None:
    users, groups = owners
    for name, known in ((directory.owner, users), (directory.group, groups)):
        if name not in known:
            raise ImageError(f"role {role}", f"{directory.path}: the image knows no user or group '{name}'")
    place = _parent(root, directory.path)
    place.mkdir(exist_ok=True)
    os.chown(place, users[directory.owner], groups[directory.group])
    place.chmod(int(directory.mode, 8))


def _set_units(roles: Iterable[LoadedRole], inside: _Inside) -> None:
    for loaded in roles:
        for verb, units in (("enable", loaded.role.units.enable), ("mask", loaded.role.units.mask)):
            if units:
                inside.run(loaded, f"{verb} units", ("systemctl", "--root=/", verb, *units))


def _blank(loaded: LoadedRole, root: Path) -> None:
    for path in loaded.role.empty:
        place = _parent(root, path)
        place.unlink(missing_ok=True)
        place.touch()
        place.chmod(0o644)
    for path in loaded.role.stamps:
        place = _parent(root, path)
        place.touch()
        place.chmod(0o644)
        os.utime(place, (_FUTURE, _FUTURE))
    remove(root, (pattern.lstrip("/") for pattern in loaded.role.remove))


def _parent(root: Path, path: str) -> Path:
    """Where ``path`` of the image lies below ``root``; its parents are made. Refuses a way out through a link."""
    place = root / path.lstrip("/")
    if not place.parent.resolve().is_relative_to(root.resolve()):
        raise ImageError(path, f"leads out of the image, to {place.parent.resolve()}")
    for folder in reversed([folder for folder in place.parents if not folder.exists()]):
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask
    return place


def _numbers(file: Path) -> dict[str, int]:
    """The names and numbers of passwd(5) or group(5)."""

    def fields() -> Iterator[list[str]]:
        yield from (line.split(":") for line in file.read_text().splitlines() if line.count(":") >= 3)

    return {name: int(number) for name, _, number, *_ in fields()}
