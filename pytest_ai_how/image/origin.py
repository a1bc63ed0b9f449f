"""Packages that Debian lacks: where a cluster's YAML says that they come from, as apt sources and as part of a recipe.

A folder of ``.deb`` files is given to apt with an index of our own making and is trusted as it is: whoever may write
there may as well change the YAML. A repository or a mirror of one is trusted only as far as its key signs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ai_how.config.storage import AptMirror, PackageSource
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.sandbox import Sandbox

_CURE = "name it in the cluster's YAML: storage.beegfs.packages"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A source of packages beside Debian's mirror, as apt is told.

    ``line`` is its line of sources.list(5), ``where`` the folder or URL that the YAML names, ``key`` the file with the
    key that signs it; a folder has none.
    """

    line: str
    where: str
    key: str = ""


def identity(name: str, origin: PackageSource | None) -> dict[str, Any]:
    """What the image ``name`` takes from ``origin``, as plain data. Raises ImageError as :func:`elsewhere` does."""
    if origin is None:
        raise ImageError(
            f"{name} image", "needs packages that Debian lacks, from a source that is not named", cure=_CURE
        )
    if origin.folder is not None:
        return {"folder": [[file.name, _sha256(file)] for file in debs(origin.folder)]}
    line, key = _line(name, origin)
    return {"line": line, "key": _sha256(key)}


def elsewhere(name: str, origin: PackageSource, place: Path, sandbox: Sandbox) -> Elsewhere:
    """``origin`` as apt is told; the index of a folder is written into ``place``.

    Raises ImageError when the folder holds no package, or the key cannot be read.
    """
    if origin.folder is not None:
        index(debs(origin.folder), place, sandbox)
        return Elsewhere(f"deb [trusted=yes] copy:{place} ./", origin.folder)
    line, key = _line(name, origin)
    _sha256(key)
    return Elsewhere(line.replace("deb ", f"deb [signed-by={key}] ", 1), line.split()[1], str(key))


def debs(folder: str) -> list[Path]:
    """The packages in ``folder``, sorted. Raises ImageError when there is none."""
    place = Path(folder).expanduser().absolute()
    found = sorted(place.glob("*.deb"))
    if not found:
        what = "holds no .deb file" if place.is_dir() else "is no folder"
        raise ImageError(str(place), what, expected="the packages that the image needs", cure=_CURE)
    return found


def index(packages: list[Path], place: Path, sandbox: Sandbox) -> None:
    """Make ``place`` a flat repository of ``packages``: links to them, and the index that apt reads (deb822(5))."""
    place.mkdir()
    stanzas = []
    for package in packages:
        # Without spaces and such, which apt's index cannot hold; dpkg takes the name from inside.
        link = f"{_sha256(package)[:16]}.deb"
        (place / link).symlink_to(package)
        # The control file as it is: "Package: beegfs-common\nVersion: 7.4.7\n…" (dpkg-deb 1.21)
        control = sandbox.run(["dpkg-deb", "--field", str(package)], keep=None).stdout.strip()
        stanzas.append(f"{control}\nFilename: ./{link}\nSize: {package.stat().st_size}\nSHA256: {_sha256(package)}\n")
    (place / "Packages").write_text("\n".join(stanzas))


def _line(name: str, origin: PackageSource) -> tuple[str, Path]:
    """The line without options, and the key's file."""
    if origin.repository is not None:
        return origin.repository.line, Path(origin.repository.key).expanduser().absolute()
    if origin.mirror is not None:
        return _mirror_line(origin.mirror), Path(origin.mirror.key).expanduser().absolute()
    raise ImageError(f"{name} image", "the source of packages is neither folder, repository nor mirror", cure=_CURE)


def _mirror_line(mirror: AptMirror) -> str:
    # A suite that ends in a slash is a path, and has no components (sources.list(5)).
    components = () if mirror.suite.endswith("/") else mirror.components
    return " ".join(("deb", mirror.url, mirror.suite, *components))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(str(path), f"cannot be read: {error.strerror}", cure=_CURE) from error
