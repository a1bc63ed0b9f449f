"""The JSON Schema of a cluster's YAML, for editors. ``python -m pytest_ai_how.config.schema`` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.several import ClustersFile


def json_schema() -> dict[str, object]:
    """The schema, JSON Schema draft 2020-12. It knows shapes and bounds; rules between values are the loader's.

    A file with the key ``clusters`` is judged as a file of several, any other as one cluster.
    """
    cluster = _with_expansion(ClusterConfig.model_json_schema())
    definitions = cluster.pop("$defs")
    several = ClustersFile.model_json_schema()
    several["properties"]["clusters"]["additionalProperties"] = {"$ref": "#/$defs/ClusterInFile"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "if": {"required": ["clusters"]},
        "then": {"$ref": "#/$defs/ClustersFile"},
        "else": {"$ref": "#/$defs/ClusterConfig"},
        "$defs": {
            **definitions,
            "ClusterConfig": cluster,
            "ClusterInFile": _in_file(cluster),
            "ClustersFile": several,
        },
    }


def _in_file(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """A cluster in a file of several: the version stands at the top, and the name is its key's by default."""
    properties = {name: value for name, value in cluster["properties"].items() if name != "version"}
    required = [name for name in cluster["required"] if name not in ("version", "name")]
    return {**cluster, "title": "ClusterInFile", "properties": properties, "required": required}


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
