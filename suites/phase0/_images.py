"""Images as they lie in the store, looked at without building any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.errors import AiHowError, ImageError
from pytest_ai_how.image import image_digest
from pytest_ai_how.image.disk import DISK, KERNEL, DiskFacts, disk_facts, kernels_inside
from pytest_ai_how.image.kernel import release_of
from pytest_ai_how.image.needed import images_of, origin
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Image, Store, describe


@dataclass(frozen=True, slots=True)
class Presence:
    """An image that the cluster needs: there, or why not."""

    name: str
    image: Image | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an image says that it comes from, and what was found when it was read now.

    ``recipe`` and ``content`` are digests, as the manifest records them (first) and as they are (second); ``kernels``
    are releases by where they were found.
    """

    name: str
    recipe: tuple[str, str]
    content: tuple[str, str]
    kernels: Mapping[str, str]


def presences(config: ClusterConfig, driver: str) -> list[Presence]:
    """The images of a cluster that ``driver`` makes, in the order in which they are needed. Nothing is built."""
    found = []
    for name in images_of(config.model_copy(update={"driver": driver})):
        try:
            found.append(Presence(name, present(name, origin(config))))
        except AiHowError as error:
            found.append(Presence(name, None, str(error)))
    return found


def present(name: str, source: PackageSource | None = None) -> Image:
    """The image that is there. Raises :class:`ImageError` when it was never built, or is not what was built."""
    image = Store().find(name, image_digest(name, source))
    if image is None:
        raise ImageError(
            f"{name} image",
            "is not built",
            expected="it, as its roles are now",
            cure=f"pytest-ai-how images build {name}",
        )
    return image


def disk_of(image: Image, sandbox: Sandbox) -> DiskFacts:
    """What ``qemu-img`` says of a disk. Raises :class:`ImageError` when it is none."""
    return disk_facts(image.path / DISK, sandbox)


def provenance(image: Image, source: PackageSource | None, scratch: Path, sandbox: Sandbox) -> Provenance:
    """Read the image whole. Raises :class:`ImageError` when it cannot be read."""
    manifest, seen = image.manifest, describe(image.path)
    kernels: dict[str, str] = {}
    if manifest["kind"] == "disk":
        inside = kernels_inside(image.path / DISK, scratch, sandbox)
        kernels = {
            "manifest": str(manifest.get("kernel")),
            KERNEL: release_of(image.path / KERNEL),
            "modules in the disk": " and ".join(inside),
            **{f"headers of module {one['name']}": one["release"] for one in manifest["modules"]},
        }
    elif manifest["kind"] == "tree":
        kernels = {f"/{path.relative_to(image.path)}": path.name for path in (image.path / "usr/lib/modules").glob("*")}
    return Provenance(
        image.name,
        (str(manifest["digest"]), image_digest(image.name, source)),
        (str(manifest["content"]), str(seen["content"])),
        kernels,
    )
