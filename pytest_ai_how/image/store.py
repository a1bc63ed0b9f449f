"""Where built images lie, how they are found again, and how no half-built one is ever taken for an image.

::

    images/
        .lock-node                         held (flock) by whoever builds the image of that name
        .building-node-4f1c…-x8k2/         a build; its lock is free: a leftover, removed
        node-4f1c0a9b2d7e/manifest.json    the last thing written before the folder got this name (WHOLE may come later)
        node-4f1c0a9b2d7e/root/            kind tree: the root directory
        base-77a1b2c3d4e5/base.sif         kind sif
        vm-0a9b4f1c2d7e/machine/           kind disk: disk.qcow2, vmlinuz, initrd.cpio, etc/{passwd,group,shadow}
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.tree import content_digest, file_digest, file_fingerprint, files_fingerprint, fingerprint
from pytest_ai_how.lease.state import cache_home

# Seconds that one build may take while others wait for it.
_LONGEST_BUILD = 3600.0
_SHORT = 12
# What an image's folder holds: a root directory, or the files that a virtual machine starts from.
TREE, MACHINE = "root", "machine"
_MANIFEST = "manifest.json"
# What a manifest tells an image's fingerprint as: of a tree, and of files. Earlier ones told one of some folders of a
# tree, as that of files is told; that is left there for whoever understands no other.
WHOLE, OF_FILES = "whole", "fingerprint"
_BUILDING = re.compile(r"\.building-(?P<name>.+)-[0-9a-f]{12}-\w+")


@dataclass(frozen=True)
class Image:
    """A finished image: ``path`` is the root directory of a tree, the file of a SIF, or the folder of a disk's files.

    The manifest of a disk tells the release of its kernel as ``kernel``, and what qemu-img found as ``disk``.
    """

    name: str
    digest: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder that holds the image and its manifest."""
        return self.path.parent


class Store:
    """The images below ``folder`` (default: ``images`` in the cache)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_home() / "images"

    def place(self, name: str, digest: str) -> Path:
        """The folder of the finished image."""
        return self.folder / f"{name}-{digest[:_SHORT]}"

    def find(self, name: str, digest: str, say: Callable[[str], None] | None = None) -> Image | None:
        """The finished image, or None if it was never built. Raises ImageError if it is not what was built.

        ``say`` is for who is about to use it: one whose manifest tells no fingerprint of the whole is read whole then,
        once, and ``say`` is told of that. Who only looks whether it is there does not wait for that.
        """
        place = self.place(name, digest)
        if not place.exists():
            return None
        self._refuse_foreign()
        image = load(place)
        if image.name != name or image.digest != digest:
            raise ImageError(str(place), f"holds image {image.name} {image.digest[:_SHORT]}, not what its name says")
        try:
            return _unchanged(image, say)
        except PermissionError as error:
            what = f"can't be looked at whole: {error.filename}: {error.strerror}"
            raise ImageError(str(place), what, expected=f"root, not uid {os.geteuid()}") from error

    def _refuse_foreign(self) -> None:
        """What machines boot as root must not be another account's to change, and its manifest to match."""
        for folder in (self.folder.parent, self.folder):
            seen = folder.stat()
            foreign = seen.st_uid not in (0, os.geteuid())
            if foreign or seen.st_mode & 0o002:
                what = f"belongs to uid {seen.st_uid}" if foreign else "can be written by every account"
                raise ImageError(
                    str(folder), what, expected="a cache of ours alone", cure=f"move {folder} away, then build anew"
                )

    def images(self) -> list[Image]:
        """All finished images whose manifest can be read, sorted by name."""
        found = []
        for place in sorted(self.folder.glob("[a-z]*-*")):
            try:
                found.append(load(place))
            except ImageError:
                continue
        return found

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of image ``name``; ``waiting`` is called once if somebody else has it."""
        self.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask would let others do
        with suppress(FileExistsError):
            self.folder.mkdir()
            # Whatever the umask forbids: root may build for an account to whom the cache belongs.
            self.folder.chmod(0o755)
        with (self.folder / f".lock-{name}").open("a") as file:
            if not _try_lock(file.fileno()):
                waiting()
                wait_for(
                    lambda: _try_lock(file.fileno()),
                    within=_LONGEST_BUILD,
                    what=f"free: the lock of the {name} image, which another run is building",
                    where=str(self.folder),
                    every=0.2,
                )
            yield

    def make_way(self, name: str, digest: str) -> None:
        """Remove what is there in place of the image; the caller holds the lock. ImageError if machines run from it."""
        place = self.place(name, digest)
        if not place.exists():
            return  # a process in another root may well have mounted something of the same name
        if users := processes_using(place):
            raise ImageError(
                str(place),
                f"was changed after it was built, and is the root of machines that run (processes {users[:3]} see it)",
                cure="take those clusters down: `pytest-ai-how status`, `pytest-ai-how down NAME`",
            )
        discard(place)

    @contextmanager
    def building(self, name: str, digest: str) -> Iterator[Path]:
        """A folder to build in, gone at the end unless :func:`finish` has renamed it. The caller holds the lock."""
        place = self.folder / f".building-{name}-{digest[:_SHORT]}-{os.getpid()}"
        place.mkdir()
        try:
            yield place
        finally:
            discard(place)

    def finish(self, place: Path, manifest: Mapping[str, Any]) -> Image:
        """Write the manifest, bring everything to the disk and give the folder its name, in that order."""
        (place / _MANIFEST).write_text(_text(manifest))
        # Whatever the umask: root builds for accounts that have none of its rights.
        (place / _MANIFEST).chmod(0o644)
        place.chmod(0o755)
        # syncfs(2): Python has no call for it. Without it a power cut could leave a named folder of empty files.
        subprocess.run(["sync", "--file-system", str(place)], check=True, stdin=subprocess.DEVNULL)
        final = self.place(manifest["name"], manifest["digest"])
        place.rename(final)
        return load(final)

    def stale_builds(self) -> list[Path]:
        """What builds left behind that were killed: nobody holds their lock."""
        stale = []
        for place in sorted(self.folder.glob(".building-*")):
            found = _BUILDING.fullmatch(place.name)
            if found and not self._locked(found["name"]):
                stale.append(place)
        return stale

    def stale_builds_of(self, name: str) -> list[Path]:
        """What earlier builds of ``name`` left behind; the caller holds its lock."""
        builds = ((place, _BUILDING.fullmatch(place.name)) for place in sorted(self.folder.glob(".building-*")))
        return [place for place, found in builds if found and found["name"] == name]

    def clean_stale_builds(self) -> list[Path]:
        """Remove them and return what was removed."""
        stale = self.stale_builds()
        for place in stale:
            discard(place)
        return stale

    def _locked(self, name: str) -> bool:
        lock = self.folder / f".lock-{name}"
        if not lock.exists():
            return False
        with lock.open("a") as file:
            return not _try_lock(file.fileno())


def load(place: Path) -> Image:
    """Read the image in ``place``. Raises ImageError if its manifest is missing or no manifest."""
    file = place / _MANIFEST
    try:
        manifest = json.loads(file.read_text())
        image = Image(manifest["name"], manifest["digest"], place / manifest["artifact"], MappingProxyType(manifest))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(str(file), f"cannot be read as an image's manifest: {error}") from error
    if not image.path.exists() or not {WHOLE, OF_FILES} & manifest.keys() or "content" not in manifest:
        raise ImageError(str(place), f"is incomplete: {image.path.name} or part of its manifest is missing")
    return image


def describe(artifact: Path) -> dict[str, Any]:
    """The entries of a manifest that tell what was built: size in bytes, content digest, fingerprint."""
    content, size = content_digest(artifact) if artifact.is_dir() else file_digest(artifact)
    return {"artifact": artifact.name, "bytes": size, "content": content, _key(artifact): _seen(artifact)}


def verify(image: Image) -> None:
    """Read all of the image and compare it with its manifest. Raises ImageError."""
    seen = describe(image.path)
    if seen["content"] != image.manifest["content"]:
        raise ImageError(
            str(image.path),
            f"content digest {seen['content'][:_SHORT]}, the manifest says {image.manifest['content'][:_SHORT]}",
            cure=f"pytest-ai-how images build {image.name}",
        )


def _unchanged(image: Image, say: Callable[[str], None] | None) -> Image:
    if _key(image.path) not in image.manifest:
        if say is None:
            return image
        say("its manifest knows some of its folders only; reading it all, this once")
        return _known_whole(image)
    if _seen(image.path) != image.manifest[_key(image.path)]:
        raise ImageError(str(image.folder), "was changed after it was built")
    return image


def _known_whole(image: Image) -> Image:
    """Compare a tree with its manifest and add the fingerprint of the whole, where it may be written."""
    # Taken first: what is changed while it is read is noticed the next time.
    known = {**image.manifest, WHOLE: _seen(image.path)}
    verify(image)
    new = image.folder / f".manifest-{os.getpid()}"
    try:
        new.write_text(_text(known))
        shutil.copymode(image.folder / _MANIFEST, new)
        new.replace(image.folder / _MANIFEST)
    except OSError:
        with suppress(OSError):  # where nothing can be written, nothing is there
            new.unlink()
    return Image(image.name, image.digest, image.path, MappingProxyType(known))


def discard(place: Path) -> None:
    """Remove a folder, and first whatever is still mounted in it (nothing, unless somebody mounted it by hand)."""
    for mount in mounts_below(place):
        subprocess.run(["umount", "--lazy", mount], check=True, stdin=subprocess.DEVNULL)
    if place.exists():
        shutil.rmtree(place)


def processes_using(place: Path, proc: Path = Path("/proc")) -> list[int]:
    """Processes in whose mount namespace something is mounted from ``place``, or that have a file in it open.

    Containers may have a mount namespace of their own, so each is asked (proc_pid_mountinfo(5): the overlay's
    ``lowerdir=`` option and a bind mount's root both hold the path). A virtual machine has its disk open.
    """
    users = set()
    for file in proc.glob("[0-9]*/mountinfo"):
        try:
            mounted = re.search(rf"{re.escape(str(place.resolve()))}(/|:|,|\s|$)", file.read_text())
            if mounted or _has_open(file.parent, place.resolve()):
                users.add(int(file.parent.name))
        except (OSError, ValueError):
            continue  # ended while we looked
    return sorted(users)


def _has_open(process: Path, place: Path) -> bool:
    return any(file.readlink().is_relative_to(place) for file in (process / "fd").glob("*"))


def mounts_below(place: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """Mount points in ``place``, the innermost first (proc_pid_mountinfo(5), field 5)."""
    top = str(place.resolve())
    points = (_unescaped(line.split()[4]) for line in mountinfo.read_text().splitlines())
    return sorted((point for point in points if point == top or point.startswith(f"{top}/")), reverse=True)


def _unescaped(text: str) -> str:
    """Mount points have blanks and backslashes in octal: backslash, three digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _seen(artifact: Path) -> str:
    if artifact.name == MACHINE:
        return files_fingerprint(artifact)
    return fingerprint(artifact) if artifact.is_dir() else file_fingerprint(artifact)


def _text(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def _key(artifact: Path) -> str:
    return WHOLE if artifact.name == TREE else OF_FILES


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
