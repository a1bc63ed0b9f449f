"""Images: what machines boot and containers run from, built once and addressed by the digest of their recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.store import Image, Store, verify
from pytest_ai_how.progress import Progress

if TYPE_CHECKING:
    from pytest_ai_how.config.storage import PackageSource
    from pytest_ai_how.image.build import Builder

__all__ = [
    "Image",
    "clean_stale_builds",
    "ensure_image",
    "ensure_images",
    "find_image",
    "image_digest",
    "stale_builds",
    "verify",
]


def ensure_image(name: str, progress: Progress, origin: PackageSource | None = None) -> Image:
    """The image ``name``, built if it is not there.

    ``node`` is a root directory; ``base`` and ``pytorch`` are SIF files; ``vm`` is a folder with ``disk.qcow2``,
    ``vmlinuz`` and ``initrd.cpio``. ``origin`` is where the cluster's YAML says that packages come from which Debian
    lacks. Raises HostError when this machine cannot build it, ImageError when the build fails.
    """
    return ensure_images([name], progress, origin)[name]


def ensure_images(names: Iterable[str], progress: Progress, origin: PackageSource | None = None) -> dict[str, Image]:
    """As :func:`ensure_image`, several at once, in the order of ``names``."""
    return _builder(origin).ensure(names, progress)


def find_image(name: str) -> Image | None:
    """The image ``name`` if it is there; builds nothing. Raises ImageError when it is not what was built."""
    return Store().find(name, image_digest(name))


def image_digest(name: str, origin: PackageSource | None = None) -> str:
    """SHA-256 of the image's recipe; cheap, builds nothing. Raises ImageError for a mistake in its definition."""
    return _builder(origin).digest(name)


def stale_builds() -> list[Path]:
    """Folders that interrupted builds left behind."""
    return Store().stale_builds()


def clean_stale_builds() -> list[Path]:
    """Remove them and return what was removed."""
    return Store().clean_stale_builds()


def _builder(origin: PackageSource | None) -> Builder:
    from pytest_ai_how.image.build import Builder  # all that building needs, which attaching to a kept cluster doesn't

    return Builder(Source.shipped(), Store(), origin=origin)
