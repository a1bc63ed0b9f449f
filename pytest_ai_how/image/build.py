"""Ensure images: found, verified and used if they were built; built, once, if not."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.bootstrap import bootstrap, disk_full
from pytest_ai_how.image.customize import customize
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.disk import DISK, INITRD, KERNEL, for_all, keep_accounts, make_disk
from pytest_ai_how.image.dkms import BuiltModule, build_modules
from pytest_ai_how.image.host import DISK_TOOLS, TOOLS, as_root, check_disk, check_host, mib
from pytest_ai_how.image.kernel import Kernel, add_kernel, initramfs
from pytest_ai_how.image.mirror import find_mirror
from pytest_ai_how.image.origin import elsewhere
from pytest_ai_how.image.recipe import digest_of, recipe
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.sif import LABEL, convert, label
from pytest_ai_how.image.store import MACHINE, TREE, Image, Store, describe, discard
from pytest_ai_how.image.tree import settle_times
from pytest_ai_how.image.versions import check_versions, installed
from pytest_ai_how.image.wheels import Wheels, find_pip
from pytest_ai_how.progress import Progress

# The folder of a build that its commands keep their temporary files in.
_TEMPORARY = "tmp"
# The image whose Apptainer makes the SIFs.
NODE = "node"
# One that downloads and one that unpacks keep two cores busy; more only compete for the disk.
_AT_ONCE = 2


@dataclass(frozen=True)
class Builder:
    """Finds and builds images of ``source`` in ``store``; ``mirror`` in place of the machine's own.

    ``origin`` is where packages come from that Debian lacks, for the images that have such.
    """

    source: Source
    store: Store
    mirror: str = ""
    origin: PackageSource | None = None

    def digest(self, name: str) -> str:
        """The digest of the image's recipe: what a machine that boots it is made from. Builds nothing."""
        return digest_of(recipe(self.source.define(name), self.origin))

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
            return self.store.find(name, self.digest(name), lambda text: progress.say(f"{name} image", text))
        except ImageError as error:
            progress.say(f"{name} image", f"{error.where}: {error.seen}; it is built anew")
            return None

    def _build_all(self, names: list[str], definitions: dict[str, Definition], progress: Progress) -> dict[str, Image]:
        bases = {name: base for name in names if (base := _base(definitions[name]))}
        cluster = any(one.spec.origin for one in definitions.values())
        cure = as_root(self.store.folder, names, cluster=cluster)
        names = list(dict.fromkeys([*bases.values(), *names]))
        tools = {**TOOLS, **DISK_TOOLS} if any(one.spec.kind == "disk" for one in definitions.values()) else TOOLS
        check_host(f"building the {names[0]} image", cure, tools=tools)
        # The bases first: the others need them. Then the largest, because it takes longest.
        order = sorted(names, key=lambda name: (name in bases, -self.source.define(name).spec.disk))
        with Sandbox() as sandbox, ThreadPoolExecutor(_AT_ONCE) as pool:
            futures: dict[str, Future[Image]] = {}
            try:
                for name in order:
                    made = futures.get(bases.get(name, ""))
                    futures[name] = pool.submit(self._ensure_one, name, made, sandbox, progress)
                done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
                for future in (future for future in futures.values() if future in done):
                    future.result()
            except BaseException:
                # The threads see their commands die, remove what they made and end; the pool waits for that.
                sandbox.kill()
                raise
            return {name: future.result() for name, future in futures.items()}

    def _ensure_one(self, name: str, base: Future[Image] | None, sandbox: Sandbox, progress: Progress) -> Image:
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
                    return self._build(definition, place, base, sandbox, progress)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise disk_full(name, self.store.folder) from error
                    raise

    def _build(
        self, definition: Definition, place: Path, base: Future[Image] | None, sandbox: Sandbox, progress: Progress
    ) -> Image:
        began, started = time.time(), time.monotonic()
        subject, root, kind = f"{definition.name} image", place / TREE, definition.spec.kind
        content = recipe(definition, self.origin)
        sandbox = sandbox.keeping(place / _TEMPORARY)
        if definition.wheels:
            find_pip()
        kernel, modules = self._ground(definition, place, base, sandbox, progress)
        progress.say(subject, "applying roles")
        customize(definition, root, sandbox, self._wheels(place, sandbox, progress, subject))
        packages = installed(root, sandbox) | (kernel.packages if kernel else {})
        check_versions(definition, packages)
        if kind == "sif":
            asked = " ".join(f"{name}={packages[name]}" for name in definition.packages)
            label(root, {LABEL: digest_of(content), "org.ai-how.packages": asked})
        newest = settle_times(root, began, definition.versions.epoch)
        progress.say(subject, "reading it all for its digest")
        described = tree = describe(root)
        if kind == "sif":
            described = describe(self._to_sif(definition, place, newest, base, sandbox, progress))
        if kernel:
            described = self._to_disk(definition, place, kernel, sandbox, progress)
        manifest = {
            "name": definition.name,
            "kind": kind,
            "digest": digest_of(content),
            "recipe": content,
            # Of the root directory, also where something was made of it: a SIF or disk holds its time stamps, too.
            "tree": tree["content"],
            "packages": packages,
            "wheels": definition.wheels,
            "modules": [asdict(module) for module in modules],
            "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            **described,
        }
        shutil.rmtree(place / _TEMPORARY)
        image = self.store.finish(place, manifest)
        progress.say(subject, f"built in {manifest['seconds']} s, {mib(manifest['bytes'])}")
        return image

    @property
    def wheels(self) -> Path:
        """Where the Python packages are kept that builds have fetched, one file each."""
        return self.store.folder.parent / "wheels"

    def _wheels(self, place: Path, sandbox: Sandbox, progress: Progress, subject: str) -> Wheels:
        """What installs Python packages, with the wheels that all images share in the cache."""

        def alone() -> AbstractContextManager[None]:
            return self.store.lock("wheels", lambda: progress.say(subject, "another run is fetching wheels; waiting"))

        return Wheels(self.wheels, place, sandbox, alone, progress, subject)

    def _ground(
        self, definition: Definition, place: Path, base: Future[Image] | None, sandbox: Sandbox, progress: Progress
    ) -> tuple[Kernel | None, tuple[BuiltModule, ...]]:
        """Make ``place``'s root with all packages; a disk's has a kernel, and the modules that were built for it."""
        if definition.spec.kind == "disk":
            return self._on_top(definition, place, _result(definition, base, progress), sandbox, progress)
        bootstrap(definition, place / TREE, self.mirror or find_mirror(), sandbox, progress)
        return None, ()

    def _on_top(
        self, definition: Definition, place: Path, base: Image, sandbox: Sandbox, progress: Progress
    ) -> tuple[Kernel, tuple[BuiltModule, ...]]:
        """Make ``place``'s root of a copy of ``base``, with the packages of the image's own roles and a kernel."""
        subject, root = f"{definition.name} image", place / TREE
        progress.say(subject, f"copying the {base.name} image")
        # Blocks are shared where the file system can; written to is only the copy.
        sandbox.run(["cp", "--archive", "--reflink=auto", str(base.path), str(root)])
        progress.say(subject, "reading the package lists")
        extra = None
        if self.origin and definition.spec.origin:
            extra = elsewhere(definition.name, self.origin, place / "origin", sandbox)
        apt = Apt.open(definition, place / "apt", self.mirror or find_mirror(), sandbox, extra)
        if definition.packages:
            progress.say(subject, f"installing {', '.join(definition.packages)}")
            apt.install(root, definition.packages)
        spec = definition.kernel.role.kernel
        assert spec is not None
        progress.say(subject, "fetching the kernel")
        kernel = add_kernel(spec, root, apt, sandbox)
        return kernel, build_modules(definition, kernel, root, apt, progress)

    def _to_disk(
        self, definition: Definition, place: Path, kernel: Kernel, sandbox: Sandbox, progress: Progress
    ) -> dict[str, Any]:
        """Make the disk, kernel and initramfs of ``place``'s root, remove the rest; what the manifest says of them."""
        machine, root, size = place / MACHINE, place / TREE, definition.spec.size
        assert size is not None
        machine.mkdir()
        progress.say(f"{definition.name} image", "writing the disk")
        facts = make_disk(definition.name, root, machine / DISK, size, definition.versions.epoch, sandbox)
        (machine / INITRD).write_bytes(initramfs(definition.kernel, kernel, root))
        shutil.copyfile(kernel.vmlinuz, machine / KERNEL)
        keep_accounts(root, machine)
        for_all(machine)
        for spare in ("root", "apt", "origin"):
            shutil.rmtree(place / spare, ignore_errors=spare == "origin")
        return {**describe(machine), "kernel": kernel.release, "disk": asdict(facts)}

    def _to_sif(
        self,
        definition: Definition,
        place: Path,
        newest: int,
        node: Future[Image] | None,
        sandbox: Sandbox,
        progress: Progress,
    ) -> Path:
        """Make the SIF of ``place/root``, in which nothing is newer than ``newest``, and remove the root."""
        node_root = _result(definition, node, progress).path
        progress.say(f"{definition.name} image", "converting to SIF")
        artifact = convert(node_root, place, definition.name, newest, sandbox)
        artifact.chmod(0o755)  # as Apptainer leaves it, whatever the umask
        for spare in ("root", "work", "mount"):
            shutil.rmtree(place / spare)
        return artifact


def _base(definition: Definition) -> str:
    """The image that must be there before this one is made; empty for one that needs none."""
    return NODE if definition.spec.kind == "sif" else definition.spec.of or ""


def _result(definition: Definition, base: Future[Image] | None, progress: Progress) -> Image:
    subject, name = f"{definition.name} image", _base(definition)
    if base is None:
        raise ImageError(subject, f"needs the {name} image, which is not among those built")
    if not base.done():
        progress.say(subject, f"waiting for the {name} image, which it is made with")
    return base.result()
