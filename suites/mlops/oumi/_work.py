"""What Oumi is to do, at a scale, and the configurations of Oumi that say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from pytest_ai_how.scales import Section

#: The section of configs/scales.
WORKLOAD = "sft"
#: The most that is generated as an answer, in tokens.
ANSWER = 12

Count = Annotated[int, Field(ge=1)]


class Work(Section):
    """A supervised fine-tuning in ``configs/scales``, and what its jobs may ask for (``memory`` in MiB).

    ``tiny`` is made on the spot, with ``samples`` to train on and ``held_out`` others, and the only one that there is
    yet; ``tokens`` is the longest text that it is trained on. ``checkpoint`` and ``log`` say after how many steps each
    is written.
    """

    model: Literal["tiny", "smollm-135m"]
    samples: Count
    held_out: Annotated[int, Field(ge=3)]
    epochs: Count
    batch: Count
    rate: Annotated[float, Field(gt=0)]
    tokens: Count
    checkpoint: Count
    log: Count
    cpus: Count
    memory: Count
    minutes: Count

    @property
    def steps(self) -> int:
        """How many steps the training of one process takes; the last batch of an epoch may be smaller."""
        return self.epochs * -(-self.samples // self.batch)


def _model(name: str, work: Work) -> dict[str, Any]:
    return {
        "model_name": name,
        "tokenizer_name": name,
        "torch_dtype_str": "float32",
        "attn_implementation": "eager",
        "model_max_length": work.tokens,
        "trust_remote_code": False,
    }


def train(work: Work, folder: str, out: str, processes: int = 1) -> dict[str, Any]:
    """A supervised fine-tuning of the model in ``folder`` into ``out``: each of ``processes`` takes its share.

    Where no GPU computes, several have to be told that they are on CPUs: else each would train alone.
    """
    several = {"trainer_kwargs": {"use_cpu": True, "ddp_backend": "gloo"}} if processes > 1 else {}
    return {
        "model": _model(f"{folder}/data/model", work),
        "data": {
            "train": {
                "datasets": [{"dataset_name": "text_sft_jsonl", "dataset_path": f"{folder}/data/train.jsonl"}],
                "seed": 7,
            }
        },
        "training": {
            "trainer_type": "TRL_SFT",
            "output_dir": out,
            "num_train_epochs": work.epochs,
            "per_device_train_batch_size": work.batch // processes,
            "learning_rate": work.rate,
            "optimizer": "adamw_torch",
            "seed": 7,
            "logging_steps": work.log,
            "save_steps": work.checkpoint,
            "save_final_model": True,
            "enable_wandb": False,
            "enable_mlflow": False,
            "enable_tensorboard": False,
            "dataloader_num_workers": 0,
            "include_performance_metrics": False,
            "log_model_summary": False,
            **several,
        },
    }


def evaluate(work: Work, folder: str, model: str, out: str) -> dict[str, Any]:
    """An evaluation of ``model`` by both functions of ours."""
    held_out = f"{folder}/data/held-out.jsonl"
    return {
        "model": _model(model, work),
        "generation": {"max_new_tokens": ANSWER, "batch_size": 16, "use_sampling": False},
        "inference_engine": "NATIVE",
        "tasks": [
            {
                "evaluation_backend": "custom",
                "task_name": "ai_how_answers",
                "eval_kwargs": {"held_out": held_out, "folder": out},
            },
            {
                "evaluation_backend": "custom",
                "task_name": "ai_how_perplexity",
                "eval_kwargs": {"held_out": held_out, "folder": out},
            },
        ],
        "output_dir": out,
    }


def infer(work: Work, folder: str, model: str, out: str) -> dict[str, Any]:
    """Answers of ``model`` to the prompts."""
    return {
        "model": _model(model, work),
        "generation": {"max_new_tokens": ANSWER, "batch_size": 4, "use_sampling": False},
        "engine": "NATIVE",
        "input_path": f"{folder}/data/prompts.jsonl",
        "output_path": out,
    }


def configurations(work: Work, folder: str) -> Mapping[str, dict[str, Any]]:
    """All configurations of the jobs in ``folder``, by file name; the first word of a name says what it is for."""
    tuned = f"{folder}/sft"
    return {
        "train.yaml": train(work, folder, tuned),
        "train-two.yaml": train(work, folder, f"{folder}/two", 2),
        "evaluate-base.yaml": evaluate(work, folder, f"{folder}/data/model", f"{folder}/base"),
        "evaluate-tuned.yaml": evaluate(work, folder, tuned, f"{folder}/tuned"),
        "infer.yaml": infer(work, folder, tuned, f"{folder}/answers.jsonl"),
    }


def broken(work: Work, folder: str) -> Mapping[str, tuple[dict[str, Any], str]]:
    """Configurations with one mistake each, by file name, and the word that an answer to it must have."""
    sound = train(work, folder, f"{folder}/none")
    judged = evaluate(work, folder, f"{folder}/none", f"{folder}/none")
    return {
        "train-unknown-key.yaml": (_with(sound, "training", learnig_rate=1.0), "learnig_rate"),
        "train-wrong-type.yaml": (_with(sound, "training", num_train_epochs="many"), "num_train_epochs"),
        "train-unknown-trainer.yaml": (_with(sound, "training", trainer_type="TRL_SFTT"), "trainer_type"),
        "train-no-model.yaml": ({**sound, "model": {}}, "model_name"),
        "evaluate-negative.yaml": ({**judged, "tasks": [{**judged["tasks"][0], "num_samples": -1}]}, "num_samples"),
        "infer-unknown-engine.yaml": (_with(infer(work, folder, "x", "y"), None, engine="NATIV"), "engine"),
        "job-no-script.yaml": ({"name": "x", "resources": {"cloud": "slurm"}}, "run"),
    }


def _with(config: dict[str, Any], section: str | None, **changes: Any) -> dict[str, Any]:
    return {**config, section: {**config[section], **changes}} if section else {**config, **changes}


def as_yaml(config: Mapping[str, Any]) -> str:
    """The text of a configuration."""
    return yaml.safe_dump(dict(config), sort_keys=False)
