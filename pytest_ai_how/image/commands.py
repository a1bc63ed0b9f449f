"""``pytest-ai-how images list | build | verify | prune``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.host import mib
from pytest_ai_how.image.lock import normal
from pytest_ai_how.image.needed import images_of, origin
from pytest_ai_how.image.recipe import own_part
from pytest_ai_how.image.store import Image, Store, discard, processes_using, verify
from pytest_ai_how.progress import Progress, progress_on

_ACTIONS = ("list", "build", "verify", "prune")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``pytest-ai-how images``."""
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list", help="default: list")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="images (default: all that are declared; build: without those of VMs)"
    )
    parser.add_argument(
        "--cluster", metavar="CONFIG", help="the images that this configuration needs, packages from where it says"
    )


def run(args: Namespace) -> int:
    """Do what ``args`` say and print it; 1 if an image does not verify, 0 otherwise. Raises AiHowError."""
    config = load_config(args.cluster) if args.cluster else None
    builder = Builder(Source.shipped(), Store(), origin=origin(config) if config else None)
    names = tuple(args.names) or (images_of(config) if config else builder.source.image_names())
    for name in names:
        builder.source.define(name)
    if args.action == "list":
        lines, status = list_images(builder, names), 0
    elif args.action == "build":
        with progress_on() as progress:
            lines, status = build_images(builder, names if args.names or config else _usual(builder), progress), 0
    elif args.action == "verify":
        lines, status = verify_images(builder, names if args.names or config else (*_usual(builder), *_made(builder)))
    else:
        lines, status = prune_images(builder, args.names), 0
    print("\n".join(lines))
    return status


def _usual(builder: Builder) -> tuple[str, ...]:
    """The images that are built without being named."""
    return tuple(name for name in builder.source.image_names() if not builder.source.define(name).spec.on_demand)


def _made(builder: Builder) -> tuple[str, ...]:
    """The others, where a present one is there."""
    present = {image.name for image in builder.store.images() if not _is_outdated(builder, image)}
    return tuple(name for name in builder.source.image_names() if name in present - set(_usual(builder)))


def list_images(builder: Builder, names: Iterable[str]) -> list[str]:
    """A line for each declared image: its digest, whether it is built, its size and where it lies."""
    lines = []
    for name in names:
        try:
            digest = builder.digest(name)
        except ImageError as error:
            lines.append(f"{name:<14} {'-':<12}  {error.seen}; {error.cure}")
            continue
        try:
            image = builder.store.find(name, digest)
            what = (
                f"{mib(image.manifest['bytes'])}  {image.manifest['built_at']}  {image.path}" if image else "not built"
            )
        except ImageError as error:
            what = f"not usable: {error.seen}"
        lines.append(f"{name:<14} {digest[:12]}  {what}")
    lines += [f"{place.name}: left by an interrupted build" for place in builder.store.stale_builds()]
    return lines


def build_images(builder: Builder, names: Iterable[str], progress: Progress) -> list[str]:
    """Build what is missing; a line for each image. Raises HostError or ImageError."""
    return [f"{image.name:<14} {image.digest[:12]}  {image.path}" for image in builder.ensure(names, progress).values()]


def verify_images(builder: Builder, names: Iterable[str]) -> tuple[list[str], int]:
    """Read each image whole; the lines, and 1 if one is missing or not what was built, else 0."""
    lines, status = [], 0
    for name in names:
        try:
            image = builder.store.find(name, builder.digest(name))
            if image is None:
                raise ImageError(name, "not built", cure=f"pytest-ai-how images build {name}")
            verify(image)
            lines.append(f"{name:<14} {image.digest[:12]}  verified, {mib(image.manifest['bytes'])} read")
        except ImageError as error:
            status = 1
            lines.append(str(error))
    return lines, status


def prune_images(builder: Builder, names: Iterable[str]) -> list[str]:
    """Remove what interrupted builds left, and images of ``names`` (none: all) whose recipe has changed.

    Of all, that goes for the Python packages that no lock names any more, too. An image that a running machine uses
    stays. A line for each thing removed or kept for that reason.
    """
    names = tuple(names)
    lines = [f"removed {place.name}" for place in builder.store.clean_stale_builds()]
    for image in _outdated(builder, set(names)):
        if users := processes_using(image.folder):
            lines.append(f"kept {image.folder.name}: in use, see process {users[0]}")
            continue
        with builder.store.lock(image.name, lambda: None):
            discard(image.folder)
        lines.append(f"removed {image.folder.name} ({mib(image.manifest['bytes'])})")
    lines += [] if names else _prune_wheels(builder)
    return lines or ["nothing to remove"]


def _prune_wheels(builder: Builder) -> list[str]:
    with builder.store.lock("wheels", lambda: None):
        old = [path for path in sorted(builder.wheels.glob("*.whl")) if not _is_locked(path.name, builder.source)]
        lines = [f"removed {path.name} ({mib(path.stat().st_size)})" for path in old]
        for path in old:
            path.unlink()
    return lines


def _is_locked(wheel: str, source: Source) -> bool:
    """Whether an image's lock names the package of ``name-version-….whl`` (PEP 427) in that version."""
    name, version = wheel.split("-")[:2]
    return any(source.define(image).wheels.get(normal(name)) == version for image in source.image_names())


def _outdated(builder: Builder, names: set[str]) -> Iterator[Image]:
    for image in builder.store.images():
        if (not names or image.name in names) and _is_outdated(builder, image):
            yield image


def _is_outdated(builder: Builder, image: Image) -> bool:
    """Whether the recipe has changed. Where packages come from that Debian lacks does not count: clusters differ."""
    if image.name not in builder.source.image_names():
        return True
    definition = builder.source.define(image.name)
    if not definition.spec.origin:
        return image.digest != builder.digest(image.name)
    built = image.manifest.get("recipe", {})
    return {key: value for key, value in built.items() if key != "origin"} != own_part(definition)
