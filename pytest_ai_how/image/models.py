"""What ``provisioning/roles``, ``provisioning/images`` and ``configs/versions.yaml`` say, as frozen models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _like(pattern: str, words: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!a} is not {words}")
        return value

    return check


Name = Annotated[str, AfterValidator(_like(r"[a-z][a-z0-9-]{0,31}", "a name (lower-case letters, digits, hyphens)"))]
# Debian Policy 5.6.1 (names), 5.6.12 (versions)
Package = Annotated[str, AfterValidator(_like(r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name"))]
Version = Annotated[str, AfterValidator(_like(r"[0-9][A-Za-z0-9.+:~-]*", "a version"))]
_UNIT = r"[\w@:.\\-]+\.(service|socket|timer|target|mount|automount|path)"
Unit = Annotated[str, AfterValidator(_like(_UNIT, "a systemd unit's name"))]
User = Annotated[str, AfterValidator(_like(r"[a-z_][a-z0-9_-]{0,30}", "a user or group name"))]
_PLAIN = r"(/(?!\.\.?(/|$))[A-Za-z0-9._@+-]+)+"
Path = Annotated[str, AfterValidator(_like(_PLAIN, "an absolute path without . and .."))]
Glob = Annotated[str, AfterValidator(_like(_PLAIN.replace("@+-]", "@+*-]"), "an absolute path or pattern with *"))]
Module = Annotated[str, AfterValidator(_like(r"[a-z0-9][a-z0-9_-]*", "a kernel module's name"))]
FileName = Annotated[str, AfterValidator(_like(r"[a-z0-9][a-z0-9._-]*", "a file's name"))]
Mode = Annotated[str, AfterValidator(_like(r"0[0-7]{3,4}", 'an octal mode in quotes, such as "0755"'))]


class Model(BaseModel):
    """Unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Units(Model):
    """systemd units by what is to become of them."""

    enable: tuple[Unit, ...] = ()
    mask: tuple[Unit, ...] = ()


class Account(Model):
    """A user with a group of the same name and number, who can log in with a key but has no password."""

    name: User
    uid: int = Field(ge=1000, lt=60000)
    home: Path
    shell: Path = "/bin/bash"


class Directory(Model):
    """A directory that exists with this owner and mode."""

    path: Path
    owner: User = "root"
    group: User = "root"
    mode: Mode = "0755"


class Step(Model):
    """A command that runs inside the root, without network, when files and accounts are in place."""

    run: tuple[str, ...] = Field(min_length=1)
    input: str = ""


class KernelSpec(Model):
    """A kernel of Debian's and what starts it. Both packages are unpacked only: the machines need no initramfs-tools.

    The role's ``initramfs/`` tree, with ``init`` in it, goes into the initramfs beside busybox and the modules.
    """

    package: Package = Field(description="the package that always depends on the newest kernel")
    busybox: Package = Field(description="the package with a busybox that needs no library")
    modules: tuple[Module, ...] = Field(default=(), description="loaded before the root is mounted, in this order")


class Port(Model):
    """A port that a role's program listens on: what a machine may show, and what others must reach unless ``reach``."""

    protocol: Literal["tcp", "udp"]
    number: int = Field(ge=1, le=65535)
    to: int | None = Field(default=None, ge=1, le=65535, description="the last one of a range that begins with number")
    by: str = Field(default="", max_length=15, description="the process as its comm is (proc(5)); default: any")
    on: tuple[Literal["controller", "compute", "storage"], ...] = Field(
        default=(), description="the machines that listen, by their roles in the cluster; default: all"
    )
    needs: str = Field(default="", description="the capability of the cluster without which nobody listens")
    reach: bool = Field(default=True, description="false: opened now and then, so that nobody can ask for it")

    def holds(self, protocol: str, number: int) -> bool:
        """Whether a socket is one that this declares."""
        return protocol == self.protocol and self.number <= number <= (self.to or self.number)


class Role(Model):
    """What one purpose adds to an image. Its ``files/`` tree is copied as it lies, owned by root."""

    description: str = Field(min_length=1)
    needs: tuple[Name, ...] = ()
    packages: tuple[Package, ...] = ()
    users: tuple[Account, ...] = ()
    directories: tuple[Directory, ...] = ()
    links: Mapping[Path, Path] = {}
    empty: tuple[Path, ...] = ()
    stamps: tuple[Path, ...] = Field(default=(), description="empty files dated 2038-01-01")
    remove: tuple[Glob, ...] = ()
    units: Units = Units()
    steps: tuple[Step, ...] = ()
    wheels: FileName | None = Field(
        default=None, description="the file beside role.yaml that locks the Python packages which /venv is given"
    )
    ports: tuple[Port, ...] = Field(default=(), description="what its programs listen on; part of no image")
    kernel: KernelSpec | None = None
    dkms: tuple[Module, ...] = Field(default=(), description="modules that DKMS builds; packages bring their source")


class ImageSpec(Model):
    """One image: a root ``tree`` that machines boot, a ``sif`` that containers run from, or a ``disk`` with a kernel.

    A disk is made of (``of``) a tree: that, and its own roles on top.
    """

    description: str = Field(min_length=1)
    kind: Literal["tree", "sif", "disk"]
    roles: tuple[Name, ...] = Field(min_length=1)
    disk: int = Field(ge=0, le=100, description="GiB that must be free to build it")
    suite: Name | None = Field(default=None, description="sif: another of Debian's suites than configs/versions.yaml's")
    exclude: tuple[Glob, ...] = Field(default=(), description="paths of packages that are left out")
    on_demand: bool = Field(default=False, description="built only when it is named or a cluster needs it")
    of: Name | None = Field(default=None, description="disk: the tree that it is made of")
    size: int | None = Field(default=None, ge=1, le=1024, description="disk: GiB; a machine's own disk may be larger")
    origin: Literal["beegfs"] | None = Field(
        default=None, description="disk: packages that Debian lacks come from where the cluster's YAML says"
    )

    @model_validator(mode="after")
    def _disk_only(self) -> Self:
        if self.kind == "disk" and (self.of is None or self.size is None):
            raise ValueError("a disk needs 'of' (the tree that it is made of) and 'size' (in GiB)")
        if self.kind != "disk" and (self.of or self.size or self.origin):
            raise ValueError("'of', 'size' and 'origin' are for a disk only")
        if self.kind != "sif" and self.suite:
            raise ValueError("'suite' is for a sif only: machines are of one suite")
        return self


class PackageVersion(Model):
    """Where a package comes from and what it must be."""

    suite: Name | None = None
    at_least: Version | None = None
    series: Version | None = None


class Versions(Model):
    """``configs/versions.yaml``."""

    version: Literal[1]
    suite: Name
    components: tuple[Name, ...] = Field(min_length=1)
    epoch: int = Field(ge=0, description="seconds since 1970, UTC")
    packages: Mapping[Package, PackageVersion] = {}
    suites: Mapping[Name, Mapping[Package, PackageVersion]] = Field(
        default={}, description="the same for images that name another suite, which must be among these"
    )
