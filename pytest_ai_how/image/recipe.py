"""The recipe of an image: everything that goes into it, as canonical JSON, and the digest that names the image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.image.definitions import Definition, LoadedRole, RoleFile
from pytest_ai_how.image.origin import identity

# Raised when the pipeline itself changes what it makes of the same definitions.
PIPELINE = 2
# The same for what makes a disk of a tree.
DISK_PIPELINE = 2
# The same for what makes a SIF of a tree.
SIF_PIPELINE = 1
# Fields of a role that came later: only where they say something, so that the digests of other images stay.
_LATER = frozenset({"dkms", "kernel", "wheels"})


def recipe(definition: Definition, origin: PackageSource | None = None) -> dict[str, Any]:
    """What goes into the image, as plain data. Where Debian's packages come from (the mirror) is no part of it.

    ``origin`` is where the cluster's YAML says that other packages come from; images that need none ignore it.
    Raises ImageError when one is needed and not given, or cannot be read.
    """
    own = own_part(definition)
    return {**own, "origin": identity(definition.name, origin)} if definition.spec.origin else own


def own_part(definition: Definition) -> dict[str, Any]:
    """What goes into the image but for what a cluster's YAML adds."""
    versions = definition.versions
    made: dict[str, Any] = {}
    if definition.spec.kind == "sif":
        made = {"sif_pipeline": SIF_PIPELINE}
    if definition.of:
        of = digest_of(own_part(definition.of))
        made = {"disk_pipeline": DISK_PIPELINE, "of": of, "size": definition.spec.size}
    return {
        **made,
        "pipeline": PIPELINE,
        "name": definition.name,
        "kind": definition.spec.kind,
        "suite": definition.suite,
        "components": list(versions.components),
        "epoch": versions.epoch,
        "packages": list(definition.packages),
        "demands": {name: demand.model_dump() for name, demand in definition.demands.items()},
        "exclude": list(definition.spec.exclude),
        "roles": [_role(loaded) for loaded in definition.roles],
    }


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no blanks, UTF-8), in hexadecimal."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _role(loaded: LoadedRole) -> dict[str, Any]:
    said = loaded.role.model_dump(mode="json", exclude={"description", "needs", "ports"})
    return {
        "name": loaded.name,
        **{key: value for key, value in said.items() if value or key not in _LATER},
        "files": _files(loaded.files),
        **({"lock": hashlib.sha256(loaded.lock.file.read_bytes()).hexdigest()} if loaded.lock else {}),
        **({"initramfs": _files(loaded.initramfs)} if loaded.initramfs else {}),
    }


def _files(files: Iterable[RoleFile]) -> list[list[str]]:
    return [[file.target, f"{file.mode:04o}", hashlib.sha256(file.source.read_bytes()).hexdigest()] for file in files]
