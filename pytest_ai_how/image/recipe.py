"""The recipe of an image: everything that goes into it, as canonical JSON, and the digest that names the image."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pytest_ai_how.image.definitions import Definition, LoadedRole

# Raised when the pipeline itself changes what it makes of the same definitions.
PIPELINE = 2


def recipe(definition: Definition) -> dict[str, Any]:
    """What goes into the image, as plain data. Where packages come from (the mirror) is no part of it."""
    versions = definition.versions
    return {
        "pipeline": PIPELINE,
        "name": definition.name,
        "kind": definition.spec.kind,
        "suite": versions.suite,
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
    return {
        "name": loaded.name,
        **loaded.role.model_dump(mode="json", exclude={"description", "needs"}),
        "files": [
            [file.target, f"{file.mode:04o}", hashlib.sha256(file.source.read_bytes()).hexdigest()]
            for file in loaded.files
        ],
    }
