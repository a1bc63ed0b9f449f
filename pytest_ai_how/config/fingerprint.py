"""One value that tells two configurations apart."""

from __future__ import annotations

import hashlib
import json

from pytest_ai_how.config.models import ClusterConfig


def fingerprint(config: ClusterConfig) -> str:
    """SHA-256, in hex, over the configuration as canonical JSON.

    Comments, order of keys and defaults written out do not change it; every value that the cluster is made from does.
    """
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
