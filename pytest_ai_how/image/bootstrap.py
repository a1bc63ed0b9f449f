"""Install Debian packages into an empty directory with mmdebstrap (1.3.5 and later), and say what it is doing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.definitions import Definition
from pytest_ai_how.image.host import KEYRING, free_bytes, mib
from pytest_ai_how.image.mirror import VARIABLE
from pytest_ai_how.image.origin import Elsewhere
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.progress import Progress
from pytest_ai_how.shell import Result, quote

# A mirror that says nothing for this many seconds is given up, twice.
APT_OPTIONS = (
    'Acquire::http::Timeout "20"',
    'Acquire::https::Timeout "20"',
    'Acquire::Retries "1"',
    # Mirrors that a site has frozen expire; signatures are checked all the same, versions after the build.
    'Acquire::Check-Valid-Until "false"',
    'Acquire::Languages "none"',
    'APT::Install-Recommends "false"',
)
_REASONS: tuple[tuple[str, str], ...] = (
    (r"No space left on device|Disk quota exceeded", "disk"),
    (r"NO_PUBKEY|is not signed|EXPKEYSIG|KEYEXPIRED", "keys"),
    (r"Unable to locate package|has no installation candidate|unmet dependencies|Version .* was not found", "packages"),
    (
        r"Failed to fetch|Could not connect|Could not resolve|Temporary failure resolving|timed out|"
        r"Unable to connect|does not have a Release file|Connection (refused|failed)",
        "mirror",
    ),
)


def bootstrap(definition: Definition, root: Path, mirror: str, sandbox: Sandbox, progress: Progress) -> None:
    """Make ``root`` (which must not exist) with the packages of ``definition``. Raises ImageError with the cause."""
    subject = f"{definition.name} image"
    pins = root.parent / "pins"
    pins.write_text(preferences(definition))
    try:
        sandbox.run(
            command(definition, root, mirror, pins),
            env={"SOURCE_DATE_EPOCH": str(definition.versions.epoch)},
            line=milestones(lambda text: progress.say(subject, text)),
        )
    except CommandError as error:
        raise explain(error.result, definition.name, root.parent, mirror) from error
    finally:
        pins.unlink()


def command(definition: Definition, root: Path, mirror: str, pins: Path) -> list[str]:
    """The argument vector of mmdebstrap."""
    versions = definition.versions
    components = " ".join(versions.components)
    hook = f'mkdir -p "$1"/etc/apt/preferences.d && cp {quote([str(pins)])} "$1"/etc/apt/preferences.d/ai-how'
    return [
        "mmdebstrap",
        "--verbose",
        "--variant=minbase",
        "--mode=root",
        "--format=directory",
        f"--keyring={KEYRING}",
        f"--include={','.join(definition.packages)}",
        *(f"--aptopt={option}" for option in APT_OPTIONS),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in definition.spec.exclude),
        f"--setup-hook={hook}",
        definition.suite,
        str(root),
        *(f"deb {mirror} {suite} {components}" for suite in suites(definition)),
    ]


def suites(definition: Definition) -> list[str]:
    """The suite of the image and those that single packages come from."""
    others = {demand.suite for demand in definition.demands.values() if demand.suite}
    return [definition.suite, *sorted(others - {definition.suite})]


def preferences(definition: Definition) -> str:
    """apt_preferences(5): packages come from the image's suite, but for those that are declared otherwise."""
    first = definition.suite
    stanzas = [f"Package: *\nPin: release n={suite}\nPin-Priority: 50\n" for suite in suites(definition)[1:]]
    for name, demand in sorted(definition.demands.items()):
        if demand.suite and demand.suite != first:
            stanzas.append(f"Package: {name}\nPin: release n={demand.suite}\nPin-Priority: 990\n")
    return "\n".join(stanzas)


def milestones(say: Callable[[str], None]) -> Callable[[str], None]:
    """A function that takes each line of ``mmdebstrap --verbose`` and passes on the few that tell where it is.

    Lines that are understood (apt 2.6 to 3.0)::

        I: running apt-get update...
        0 upgraded, 214 newly installed, 0 to remove and 0 not upgraded.
        Need to get 99.3 MB of archives.
        Setting up fio (3.39-1) ...
    """
    state = {"new": 0, "set up": 0, "quarter": 0}

    def line(text: str) -> None:
        if text.startswith("I: running apt-get update"):
            say("reading the package lists")
        elif text.startswith("I: installing essential packages"):
            say("setting up the essential packages")
        elif found := re.match(r"Need to get ([\d.,]+ [kMG]?B)", text):
            say(f"downloading {found[1]}")
        elif found := re.match(r"\d+ upgraded, (\d+) newly installed", text):
            state.update({"new": int(found[1]), "set up": 0, "quarter": 0})
            say(f"{found[1]} packages to install")
        elif text.startswith("Setting up ") and state["new"]:
            state["set up"] += 1
            quarter = 4 * state["set up"] // state["new"]
            if state["quarter"] < quarter < 4:
                state["quarter"] = quarter
                say(f"set up {state['set up']} of {state['new']} packages")

    return line


def explain(result: Result, name: str, folder: Path, mirror: str, extra: Elsewhere | None = None) -> ImageError:
    """The one cause among all that a failed mmdebstrap, apt-get or dpkg has said; ``extra`` was a source beside it."""
    lines = result.stdout.splitlines()
    kind = next((kind for pattern, kind in _REASONS if any(re.search(pattern, line) for line in lines)), "")
    # E: and Err: are apt's and mmdebstrap's own; the last line of mmdebstrap says only that apt failed.
    said = [line for line in lines if re.match(r"(E|W|Err|dpkg):?", line)] or lines
    last = " | ".join(dict.fromkeys(line.strip() for line in said[-6:]))
    if kind == "disk":
        return disk_full(name, folder)
    if extra and (kind == "packages" or (kind and any(extra.where in line for line in said))):
        return _explain_extra(kind, name, mirror, extra, last)
    if kind == "mirror":
        return ImageError(
            mirror,
            f"the mirror did not give what the {name} image needs: {last}",
            cure=f"check the network and any proxy (http_proxy), or set {VARIABLE} to another mirror",
        )
    if kind == "keys":
        return ImageError(
            str(KEYRING),
            f"does not vouch for what the mirror {mirror} gave: {last}",
            cure="apt-get update && apt-get install debian-archive-keyring",
        )
    if kind == "packages":
        cure = "correct the role's packages or configs/versions.yaml, or set AI_HOW_MIRROR to a complete mirror"
        return ImageError(f"{name} image", f"the mirror {mirror} lacks packages: {last}", cure=cure)
    return ImageError(f"{name} image", f"{result.argv[0]} exited with {result.returncode}: {last}")


def _explain_extra(kind: str, name: str, mirror: str, extra: Elsewhere, last: str) -> ImageError:
    """As :func:`explain`, for the source that the cluster's YAML names (``storage.beegfs.packages``)."""
    if kind == "keys":
        cure = "name the key of who signs it in the cluster's YAML: storage.beegfs.packages"
        return ImageError(extra.key, f"does not vouch for what {extra.where} gave: {last}", cure=cure)
    if kind == "mirror":
        cure = "check that it answers, or name another one in the cluster's YAML: storage.beegfs.packages"
        return ImageError(extra.where, f"did not give what the {name} image needs: {last}", cure=cure)
    return ImageError(
        f"{name} image",
        f"neither {extra.where} nor the mirror {mirror} has packages that it needs: {last}",
        cure="complete the packages there, or name another source in the cluster's YAML: storage.beegfs.packages",
    )


def disk_full(name: str, folder: Path) -> ImageError:
    """The disk filled up while the image was built."""
    return ImageError(
        str(folder),
        f"the disk filled up during the build of the {name} image; {mib(free_bytes(folder))} free now",
        cure="make room, run `pytest-ai-how images prune`, or set XDG_CACHE_HOME to a larger file system",
    )
