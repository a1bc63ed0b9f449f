"""The JSON Schema of a cluster's YAML, for editors. ``python -m pytest_ai_how.config.schema`` prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

from pytest_ai_how.config.models import ClusterConfig


def json_schema() -> dict[str, object]:
    """The schema, JSON Schema draft 2020-12. It knows shapes and bounds; rules between values are the loader's."""
    schema = ClusterConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_with_expansion(schema)}


def _with_expansion(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with every single value also allowed to be a text that expands to it: ``${PORT:-22}``."""
    if schema.get("type") in ("string", "integer", "number", "boolean") or "const" in schema:
        outside = {key: value for key, value in schema.items() if key in ("title", "description", "default")}
        inside = {key: value for key, value in schema.items() if key not in outside}
        return {**outside, "anyOf": [inside, {"type": "string", "pattern": r"\$\{[A-Za-z_]"}]}
    result = dict(schema)
    for key in ("properties", "$defs"):
        if key in result:
            result[key] = {name: _with_expansion(part) for name, part in result[key].items()}
    if "items" in result:
        result["items"] = _with_expansion(result["items"])
    if "anyOf" in result:
        result["anyOf"] = [_with_expansion(part) for part in result["anyOf"]]
    return result


def schema_text() -> str:
    """What ``configs/cluster.schema.json`` holds."""
    return json.dumps(json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
