"""Images built twice, and where packages come from, tried on a root of its own: one package for each way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pytest_ai_how.assets import asset
from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.errors import ImageError
from pytest_ai_how.facts import Fact
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.family import parse_os_release
from pytest_ai_how.image.mirror import find_mirror
from pytest_ai_how.image.models import PackageVersion
from pytest_ai_how.image.origin import elsewhere
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.sif import LABEL, convert, label
from pytest_ai_how.image.store import Image, Store, describe
from pytest_ai_how.image.tree import settle_times
from pytest_ai_how.image.versions import QUERY, check_versions, installed, parse_installed
from pytest_ai_how.progress import Progress

_NAME = "tiny"
# What nearly any root has already, what one without it gets from Debian, what only a folder of this host has, and
# what nobody has. What both have, lower and higher there than any version of Debian's, is small and needs nothing.
_THERE, _DEBIAN, _OURS, _NOWHERE = "netbase", "sensible-utils", "ai-how-sample", "ai-how-nowhere"
_LOWER_THERE, _HIGHER_THERE = "media-types", "distro-info-data"
_VERSION, _HIGHER = "1.2.3", "9"
_LOWEST, _HIGHEST = "0~1", "9999"
# The versions in the folder. Of what is installed it has another one, which must not matter.
_FOLDER: Mapping[str, str] = MappingProxyType(
    {_OURS: _VERSION, _LOWER_THERE: _LOWEST, _HIGHER_THERE: _HIGHEST, _THERE: _HIGHEST}
)
_IMAGE = f"""\
description: The least that packages can be installed into
kind: tree
roles: [{_NAME}]
disk: 1
exclude: [/usr/share/man/*, /usr/share/doc/*, /usr/share/info/*, /usr/share/locale/*]
"""
_ROLE = f"description: One package of Debian's\npackages: [{_THERE}]\n"
_CONTROL = """\
Package: {name}
Version: {version}
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: made to be installed from a folder
"""

OS_RELEASE = Fact("the distribution", ("cat", "/etc/os-release"), parse_os_release)
INSTALLED = Fact("what is installed", QUERY, parse_installed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking for a package: its version before and after ('' for none), and what was said if refused.

    ``touched`` says whether anything was installed, changed or removed.
    """

    before: str
    after: str
    touched: bool
    said: str = ""


#: How each way must end: whether anything is installed, and what must be said, in words of the message.
WAYS: Mapping[str, tuple[bool, tuple[str, ...]]] = MappingProxyType(
    {
        "already installed": (False, ()),
        "from Debian's mirror": (True, ()),
        "from a folder of this host": (True, ()),
        "in both, lower in the folder": (True, ()),
        "in both, higher in the folder": (True, ()),
        "of another version": (False, (f"{_OURS} is {_VERSION}, expected at least {_HIGHER}", "do: ")),
        "from nowhere": (False, (_NOWHERE, "neither ", " nor the mirror ", "do: complete the packages there")),
        "from an empty folder": (False, ("holds no .deb file", "do: name it in the cluster's YAML")),
        "not Debian": (False, ("is Rocky Linux 9.4", "expected: Debian", "do: ")),
    }
)
#: Which way takes which version, where two places have one each. Neither goes before the other: the higher is taken.
TAKES: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "in both, lower in the folder": lambda version: version != _LOWEST,
        "in both, higher in the folder": lambda version: version == _HIGHEST,
    }
)


def definitions(folder: Path) -> Source:
    """The small image's definition, below ``folder``; versions are those that ship."""
    for path, text in {f"images/{_NAME}.yaml": _IMAGE, f"roles/{_NAME}/role.yaml": _ROLE}.items():
        place = folder / path
        place.parent.mkdir(parents=True)
        place.write_text(text)
    return Source(folder, asset("configs/versions.yaml"))


def built_twice(
    source: Source, folder: Path, progress: Progress, name: str = _NAME, origin: PackageSource | None = None
) -> tuple[Image, ...]:
    """An image, built in two caches below ``folder`` that know nothing of each other.

    The small one takes half a minute on two cores, that of machines three times as long and 2 GiB.
    """

    def build(number: int) -> Image:
        store = Store(folder / f"cache-{number}")
        store.folder.mkdir(parents=True, exist_ok=True)
        return Builder(source, store, origin=origin).ensure([name], progress)[name]

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(build, (1, 2)))


def as_containers(trees: Sequence[Image], node: Image, folder: Path) -> tuple[Image, ...]:
    """A SIF of a copy of each of ``trees``, by the Apptainer of ``node``: made as images of kind ``sif`` are."""
    with Sandbox() as sandbox:
        return tuple(_as_container(tree, node, folder / f"sif-{at}", sandbox) for at, tree in enumerate(trees, 1))


def _as_container(tree: Image, node: Image, place: Path, sandbox: Sandbox) -> Image:
    place.mkdir(parents=True)
    root, began = place / "root", time.time()
    sandbox.run(["cp", "--archive", "--reflink=auto", str(tree.path), str(root)])
    label(root, {LABEL: tree.digest})
    newest = settle_times(root, began, tree.manifest["recipe"]["epoch"])
    sif = convert(node.path, place, tree.name, newest, sandbox)
    return replace(tree, path=sif, manifest={**tree.manifest, **describe(sif)})


def outcomes(source: Source, image: Image, folder: Path) -> dict[str, Outcome]:
    """Ask for a package in each of :data:`WAYS`, on a copy of the image. The mirror is asked."""
    definition = source.define(_NAME)
    with Sandbox() as sandbox:
        root = folder / "root"
        sandbox.run(["cp", "--archive", "--reflink=auto", str(image.path), str(root)])
        extra = elsewhere(_NAME, PackageSource(folder=str(_sample(folder, sandbox))), folder / "origin", sandbox)
        apt = Apt.open(definition, folder / "apt", find_mirror(), sandbox, extra)
        bench = _Bench(root, sandbox)
        ways: dict[str, tuple[str, Callable[[], object]]] = {
            "already installed": (_THERE, lambda: apt.install(root, [_THERE])),
            "from Debian's mirror": (_DEBIAN, lambda: apt.install(root, [_DEBIAN])),
            "from a folder of this host": (_OURS, lambda: apt.install(root, [_OURS])),
            "in both, lower in the folder": (_LOWER_THERE, lambda: apt.install(root, [_LOWER_THERE])),
            "in both, higher in the folder": (_HIGHER_THERE, lambda: apt.install(root, [_HIGHER_THERE])),
            "of another version": (_OURS, lambda: check_versions(_demanding(definition), bench.packages())),
            "from nowhere": (_NOWHERE, lambda: apt.install(root, [_NOWHERE])),
            "from an empty folder": (_OURS, lambda: _from_empty(folder, sandbox)),
            "not Debian": (_DEBIAN, lambda: apt.install(_foreign(folder), [_DEBIAN])),
        }
        return {way: bench.outcome(package, ask) for way, (package, ask) in ways.items()}


@dataclass(frozen=True, slots=True)
class _Bench:
    root: Path
    sandbox: Sandbox

    def packages(self) -> dict[str, str]:
        return installed(self.root, self.sandbox)

    def outcome(self, package: str, ask: Callable[[], object]) -> Outcome:
        before, said = self.packages(), ""
        try:
            ask()
        except ImageError as error:
            said = str(error)
        after = self.packages()
        return Outcome(before.get(package, ""), after.get(package, ""), before != after, said)


def _sample(folder: Path, sandbox: Sandbox) -> Path:
    """A folder with a package that Debian lacks, and others that it has in other versions."""
    place = folder / "packages"
    place.mkdir()
    for name, version in _FOLDER.items():
        control = folder / "sample" / name / "DEBIAN/control"
        control.parent.mkdir(parents=True)
        control.write_text(_CONTROL.format(name=name, version=version))
        tree = str(control.parent.parent)
        sandbox.run(["dpkg-deb", "--root-owner-group", "--build", tree, str(place / f"{name}.deb")])
    return place


def _demanding(definition: Definition) -> Definition:
    """The same, which wants more of the package than there is."""
    role = definition.roles[0]
    wants = role.role.model_copy(update={"packages": (_OURS,)})
    versions = definition.versions.model_copy(update={"packages": {_OURS: PackageVersion(at_least=_HIGHER)}})
    return replace(definition, roles=(replace(role, role=wants),), versions=versions)


def _from_empty(folder: Path, sandbox: Sandbox) -> None:
    empty = folder / "empty"
    empty.mkdir()
    elsewhere(_NAME, PackageSource(folder=str(empty)), folder / "no-origin", sandbox)


def _foreign(folder: Path) -> Path:
    root = folder / "foreign"
    (root / "etc").mkdir(parents=True)
    (root / "etc/os-release").write_text('PRETTY_NAME="Rocky Linux 9.4"\nID="rocky"\nID_LIKE="rhel centos fedora"\n')
    return root
