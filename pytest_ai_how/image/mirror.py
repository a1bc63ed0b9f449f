"""Which Debian mirror this machine uses, read from its own apt sources (sources.list(5) of apt 2.6 and 3.0)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import HostError

VARIABLE = "AI_HOW_MIRROR"
# Suites of Debian itself; other distributions' and vendors' repositories use other names.
_SUITES = frozenset(
    {
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    }
)
_CURE = f"set {VARIABLE} to the URI of a Debian mirror that this machine reaches (http://HOST/debian)"


@dataclass(frozen=True, slots=True)
class AptSource:
    """One line or stanza: ``deb URI SUITE COMPONENTS``, for each of its URIs."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def find_mirror(apt: Path = Path("/etc/apt"), environ: Mapping[str, str] = os.environ) -> str:
    """The URI of the Debian archive. ``AI_HOW_MIRROR`` wins; else the first source of a Debian suite's ``main``.

    Raises :class:`~pytest_ai_how.errors.HostError` when there is none, or when the variable holds no URI.
    """
    if given := environ.get(VARIABLE, ""):
        if not re.fullmatch(r"(https?|file|copy)://?[!-~]+", given):
            raise HostError(VARIABLE, f"is {given!a}", expected="a URI: http://HOST/debian", cure=_CURE)
        return given.rstrip("/")
    for source in apt_sources(apt):
        if _SUITES.intersection(source.suites) and "main" in source.components:
            return source.uri.rstrip("/")
    raise HostError(str(apt), "no source of a Debian suite's 'main' is enabled here", cure=_CURE)


def apt_sources(apt: Path) -> Iterator[AptSource]:
    """The enabled binary sources of ``sources.list``, ``*.list`` and ``*.sources``, in apt's order."""
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix not in {".list", ".sources"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for source in parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text):
            yield from _resolved(source)


def parse_one_line(text: str) -> Iterator[AptSource]:
    """``deb [arch=amd64 signed-by=/k.gpg] http://deb.example.org/debian trixie main contrib # comment``."""
    for line in text.splitlines():
        found = re.fullmatch(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+?)\s*(?:#.*)?", line)
        if found:
            yield AptSource(found[1], (found[2],), tuple(found[3].split()))


def parse_deb822(text: str) -> Iterator[AptSource]:
    """Stanzas of ``Types:``, ``URIs:``, ``Suites:``, ``Components:``; those with ``Enabled: no`` are left out."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        for uri in fields.get("uris", "").split():
            yield AptSource(uri, tuple(fields.get("suites", "").split()), tuple(fields.get("components", "").split()))


def _resolved(source: AptSource) -> Iterator[AptSource]:
    """Follow ``mirror+file:/etc/apt/mirrors/debian.list`` (Debian's cloud images) to the URIs in that file."""
    if not source.uri.startswith("mirror+file:"):
        yield source
        return
    listed = Path("/" + source.uri.removeprefix("mirror+file:").lstrip("/"))
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith("#"):
                yield AptSource(line.split()[0], source.suites, source.components)
