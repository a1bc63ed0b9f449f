"""Training jobs on a cluster where something is wrong: each fault is named, and nothing goes on in silence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.assets import asset
from pytest_ai_how.cli.life import bring_up
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.launch import Task
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.lease import reap
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Silent
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import load_scale
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm
from suites.mlops._request import Request, for_one
from suites.mlops._trained import Work
from suites.mlops._trainer import Trainer
from suites.mlops.training import test_training as checks
from suites.phase6._inventory import difference, inventory

NAME, NUMBER = "aihowtrn", 94
SCALE = load_scale("smoke")
WORK = SCALE.section("mnist", Work)

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A trainer on a cluster like ``configs/local.yaml``; nothing of it is left afterwards."""
    text = asset("configs/local.yaml").read_text().replace("10.78.0.", f"10.{NUMBER}.0.")
    text = text.replace("aihow-local", "aihow-trn").replace("driver: auto", "driver: nspawn")
    file = tmp_path_factory.mktemp("training") / "training.yaml"
    file.write_text(text.replace("name: local", f"name: {NAME}", 1))
    before = inventory(NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        config = load_config(str(file))
        driver = choose_driver(config, Silent())
        lease = Lease.acquire("aihowtrn-jobs", "r1")
        try:
            bring_up(config, driver, Silent())
            cluster = Cluster(config, [Node(node, driver.transport(config, node.name)) for node in config.nodes])
            launcher = SlurmLauncher(Slurm(cluster, "faults"))
            yield Trainer(launcher, Once(lease), cluster, Registry(cluster).path("pytorch"), "r1")
            cluster.close()
        finally:
            reap.take_down(NAME, "training-end")
            lease.release()
    assert not difference(before, inventory(NAME))


@pytest.fixture(scope="module")
def request_(trainer: Trainer) -> Request:
    assert isinstance(trainer.launcher, SlurmLauncher)
    return for_one(tuple(trainer.launcher.slurm.nodes().values()), WORK.cpus, WORK.memory)


@pytest.mark.seen_to_fail("TR1-01")
def test_data_that_was_altered_on_the_storage(trainer: Trainer) -> None:
    folder, _ = trainer.data("digits")
    checks.test_data(trainer, SCALE, Evidence())
    file, head = f"{folder}/digits.csv.gz", trainer.cluster.controller
    head.run("cp", "-p", file, f"{file}.right")
    try:
        head.sh(f"printf x | dd of={file} bs=1 seek=1000 conv=notrunc status=none")
        with pytest.raises(AssertionError, match=rf"^node01: {file} has the SHA-256 \w+, expected 09f66e6debde"):
            checks.test_data(trainer, SCALE, Evidence())
    finally:
        head.run("mv", f"{file}.right", file)
    checks.test_data(trainer, SCALE, Evidence())


@pytest.mark.seen_to_fail("TR1-11")
def test_a_checkpoint_that_was_altered_is_not_gone_on_from(trainer: Trainer, request_: Request) -> None:
    killed = trainer.killed(trainer.task("spoilt", WORK, request_, f"--hold={WORK.middle}"), 0, 300.0)
    assert (killed.ended.state, killed.ended.ok) == ("FAILED", False)
    out = f"{trainer.folder}/spoilt"
    trainer.cluster.controller.sh(
        f"printf x | dd of={out}/checkpoint-{WORK.middle - 1}.pt bs=1 seek=5000 conv=notrunc status=none"
    )
    with pytest.raises(
        AssertionError,
        match=rf"^node01: job \d+ \(spoilt-on\) ended as FAILED with status 1: .*BadCheckpoint: {out}/che",
    ):
        trainer.trained("spoilt-on", WORK, request_, "--resume", f"--out={out}")


def test_a_job_that_has_too_little_memory(trainer: Trainer, request_: Request) -> None:
    with pytest.raises(AssertionError, match=r"^node01: job \d+ \(starved\) ended as OUT_OF_MEMORY"):
        trainer.trained("starved", WORK, replace(request_, memory=100))


def test_an_image_that_is_not_there(trainer: Trainer, request_: Request) -> None:
    other = replace(trainer, image="/mnt/shared/containers/ml-frameworks/none.sif")
    with pytest.raises(AssertionError, match=r"^node01: job \d+ \(imageless\) ended as FAILED .*: FATAL: .*none\.sif"):
        other.trained("imageless", WORK, request_)


def test_more_than_there_is(trainer: Trainer, request_: Request) -> None:
    with pytest.raises(
        AssertionError, match=r"(?s)^controller: sbatch refused job greedy: sbatch: error: .*not available"
    ):
        trainer.trained("greedy", WORK, replace(request_, gpus=9))


@pytest.mark.seen_to_fail("TR1-12")
def test_what_was_recorded_is_read_by_tensorboard(trainer: Trainer, request_: Request) -> None:
    """And a record of another training is not taken for it."""
    found = trainer.trained("train", WORK, request_, "--tensorboard")
    checks.test_record(trainer, SCALE, Evidence())
    again = trainer.trained("other", WORK, request_, "--tensorboard", "--seed=7")
    seen = trainer.look("other", WORK, request_, again.out)
    with pytest.raises(AssertionError, match="loss was recorded as"):
        checks.test_record(_With(trainer, seen), SCALE, Evidence())  # type: ignore[arg-type]
    assert again.metrics().parameters != found.metrics().parameters


def test_the_data_sets_of_full_scale_are_read(trainer: Trainer, request_: Request) -> None:
    program = Path(__file__).with_name("readers.py").read_bytes()
    trainer.launcher.write(f"{trainer.payloads()}/readers.py", program)
    task = Task("readers", ("python3", "readers.py"), trainer.folder, memory=request_.memory)
    _, said = trainer.plain(task, 120.0)
    assert said == "all is well\n"


class _With:
    """A trainer that takes what is seen of one training for that of all."""

    def __init__(self, trainer: Trainer, seen: object) -> None:
        self._trainer, self._seen = trainer, seen

    def __getattr__(self, name: str) -> object:
        return getattr(self._trainer, name)

    def look(self, *args: object) -> object:
        return self._seen
