"""A digest of all that goes into machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pytest_ai_how import __version__
from pytest_ai_how.assets import asset
from pytest_ai_how.config.models import ClusterConfig


def fingerprint(config: ClusterConfig, images: Mapping[str, str]) -> str:
    """A digest of the configuration, the ``images`` (digests by name) and the templates."""
    digest = hashlib.sha256(__version__.encode())
    digest.update(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode())
    for name, recipe in images.items():
        digest.update(f"{name}={recipe};".encode())
    top = asset("provisioning/templates")
    for template in sorted(path for path in top.rglob("*") if path.is_file()):
        digest.update(str(template.relative_to(top)).encode() + template.read_bytes())
    return digest.hexdigest()
