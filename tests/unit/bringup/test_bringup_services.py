"""Which services a configuration has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_ai_how.bringup import services_of
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, set()),
        ({"slurm": None}, {"munge", "slurm", "accounting"}),
        ({"storage": {"kind": "none"}}, {"storage", "registry"}),
        ({"containers": {"runtime": "none"}}, {"apptainer", "registry"}),
        ({"driver": "ssh", "storage": {"kind": "beegfs"}}, set()),
    ],
)
def test_a_cluster_has_the_services_that_its_configuration_names(
    change: Mapping[str, object], missing: set[str]
) -> None:
    changed = ClusterConfig.model_validate({**load_config("local").model_dump(mode="json"), **change})
    every = {"munge", "slurm", "accounting", "storage", "apptainer", "registry"}
    every |= {"beegfs"} if changed.storage.kind == "beegfs" else set()
    assert set(services_of(changed)) == every - missing
