"""The JSON Schema of a cluster's YAML, for editors. ``python -m pytest_ai_how.config.schema`` prints it."""

from __future__ import annotations

import json
import sys

from pytest_ai_how.config.models import ClusterConfig


def json_schema() -> dict[str, object]:
    """The schema, JSON Schema draft 2020-12. It knows shapes and bounds; rules between values are the loader's."""
    schema = ClusterConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """What ``configs/cluster.schema.json`` holds."""
    return json.dumps(json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
