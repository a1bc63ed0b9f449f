"""Where jobs run without Slurm."""

from __future__ import annotations

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.launch.choose import direct
from tests.fakes import fake_cluster


def test_on_a_machine_that_is_somebodys_nobody_else_is_become() -> None:
    cluster = fake_cluster({}, config=load_config("host", environ={}))  # whose machine answers nothing
    launcher = direct(cluster, "run-1")
    assert (launcher.user, launcher.node.name) == (None, "this-machine")
    assert launcher._folder == "/var/tmp/ai-how/jobs/run-1"


def test_there_work_without_a_folder_of_ours_is_refused() -> None:
    config = load_config("host", environ={})
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"kind": "none"})})
    with pytest.raises(AiHowError, match="host: has no folder for jobs") as caught:
        direct(fake_cluster({}, config=config), "run-1")
    assert "kind: scratch" in caught.value.cure
