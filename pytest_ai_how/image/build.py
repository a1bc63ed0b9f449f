"""Ensure images: found, verified and used if they were built; built, once, if not."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.bootstrap import bootstrap, disk_full
from pytest_ai_how.image.customize import customize
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.host import check_disk, check_host, mib
from pytest_ai_how.image.mirror import find_mirror
from pytest_ai_how.image.recipe import digest_of, recipe
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.sif import LABEL, convert, label
from pytest_ai_how.image.store import Image, Store, describe, discard
from pytest_ai_how.image.tree import settle_times
from pytest_ai_how.image.versions import check_versions, installed
from pytest_ai_how.progress import Progress

# The image whose Apptainer makes the SIFs.
NODE = "node"
# One that downloads and one that unpacks keep two cores busy; more only compete for the disk.
_AT_ONCE = 2


@dataclass(frozen=True)
class Builder:
    """Finds and builds images of ``source`` in ``store``; ``mirror`` in place of the machine's own."""

    source: Source
    store: Store
    mirror: str = ""

    def digest(self, name: str) -> str:
        """The digest of the image's recipe: what a machine that boots it is made from. Builds nothing."""
        return digest_of(recipe(self.source.define(name)))

    def ensure(self, names: Iterable[str], progress: Progress) -> dict[str, Image]:
        """All images of ``names``, built where they are not there.

        Raises HostError when this machine cannot build, ImageError when a build fails; nothing is left then.
        """
        names = tuple(dict.fromkeys(names))
        definitions = {name: self.source.define(name) for name in names}
        found = {name: image for name in names if (image := self._usable(name, progress))}
        missing = [name for name in names if name not in found]
        if missing:
            found |= self._build_all(missing, definitions, progress)
        return {name: found[name] for name in names}

    def _usable(self, name: str, progress: Progress) -> Image | None:
        try:
            return self.store.find(name, self.digest(name))
        except ImageError as error:
            progress.say(f"{name} image", f"{error.where}: {error.seen}; it is built anew")
            return None

    def _build_all(self, names: list[str], definitions: dict[str, Definition], progress: Progress) -> dict[str, Image]:
        if any(definitions[name].spec.kind == "sif" for name in names) and NODE not in names:
            names = [NODE, *names]
        check_host(f"building the {names[0]} image")
        # The node first: the others need it. Then the largest, because it takes longest.
        order = sorted(names, key=lambda name: (name != NODE, -self.source.define(name).spec.disk))
        with Sandbox() as sandbox, ThreadPoolExecutor(_AT_ONCE) as pool:
            futures: dict[str, Future[Image]] = {}
            try:
                for name in order:
                    futures[name] = pool.submit(self._ensure_one, name, futures.get(NODE), sandbox, progress)
                done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
                for future in (future for future in futures.values() if future in done):
                    future.result()
            except BaseException:
                # The threads see their commands die, remove what they made and end; the pool waits for that.
                sandbox.kill()
                raise
            return {name: future.result() for name, future in futures.items()}

    def _ensure_one(self, name: str, node: Future[Image] | None, sandbox: Sandbox, progress: Progress) -> Image:
        subject = f"{name} image"
        with self.store.lock(name, lambda: progress.say(subject, "another run is building it; waiting")):
            if image := self._usable(name, progress):
                return image
            definition, digest = self.source.define(name), self.digest(name)
            for stale in self.store.stale_builds_of(name):
                progress.say(subject, f"removing what an interrupted build left: {stale.name}")
                discard(stale)
            self.store.make_way(name, digest)
            check_disk(self.store.folder, definition.spec.disk * 2**30, f"building the {name} image")
            with self.store.building(name, digest) as place:
                try:
                    return self._build(definition, place, node, sandbox, progress)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise disk_full(name, self.store.folder) from error
                    raise

    def _build(
        self, definition: Definition, place: Path, node: Future[Image] | None, sandbox: Sandbox, progress: Progress
    ) -> Image:
        began, started = time.time(), time.monotonic()
        subject, root, epoch = f"{definition.name} image", place / "root", definition.versions.epoch
        content = recipe(definition)
        bootstrap(definition, root, self.mirror or find_mirror(), sandbox, progress)
        progress.say(subject, "applying roles")
        customize(definition, root, sandbox)
        packages = installed(root, sandbox)
        check_versions(definition, packages)
        if definition.spec.kind == "sif":
            asked = " ".join(f"{name}={packages[name]}" for name in definition.packages)
            label(root, {LABEL: digest_of(content), "org.ai-how.packages": asked})
        settle_times(root, began, epoch)
        progress.say(subject, "reading it all for its digest")
        described = tree = describe(root)
        if definition.spec.kind == "sif":
            described = describe(self._to_sif(definition, place, node, sandbox, progress))
        manifest = {
            "name": definition.name,
            "kind": definition.spec.kind,
            "digest": digest_of(content),
            "recipe": content,
            # Of the root directory, also where a SIF was made of it: a SIF holds the time when it was made.
            "tree": tree["content"],
            "packages": packages,
            "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            **described,
        }
        image = self.store.finish(place, manifest)
        progress.say(subject, f"built in {manifest['seconds']} s, {mib(manifest['bytes'])}")
        return image

    def _to_sif(
        self, definition: Definition, place: Path, node: Future[Image] | None, sandbox: Sandbox, progress: Progress
    ) -> Path:
        """Make the SIF of ``place/root`` and remove the root."""
        subject = f"{definition.name} image"
        if node is None:
            raise ImageError(subject, f"needs the {NODE} image, which is not among those built")
        if not node.done():
            progress.say(subject, f"waiting for the {NODE} image, whose Apptainer makes the SIF")
        node_root = node.result().path
        progress.say(subject, "converting to SIF")
        artifact = convert(node_root, place, definition.name, definition.versions.epoch, sandbox)
        for spare in ("root", "work", "mount"):
            shutil.rmtree(place / spare)
        return artifact
