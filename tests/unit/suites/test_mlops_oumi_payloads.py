"""Programs of Oumi's jobs: what can be tried without Oumi."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, call

import pytest
import yaml

from suites.mlops._gpus import Sample, by_gpu
from suites.mlops.oumi._oumi import WATCH, WATCHED
from suites.mlops.oumi._work import as_yaml, broken, configurations
from suites.mlops.oumi.payloads import measures

from .oumi_fakes import FOLDER, FULL, PLAN, WORK

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


def test_a_step_that_fails_without_a_word_on_standard_error_is_told_by_its_output(tmp_path: Path) -> None:
    ran, _ = run_steps(tmp_path, "import sys; print('master_port must be positive'); sys.exit(1)")
    assert (ran.returncode, ran.stderr) == (1, "master_port must be positive\n")


def test_a_step_that_a_signal_ends_fails_the_job(tmp_path: Path) -> None:
    ran, record = run_steps(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (ran.returncode, record[0]["status"]) == (9, -9)


def test_each_broken_configuration_is_a_sound_one_with_one_mistake() -> None:
    sound = configurations(PLAN, FOLDER)
    for name, (config, word) in broken(WORK, FOLDER).items():
        assert config not in sound.values()
        assert word in as_yaml(config) or word in ("model_name", "mandatory value: run"), name
        assert yaml.safe_load(as_yaml(config)) == config


def test_two_processes_share_the_batch() -> None:
    one, two = (configurations(PLAN, FOLDER)[name]["training"] for name in ("train.yaml", "train-two.yaml"))
    assert one["per_device_train_batch_size"] == 2 * two["per_device_train_batch_size"] == WORK.batch
    assert {key for key in one if one[key] != two[key]} == {"per_device_train_batch_size", "output_dir"}
    assert two.keys() - one.keys() == {"trainer_kwargs"}


def test_a_model_is_kept_busy_as_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / FULL.two.data_folder / "train.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text('{"messages": [{"role": "user", "content": "say a"}]}\n' * 200)
    torch, transformers = MagicMock(), MagicMock()
    torch.cuda.is_available.return_value = True
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    pace = runpy.run_path(str(PAYLOADS / "pace.py"))
    passed = iter([0.0, 1.0, pace["SECONDS"], pace["SECONDS"] + 1.0, pace["SECONDS"] + 2.0])
    monkeypatch.setitem(pace["main"].__globals__, "time", SimpleNamespace(monotonic=lambda: next(passed)))
    found = pace["main"](configurations(FULL, str(tmp_path), pair=True, real=True)["train-two.yaml"])
    assert found == {"batches": 3, "seconds": pace["SECONDS"] + 2.0}
    model = transformers.AutoModelForCausalLM.from_pretrained
    model.assert_called_once_with(f"{tmp_path}/models/smollm-135m", dtype=torch.float32, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained.return_value
    (texts,), cut = tokenizer.call_args
    assert (len(texts), tokenizer.call_count, cut["max_length"]) == (8, pace["READY"], 512)
    assert torch.autocast.call_args == call("cuda", torch.bfloat16, enabled=True)
    assert torch.optim.AdamW.return_value.step.call_count == (pace["WARM"] + 3) // FULL.two.parts


# What GPUs do meanwhile

SMI = """#!/bin/sh
printf '%s\\n' "$*" >smi.args
while :; do printf 'GPU-0, 91, 4210, 81559\\n'; sleep 0.05; done
"""


def test_gpus_are_watched_for_the_time_of_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    ran, record = run_steps(tmp_path, "import time; time.sleep(0.5)")
    assert (ran.returncode, len(record)) == (0, 1)
    assert by_gpu([(tmp_path / "s0.gpus.csv").read_text()])["GPU-0"][0] == Sample("GPU-0", 91.0, 4210, 81559)
    assert (tmp_path / "smi.args").read_text().split()[-2:] == ["--loop-ms=500", "--id=0,1"]
    assert WATCHED.format("s0") == "s0.gpus.csv"
    assert not marked(str(program)), "whatever watches ends with the step"


def marked(words: str) -> list[str]:
    """The processes of this machine that have ``words`` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


# What is made of published files


@pytest.fixture
def prepare() -> Any:
    return SimpleNamespace(**runpy.run_path(str(PAYLOADS / "prepare.py")))


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_follows_is_held_out(tmp_path: Path, prepare: Any) -> None:
    known = [
        {"instruction": f"say {n}", "input": "loudly" if n % 2 else "", "output": f"{n}" if n else " "}
        for n in range(9)
    ]
    (tmp_path / "alpaca_data_cleaned.json").write_text(json.dumps(known))
    assert prepare.data(str(tmp_path), str(tmp_path / "out"), "alpaca-cleaned", "4", "3") == {"train": 4, "held_out": 3}
    train, held, prompts = (rows(tmp_path / f"out/{name}.jsonl") for name in ("train", "held-out", "prompts"))
    assert [one["messages"][1]["content"] for one in train + held] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [one["messages"][0]["content"] for one in train[:2]] == ["say 1\n\nloudly", "say 2"]
    assert [one["messages"] for one in prompts] == [one["messages"][:1] for one in held]
    with pytest.raises(SystemExit, match=r"has 8 samples, expected 7 and 3 to be held out"):
        prepare.data(str(tmp_path), str(tmp_path / "out"), "alpaca-cleaned", "7", "3")


def test_conversations_of_more_than_two_turns_are_left_out(
    tmp_path: Path, prepare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*roles: str) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": f"{role} {len(roles)}"} for role in roles]}

    table = [told("system", "user", "assistant"), *[told("user", "assistant")] * 4, told("user", "assistant", "user")]
    parquet = SimpleNamespace(read_table=lambda path, columns: SimpleNamespace(to_pylist=lambda: table))
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(parquet=parquet))
    prepare.data("/x", str(tmp_path), "no-robots", "1", "3")
    (only,) = rows(tmp_path / "train.jsonl")
    assert [one["content"] for one in only["messages"]] == ["user 2", "assistant 2"]


def test_passages_and_lines_of_wikitext(tmp_path: Path, prepare: Any) -> None:
    passage = " " + " ".join(f"w{n}" for n in range(60)) + " \n"
    with zipfile.ZipFile(tmp_path / "wikitext-2-raw-v1.zip", "w") as archive:
        archive.writestr("wikitext-2-raw/wiki.train.raw", (" \n = A title = \n" + passage) * 5)
        archive.writestr("wikitext-2-raw/wiki.test.raw", " \n = A title = \n" + passage)
    prepare.data(str(tmp_path), str(tmp_path / "out"), "wikitext-2", "2", "3")
    first = rows(tmp_path / "out/train.jsonl")[0]["messages"]
    assert "".join(one["content"] for one in first) == passage
    assert prepare.texts(str(tmp_path), str(tmp_path / "texts.jsonl"), "2") == {"lines": 2}
    assert rows(tmp_path / "texts.jsonl") == [{"lines": [" \n", " = A title = \n"]}]


@pytest.mark.parametrize(
    ("known", "ends", "template"),
    [({"<|im_end|>": 2}, "<|im_end|>", "ChatML"), ({}, "<|endoftext|>", "message['content']")],
)
def test_a_model_gets_a_template_for_conversations(
    tmp_path: Path, prepare: Any, monkeypatch: pytest.MonkeyPatch, known: dict[str, int], ends: str, template: str
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    saved: list[Path] = []
    tokenizer = SimpleNamespace(eos_token="<|endoftext|>", get_vocab=lambda: known, save_pretrained=saved.append)
    auto = SimpleNamespace(from_pretrained=lambda source: tokenizer)
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=auto))
    monkeypatch.setitem(sys.modules, "tiny", SimpleNamespace(TEMPLATE="ChatML"))
    prepare.model(str(tmp_path), str(tmp_path / "model"))
    assert (tokenizer.padding_side, tokenizer.pad_token, tokenizer.eos_token) == ("left", "<|endoftext|>", ends)
    assert template in tokenizer.chat_template
    assert saved == [tmp_path / "model"]
    assert (tmp_path / "model/model.safetensors").read_text() == "model.safetensors"


def test_who_has_no_oumi_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    argv = [sys.executable, str(PAYLOADS / "look.py"), "oumi"]
    done = subprocess.run(argv, env={"PATH": str(tmp_path)}, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"no command 'oumi' in {tmp_path}; expected beside {sys.executable}; do: python -m pip install oumi there, "
        "or say absent: [oumi]\n"
    )
