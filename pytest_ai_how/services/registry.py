"""The container registry: a directory tree of SIF files on the shared file system, with a catalogue of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from pytest_ai_how.cluster import Cluster, Nodes
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.shell import Result

#: The tree that a registry has: AI-HOW's role container-registry (defaults), and the folder of its own records.
FOLDERS = ("ml-frameworks", "custom-images", "base-images", ".registry")
CATALOG = ".registry/catalog.yaml"
CONFIG = ".registry/config.yaml"
#: Reading a few GiB to digest them may take a while on a slow shared file system.
DIGEST_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One image as the catalogue lists it: ``path`` below the registry, ``sha256`` in hex, ``size`` in bytes."""

    name: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of the tree: ``path`` below the registry ('.' for itself), permissions as four octal digits."""

    path: str
    kind: str
    mode: str
    owner: str
    group: str
    size: int


class Registry:
    """The registry at ``containers.registry`` of the configuration."""

    name = "registry"
    needs = ("storage",)
    deployed = True

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.root = cluster.config.registry

    def faults(self) -> tuple[str, ...]:
        """One line a node that does not see the registry's catalogue."""
        results = self.cluster.all.run("test", "-s", f"{self.root}/{CATALOG}", check=False)
        return tuple(f"{node}: no {self.root}/{CATALOG}" for node, result in results.items() if not result.ok)

    def path(self, image: str) -> str:
        """The absolute path of an image by its catalogue name. Raises :class:`AiHowError` for an unknown one."""
        for entry in self.catalog():
            if entry.name == image:
                return f"{self.root}/{entry.path}"
        raise AiHowError(
            self.cluster.controller.name,
            f"the registry {self.root} has no image {image!r}",
            expected="one of " + ", ".join(entry.name for entry in self.catalog()),
        )

    def catalog(self) -> tuple[CatalogEntry, ...]:
        """What the catalogue lists. Raises :class:`AiHowError` when it cannot be parsed."""
        controller = self.cluster.controller
        return parse_catalog(controller.read(f"{self.root}/{CATALOG}"), controller.name)

    def config(self) -> dict[str, Any]:
        """The registry's own settings (``.registry/config.yaml``). Raises :class:`AiHowError` when they don't parse."""
        controller = self.cluster.controller
        try:
            loaded = yaml.safe_load(controller.read(f"{self.root}/{CONFIG}"))
        except yaml.YAMLError as error:
            raise AiHowError(controller.name, f"{CONFIG} cannot be read: {_flat(error)}", expected="YAML") from error
        return loaded if isinstance(loaded, dict) else {}

    def tree(self) -> tuple[tuple[Entry, ...], Result]:
        """Everything below the registry as the controller sees it, and the listing as evidence."""
        listed = self.cluster.controller.run(
            "find", self.root, "-printf", r"%P\t%y\t%m\t%u\t%g\t%s\n", check=False, timeout=60
        )
        return tuple(parse_tree(listed.stdout)), listed

    def digests(self, path: str, nodes: Nodes | None = None) -> dict[str, tuple[str, Result]]:
        """The sha256 of the absolute ``path`` as each node reads it ('' where it cannot), with the evidence."""
        results = (nodes or self.cluster.all).run("sha256sum", "--", path, check=False, timeout=DIGEST_TIMEOUT)
        return {
            node: (result.stdout.split(" ", 1)[0].lstrip("\\") if result.ok else "", result)
            for node, result in results.items()
        }


def parse_catalog(text: str, where: str) -> tuple[CatalogEntry, ...]:
    """Read a catalogue.

    >>> parse_catalog('''
    ... images:
    ...   - {name: base, file: base-images/base.sif, digest: "sha256:0a1b", size: 4096}
    ... ''', "controller")
    (CatalogEntry(name='base', path='base-images/base.sif', sha256='0a1b', size=4096),)
    """
    try:
        loaded = yaml.safe_load(text)
        entries = tuple(
            CatalogEntry(
                str(image["name"]), str(image["file"]), str(image["digest"]).removeprefix("sha256:"), int(image["size"])
            )
            for image in loaded["images"]
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise AiHowError(
            where, f"{CATALOG} cannot be read: {_flat(error)}", expected="images: a list of name, file, digest, size"
        ) from error
    outside = [entry.path for entry in entries if not _inside(entry.path)]
    if outside:
        raise AiHowError(where, f"{CATALOG} lists {outside[0]!r}, which lies outside the registry")
    return entries


def parse_tree(listing: str) -> Iterator[Entry]:
    r"""Read lines of ``find -printf '%P\t%y\t%m\t%u\t%g\t%s\n'`` (findutils 4.10).

    >>> next(parse_tree("base-images\td\t775\troot\tslurm\t4096\n"))
    Entry(path='base-images', kind='d', mode='0775', owner='root', group='slurm', size=4096)
    """
    for line in listing.splitlines():
        path, kind, mode, owner, group, size = line.split("\t")
        yield Entry(path or ".", kind, mode.zfill(4), owner, group, int(size))


def _flat(error: Exception) -> str:
    """What is wrong, in one line; a parser's word has several, with the line and column in the file."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _inside(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts
