"""Read the roles, images and versions that ship, and put together what one image consists of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import ConfigError, ImageError
from pytest_ai_how.explain import explain
from pytest_ai_how.image.lock import Lock, read_lock
from pytest_ai_how.image.models import ImageSpec, Model, PackageVersion, Role, Versions
from pytest_ai_how.marked import KeyPath, Marked, Mistake, nearest, read_text, read_yaml

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class RoleFile:
    """A file of a role: ``target`` is its path in the image, ``mode`` 0755 if anybody may execute it, else 0644."""

    source: Path
    target: str

    @property
    def mode(self) -> int:
        """The umask and the version control system of whoever checked out must not change the image."""
        return 0o755 if self.source.stat().st_mode & 0o111 else 0o644


@dataclass(frozen=True)
class LoadedRole:
    """A role, its name and its files in the order of their paths; ``initramfs`` goes there, not into the root.

    ``lock`` is what its Python packages are held to.
    """

    name: str
    role: Role
    files: tuple[RoleFile, ...]
    initramfs: tuple[RoleFile, ...] = ()
    lock: Lock | None = None


@dataclass(frozen=True)
class Definition:
    """All that goes into one image: its roles, needed ones first, and the versions it is held to.

    ``of`` is the tree that a disk is made of; the roles of that are not among the disk's.
    """

    name: str
    spec: ImageSpec
    roles: tuple[LoadedRole, ...]
    versions: Versions
    of: Definition | None = None

    @property
    def suite(self) -> str:
        """The suite of Debian that it is made of."""
        return self.spec.suite or self.versions.suite

    @property
    def wheels(self) -> dict[str, str]:
        """The Python packages that the roles' locks name, and their versions."""
        locks = (loaded.lock for loaded in self.roles if loaded.lock)
        return {one.name: one.version for lock in locks for one in lock.packages}

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that the roles ask for, sorted, each once."""
        return tuple(sorted({package for loaded in self.roles for package in loaded.role.packages}))

    @property
    def kernel(self) -> LoadedRole:
        """The role with the kernel. Raises ImageError unless there is one, and only one."""
        found = [loaded for loaded in self.roles if loaded.role.kernel]
        if len(found) != 1:
            names = ", ".join(loaded.name for loaded in found) or "none"
            raise ImageError(f"{self.name} image", f"roles with a kernel: {names}", expected="one, which a disk boots")
        return found[0]

    @property
    def unpacked(self) -> tuple[str, ...]:
        """The packages that are unpacked, not installed."""
        kernels = [loaded.role.kernel for loaded in self.roles if loaded.role.kernel]
        return tuple(name for kernel in kernels for name in (kernel.package, kernel.busybox))

    @property
    def demands(self) -> dict[str, PackageVersion]:
        """What ``configs/versions.yaml`` demands of these packages."""
        names = (*self.packages, *self.unpacked)
        versions = self.versions.suites[self.spec.suite] if self.spec.suite else self.versions.packages
        return {name: versions[name] for name in names if name in versions}


@dataclass(frozen=True)
class Source:
    """Where definitions are read from; tests use their own."""

    provisioning: Path
    versions: Path

    @classmethod
    def shipped(cls) -> Source:
        """The ones of this installation."""
        return cls(asset("provisioning"), asset("configs/versions.yaml"))

    def image_names(self) -> tuple[str, ...]:
        """The names of all images, sorted."""
        return tuple(sorted(path.stem for path in (self.provisioning / "images").glob("*.yaml")))

    def role_names(self) -> tuple[str, ...]:
        """The names of all roles, sorted."""
        return tuple(sorted(path.parent.name for path in (self.provisioning / "roles").glob("*/role.yaml")))

    def demands(self) -> Versions:
        """What is declared of versions. Raises ImageError as ``file:line``."""
        return _load(self.versions, Versions)[0]

    def role(self, name: str) -> Role:
        """The role ``name``. Raises ImageError as ``file:line``."""
        return _load(self.provisioning / "roles" / name / "role.yaml", Role)[0]

    def define(self, name: str) -> Definition:
        """What the image ``name`` consists of. Raises ImageError as ``file:line`` for every kind of mistake."""
        known = self.image_names()
        if name not in known:
            near = nearest(name, known)
            raise ImageError(
                "images", f"no image is named {name!a}" + (f" ({near})" if near else ""), expected=", ".join(known)
            )
        spec, marked = _load(self.provisioning / "images" / f"{name}.yaml", ImageSpec)
        versions = self.demands()
        if spec.suite and spec.suite not in versions.suites:
            what = f"configs/versions.yaml declares no versions of '{spec.suite}'"
            raise _mistake(marked, ("suite",), what, nearest(spec.suite, versions.suites))
        of = self._tree(spec.of, marked) if spec.of else None
        roles = tuple(self._closure(spec.roles, marked))
        _refuse_double_files((*(of.roles if of else ()), *roles))
        _refuse_double_wheels(roles)
        inherited = {loaded.name for loaded in of.roles} if of else set()
        definition = Definition(name, spec, tuple(one for one in roles if one.name not in inherited), versions, of)
        _check_kernel(definition, marked)
        return definition

    def closure(self, name: str) -> tuple[LoadedRole, ...]:
        """The role and all that it needs, needed ones first. Raises ImageError as :meth:`define` does."""
        _, marked = _load(self.provisioning / "roles" / name / "role.yaml", Role)
        return tuple(self._closure((name,), marked))

    def _tree(self, name: str, asker: Marked) -> Definition:
        """The image that a disk is made of."""
        if name not in self.image_names():
            raise _mistake(asker, ("of",), f"no image is named '{name}'", nearest(name, self.image_names()))
        of = self.define(name)
        if of.spec.kind != "tree":
            raise _mistake(asker, ("of",), f"'{name}' is a {of.spec.kind}; a disk is made of a tree")
        return of

    def _closure(self, wanted: Iterable[str], asker: Marked) -> Iterator[LoadedRole]:
        """The roles and all that they need, needed ones first."""
        done: set[str] = set()

        def visit(name: str, asker: Marked, at: KeyPath, path: tuple[str, ...]) -> Iterator[LoadedRole]:
            if name in path:
                chain = " → ".join((*path[path.index(name) :], name))
                raise _mistake(asker, at, f"roles need each other in a circle: {chain}")
            if name in done:
                return
            file = self.provisioning / "roles" / name / "role.yaml"
            if not file.is_file():
                raise _mistake(asker, at, f"no role is named '{name}'", nearest(name, self.role_names()))
            role, marked = _load(file, Role)
            for index, needed in enumerate(role.needs):
                yield from visit(needed, marked, ("needs", index), (*path, name))
            done.add(name)
            files, initramfs = (tuple(_files(file.parent / part)) for part in ("files", "initramfs"))
            lock = read_lock(file.parent / role.wheels) if role.wheels else None
            yield LoadedRole(name, role, files, initramfs, lock)

        for index, name in enumerate(wanted):
            yield from visit(name, asker, ("roles", index), ())


def _load(path: Path, model: type[M]) -> tuple[M, Marked]:
    try:
        marked = read_yaml(read_text(path, str(path)), str(path))
        mistakes = list(marked.mistakes)
        try:
            loaded = model.model_validate_json(json.dumps(marked.value), strict=True)
        except ValidationError as error:
            mistakes += explain(error, model, {})
        if mistakes:
            raise ConfigError(marked.problems(mistakes))
    except ConfigError as error:
        raise _as_image_error(error) from error
    return loaded, marked


def _mistake(marked: Marked, at: KeyPath, what: str, hint: str = "") -> ImageError:
    return _as_image_error(ConfigError(marked.problems([Mistake(at, what, hint)])))


def _as_image_error(error: ConfigError) -> ImageError:
    where, _, rest = str(error).partition(": ")
    return ImageError(where, rest)


def _files(root: Path) -> Iterator[RoleFile]:
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise ImageError(f"{path}:1", "is a symbolic link", cure="write it under 'links' in the role's role.yaml")
        # pip compiles the programs in a wheel; what it writes beside them is no part of a role.
        if path.is_file() and path.parent.name != "__pycache__":
            yield RoleFile(path, "/" + path.relative_to(root).as_posix())


def _check_kernel(definition: Definition, marked: Marked) -> None:
    if definition.spec.kind != "disk":
        if definition.unpacked:
            raise _mistake(marked, ("roles",), f"a {definition.spec.kind} has no kernel, a role of it does")
    elif "/init" not in {file.target for file in definition.kernel.initramfs}:
        raise _mistake(marked, ("roles",), f"role '{definition.kernel.name}' has a kernel, but no initramfs/init")


def _refuse_double_files(roles: Iterable[LoadedRole]) -> None:
    owners: dict[str, str] = {}
    for loaded in roles:
        for file in loaded.files:
            first = owners.setdefault(file.target, loaded.name)
            if first != loaded.name:
                raise ImageError(
                    f"{file.source}:1",
                    f"{file.target} comes from two roles, '{first}' and '{loaded.name}'",
                    expected="one role to own each file",
                    cure="move what both say into one of them, or into a role that both need",
                )


def _refuse_double_wheels(roles: Iterable[LoadedRole]) -> None:
    owners: dict[str, str] = {}
    for loaded in roles:
        for one in loaded.lock.packages if loaded.lock else ():
            first = owners.setdefault(one.name, loaded.name)
            if loaded.lock and first != loaded.name:
                raise ImageError(
                    f"{loaded.lock.file}:{one.line}",
                    f"{one.name} comes from two roles, '{first}' and '{loaded.name}'",
                    expected="one role to own each Python package",
                    cure="compile one lock for what goes into one environment",
                )
