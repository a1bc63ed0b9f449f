"""Our roles and what they become, looked at before any image is built of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.libvirt.virtiofs import mounts_of
from pytest_ai_how.drivers.libvirt.xml import DomainXml, Files, Filesystem, Hypervisor, network_xml
from pytest_ai_how.drivers.machines.identity import make_identity
from pytest_ai_how.drivers.machines.render import Confinement, File, Renderer
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.definitions import Definition, LoadedRole, Source
from pytest_ai_how.image.mirror import find_mirror
from pytest_ai_how.image.recipe import digest_of, own_part
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Store
from pytest_ai_how.shell import Result

from ._over import lay_out, run_over

# Where files would lie; none is made.
_SHARED = Path("/shared")
_BOOTS = Files(*map(Path, ("/boot/vmlinuz", "/boot/initrd", "/disk.qcow2", "/console.log")))
_UNITS = "/etc/systemd/system/"
# A drop-in or unit that is for machines of one role says so by what the driver puts on the kernel's command line.
_CONDITION = re.compile(r"^ConditionKernelCommandLine=\|?ai_how\.role=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Catalogued:
    """All roles and images: what could be read, by name, and what is wrong with the rest, a line each."""

    images: Mapping[str, Definition]
    roles: Mapping[str, LoadedRole]
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Packages:
    """Packages by who vouches for them: a built image that has them, apt with the mirror's lists now, or nobody.

    ``elsewhere`` are those of images whose packages come from where a cluster's YAML says, by image; Debian lacks them.
    """

    built: Mapping[str, str] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()
    wrong: tuple[str, ...] = ()
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def catalogued(source: Source) -> Catalogued:
    """Read every image with its roles, and every role that no image has as if one had it alone."""
    images, roles, wrong = {}, {}, []
    for name in source.image_names():
        try:
            images[name] = source.define(name)
        except AiHowError as error:
            wrong.append(str(error))
    for definition in images.values():
        roles.update({one.name: one for one in (*(definition.of.roles if definition.of else ()), *definition.roles)})
    for name in source.role_names():
        if name not in roles:
            try:
                roles.update({one.name: one for one in source.closure(name)})
            except AiHowError as error:
                wrong += [] if str(error) in wrong else [str(error)]
    return Catalogued(images, roles, tuple(wrong))


# what they ask for


def packages(found: Catalogued, ask_apt: Callable[[Definition, Sequence[str]], str]) -> Packages:
    """Who vouches for each package that the images ask for; ``ask_apt`` says why it can't have some, or nothing."""
    built: dict[str, str] = {}
    listed: set[str] = set()
    wrong: list[str] = []
    elsewhere: dict[str, tuple[str, ...]] = {}
    for name, definition in found.images.items():
        if definition.spec.origin:
            elsewhere[name] = definition.packages
            continue
        image = Store().find(name, digest_of(own_part(definition)))
        asked = (*definition.packages, *definition.unpacked)
        if image:
            has = image.manifest["packages"]
            built.update({package: name for package in asked if package in has})
            wrong += [f"{name} image: has no {one}, which a role asks for" for one in asked if one not in has]
        elif why := ask_apt(definition, [one for one in asked if one not in listed]):
            wrong.append(why)
        else:
            listed.update(asked)
    return Packages(built, frozenset(listed), tuple(wrong), elsewhere)


def apt_lacks(folder: Path) -> Callable[[Definition, Sequence[str]], str]:
    """A function that asks apt, with the mirror's lists as they are now. Seconds for each image; needs root."""

    def ask(definition: Definition, wanted: Sequence[str]) -> str:
        with Sandbox() as sandbox:
            try:
                apt = Apt.open(definition, folder / definition.name, find_mirror(), sandbox)
                apt.simulate(wanted)
            except AiHowError as error:
                return str(error)
        return ""

    return ask


# whose they are


def unused(found: Catalogued, source: Source) -> list[str]:
    """The roles that no image has."""
    has = {one.name for image in found.images.values() for one in (*(image.of.roles if image.of else ()), *image.roles)}
    return [f"{source.provisioning}/roles/{name}/role.yaml" for name in source.role_names() if name not in has]


def served(definition: Definition) -> dict[str, list[str]]:
    """The units that start on machines of one role only, by that role: the patterns of our 'plays'."""
    units: dict[str, list[str]] = {}
    for loaded in (*(definition.of.roles if definition.of else ()), *definition.roles):
        for file in loaded.files:
            if file.target.startswith(_UNITS):
                for role in _CONDITION.findall(file.source.read_text(encoding="utf-8")):
                    unit = file.target.removeprefix(_UNITS).partition(".d/")[0]
                    units.setdefault(role, []).append(unit)
    return units


# what becomes of them


def verify_units(definition: Definition, tree: Path, scratch: Path, sandbox: Sandbox) -> tuple[list[str], Result]:
    """What systemd-analyze in ``tree`` says of the units that an image's roles bring, change by a drop-in, or enable.

    Returns the units and what it said. Where packages come from that ``tree`` lacks (a disk's own), an empty service
    stands in for a unit of theirs, so that our drop-in is read all the same. ``scratch`` is a folder of its own.
    """
    roles = (*(definition.of.roles if definition.of else ()), *definition.roles)
    files = [File(one.target, one.source.read_bytes(), one.mode) for loaded in roles for one in loaded.files]
    units = unit_names(roles)
    ours = {file.path.removeprefix(_UNITS) for file in files}
    foreign = [name for name in units if name not in ours and not (tree / "usr/lib/systemd/system" / name).exists()]
    if definition.of:
        files += [File(f"/usr/lib/systemd/system/{name}", b"[Service]\nExecStart=/bin/true\n") for name in foreign]
    layer, mount = lay_out(scratch / "layer", files), scratch / "mount"
    mount.mkdir()
    return units, run_over(tree, layer, mount, ["systemd-analyze", "verify", "--man=no", *units], sandbox)


def unit_names(roles: Iterable[LoadedRole]) -> list[str]:
    """The units that roles bring, change by a drop-in, or enable; templates are left out, and what they instantiate."""
    names: list[str] = []
    for loaded in roles:
        paths = [file.target.removeprefix(_UNITS) for file in loaded.files if file.target.startswith(_UNITS)]
        names += [*(path.partition(".d/")[0] for path in paths), *loaded.role.units.enable]
    return sorted({name for name in names if "@" not in name})


def rendered(config: ClusterConfig) -> Iterator[tuple[str, str]]:
    """Every file of every machine of a configuration, by where it belongs; of virtual machines their XML too.

    Raises what the templates raise: a name that they use and nobody gives is jinja2's UndefinedError.
    """
    identity = make_identity(node.name for node in config.nodes)
    renderer = Renderer(config, identity, Confinement("autodetect", {}), lambda node: mounts_of(config, node, _SHARED))
    for node in config.nodes:
        for file in renderer.files(node):
            with suppress(UnicodeDecodeError):  # random keys, which come from no template
                yield f"{config.name}/{node.name}:{file.path}", file.content.decode()
        if config.driver in ("libvirt", "auto"):
            filesystems = [Filesystem(one.tag, Path(one.source)) for one in mounts_of(config, node, _SHARED)]
            domain = DomainXml(config, Hypervisor(Path("/usr/bin/qemu"), kvm=True)).of(node, _BOOTS, filesystems)
            yield f"{config.name}/{node.name}:domain.xml", domain
    if config.driver in ("libvirt", "auto"):
        yield f"{config.name}:network.xml", network_xml(config, own_bridge=True)


def unfinished(where: str, text: str) -> str:
    """What is wrong with a rendered file; empty when nothing is. Prometheus fills in names that begin with ``$``."""
    if left := re.search(r"\{(?:[%#]|\{(?!\s*\$)).*", text):
        return f"{where}: {left[0][:60]!r} was not rendered, expected no template in it"
    if where.endswith(".xml"):
        try:
            ElementTree.fromstring(text)  # noqa: S314  our own template's
        except ElementTree.ParseError as error:
            return f"{where}: is no XML: {error}"
    return ""
