"""Clusters of pretended machines for the unit tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.node import Node
from pytest_ai_how.transport.fake import Answers, FakeTransport, Matcher

Script = Mapping[Matcher, Answers] | Sequence[tuple[Matcher, Answers]]


def fake_cluster(
    scripts: Mapping[str, Script], *, config: ClusterConfig | None = None, files: Mapping[str, bytes] | None = None
) -> Cluster:
    """A cluster of ``configs/local.yaml`` whose machines answer from ``scripts`` (by node name; '*' for the others).

    ``files`` lie on every machine.
    """
    config = config or load_config("local")
    nodes = [
        Node(node, FakeTransport(node.name, scripts.get(node.name, scripts.get("*", ())), dict(files or {})))
        for node in config.nodes
    ]
    return Cluster(config, nodes)
