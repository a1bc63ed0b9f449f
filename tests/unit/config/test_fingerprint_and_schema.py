"""The configuration as one value, and as a schema for editors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.assets import asset
from pytest_ai_how.config.fingerprint import fingerprint
from pytest_ai_how.config.models import FORMS, ClusterConfig
from pytest_ai_how.config.schema import json_schema, schema_text
from tests.unit.config.samples import SOUND, load


def test_fingerprint_is_stable(tmp_path: Path) -> None:
    first = fingerprint(load(tmp_path))
    reordered = "# a comment\n" + SOUND.replace("version: 1\nname: t\n", "name: t\nversion: 1\nuser: hpc\n")
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    assert fingerprint(load(tmp_path, reordered)) == first


@pytest.mark.parametrize(
    ("old", "new"), [("cpus: 2", "cpus: 3"), ("count: 2", "count: 1"), ("10.79.0.11", "10.79.0.12"), ("t\n", "u\n")]
)
def test_fingerprint_tells_values_apart(tmp_path: Path, old: str, new: str) -> None:
    assert fingerprint(load(tmp_path, SOUND.replace(old, new))) != fingerprint(load(tmp_path))


def test_shipped_schema_is_the_models_own() -> None:
    shipped = asset("configs/cluster.schema.json").read_text()
    assert shipped == schema_text(), "run: python -m pytest_ai_how.config.schema > configs/cluster.schema.json"


def test_schema_refuses_unknown_keys_and_allows_variables() -> None:
    schema: dict[str, Any] = json.loads(json.dumps(json_schema()))
    cluster = schema["$defs"]["ClusterConfig"]
    assert cluster["additionalProperties"] is False
    assert cluster["required"] == ["version", "name", "nodes"]
    port = schema["$defs"]["Ssh"]["properties"]["port"]
    assert port["default"] == 22
    kinds = port["anyOf"]
    assert kinds[0] == {"maximum": 65535, "minimum": 1, "type": "integer"}
    assert re.search(kinds[1]["pattern"], "${SITE_PORT:-22}")
    assert not re.search(kinds[1]["pattern"], "22")


def test_schema_of_several_clusters_in_a_file() -> None:
    """Which of the two a file is, is told by its key ``clusters``, so an editor's messages are of the right one."""
    schema: dict[str, Any] = json.loads(json.dumps(json_schema()))
    assert (schema["if"], schema["then"]) == ({"required": ["clusters"]}, {"$ref": "#/$defs/ClustersFile"})
    several, one = schema["$defs"]["ClustersFile"], schema["$defs"]["ClusterInFile"]
    assert several["required"] == ["version", "clusters"]
    assert several["properties"]["clusters"]["additionalProperties"] == {"$ref": "#/$defs/ClusterInFile"}
    assert one["required"] == ["nodes"]
    assert "version" not in one["properties"]
    named = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert named <= set(schema["$defs"])


def test_every_pattern_has_words() -> None:
    patterns = set(re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(ClusterConfig.model_json_schema())))
    assert {json.loads(f'"{pattern}"') for pattern in patterns} == FORMS.keys()
