"""Programs of Oumi's jobs: what can be tried without Oumi."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suites.mlops.oumi._oumi import WATCH
from suites.mlops.oumi._work import as_yaml, broken, configurations
from suites.mlops.oumi.payloads import measures

from .oumi_fakes import FOLDER, PLAN, WORK

PAYLOADS = Path(measures.__file__).parent


def test_answers_are_measured_as_by_hand() -> None:
    assert measures.exact([" a b", "c"], ["a b", "d"]) == 0.5
    assert measures.common(["the", "cat", "sat", "on"], ["the", "old", "cat", "on"]) == 3
    assert measures.rouge_l("a b c d", "a c") == pytest.approx(2 / 3)
    assert measures.rouge_l("x", "a c") == 0


def test_bleu_is_that_of_papineni() -> None:
    assert measures.bleu(["here is disk"], ["here is disk"]) == 1
    assert measures.bleu(["x y"], ["a b"]) == 0
    # Three of four words and one of three pairs are right, and nothing is too short.
    assert measures.bleu(["here is a disk"], ["here is disk"]) == pytest.approx((3 / 4 * 1 / 3) ** 0.5)
    # All is right, and half of it is there: the penalty is e to the minus one.
    assert measures.bleu(["a b"], ["a b c d"]) == pytest.approx(0.36787944)


def test_signs_of_what_is_no_text() -> None:
    assert measures.signs("no no yes") == {"words": 3, "repeated": 0.5, "unprintable": 0.0}
    assert measures.signs("") == {"words": 0, "repeated": 0.0, "unprintable": 0.0}
    assert measures.signs("a\x00b\ufffd")["unprintable"] == 0.5


def run_steps(folder: Path, *scripts: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, object]]]:
    """Run Python texts as the steps of a job, and read its record."""
    steps = [
        {"name": f"s{n}", "argv": [sys.executable, "-c", script], "env": {"N": str(n)}}
        for n, script in enumerate(scripts)
    ]
    (folder / "steps.json").write_text(json.dumps(steps))
    for program in (PAYLOADS / "steps.py", WATCH):
        shutil.copy(program, folder)
    argv = [sys.executable, "steps.py", "steps.json", "record.json"]
    ran = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True)
    return ran, json.loads((folder / "record.json").read_text())


def test_steps_are_recorded_and_the_first_that_fails_ends_them(tmp_path: Path) -> None:
    talk = "import os; print('said', os.environ['N'])"
    fail = "import sys; x = bytearray(64 << 20); sys.stderr.write('why\\n'); sys.exit(3)"
    ran, record = run_steps(tmp_path, talk, fail, talk)
    assert (ran.returncode, ran.stderr) == (3, "why\n")
    assert [(one["name"], one["status"]) for one in record] == [("s0", 0), ("s1", 3)]
    assert (tmp_path / "s0.out").read_text() == "said 0\n"
    assert float(str(record[1]["peak"])) > 64
    assert float(str(record[0]["seconds"])) > 0


def test_a_step_that_a_signal_ends_fails_the_job(tmp_path: Path) -> None:
    ran, record = run_steps(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (ran.returncode, record[0]["status"]) == (9, -9)


def test_each_broken_configuration_is_a_sound_one_with_one_mistake() -> None:
    sound = configurations(PLAN, FOLDER)
    for name, (config, word) in broken(WORK, FOLDER).items():
        assert config not in sound.values()
        assert word in as_yaml(config) or word in ("model_name", "run"), name
        assert yaml.safe_load(as_yaml(config)) == config


def test_two_processes_share_the_batch() -> None:
    one, two = (configurations(PLAN, FOLDER)[name]["training"] for name in ("train.yaml", "train-two.yaml"))
    assert one["per_device_train_batch_size"] == 2 * two["per_device_train_batch_size"] == WORK.batch
    assert {key for key in one if one[key] != two[key]} == {"per_device_train_batch_size", "output_dir"}
    assert two.keys() - one.keys() == {"trainer_kwargs"}
