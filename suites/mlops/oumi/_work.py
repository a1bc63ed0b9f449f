"""What Oumi is to do, at a scale, and the configurations of Oumi that say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from pytest_ai_how.scales import Scale, Section

Count = Annotated[int, Field(ge=1)]
#: What is made on the spot, as a model and as data.
TINY = "tiny"
#: How many processes train together.
PROCESSES = 2
#: The layers of a Llama that an adapter is put beside: all that multiply by a matrix.
_ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Training(Section):
    """A supervised fine-tuning in ``configs/scales``, and what its jobs may ask for (``memory`` in MiB).

    ``model`` and ``data`` are ``tiny``, which is made on the spot, or sets of ``configs/data/sets.yaml``: their first
    ``samples`` are trained on, and the ``held_out`` that follow are not. ``batch`` are the samples of a step, which
    each process does in ``parts``, one after the other; ``tokens`` is the longest text. ``checkpoint`` and ``log`` say
    after how many steps each is written.
    """

    model: Literal["tiny", "smollm-135m", "gpt2"]
    data: Literal["tiny", "no-robots", "wikitext-2", "alpaca-cleaned"]
    samples: Count
    held_out: Annotated[int, Field(ge=3)]
    epochs: Count
    batch: Count
    parts: Count
    rate: Annotated[float, Field(gt=0)]
    warm_up: Annotated[int, Field(ge=0)]
    tokens: Count
    precision: Literal["float32", "bfloat16"]
    checkpoint: Count
    log: Count
    cpus: Count
    memory: Count
    minutes: Count

    @property
    def steps(self) -> int:
        """How many steps the training takes; the last batch of an epoch may be smaller."""
        return self.epochs * -(-self.samples // self.batch)

    @property
    def model_folder(self) -> str:
        """Where the model lies before it is trained."""
        return f"models/{self.model}"

    @property
    def data_folder(self) -> str:
        """Where what is trained on lies, and what is held out."""
        return f"data/{self.data}-{self.samples}-{self.held_out}"

    def share(self, processes: int) -> int:
        """How many samples a process takes at once."""
        return self.batch // processes // self.parts


class Work(Training):
    """The training whose model is evaluated: by answers of at most ``answer`` tokens, and by its perplexity.

    That is told of the first ``lines`` of ``texts``, or, where those are ``tiny``, of what was held out.
    """

    answer: Count
    texts: Literal["tiny", "wikitext-2"]
    lines: Count

    @property
    def texts_file(self) -> str:
        """Where the texts lie."""
        return f"{self.data_folder}/held-out.jsonl" if self.texts == TINY else f"data/{self.texts}-{self.lines}.jsonl"

    @property
    def judged(self) -> int:
        """Of how many texts the perplexity is told."""
        return self.held_out if self.texts == TINY else self.lines


class Adapted(Training):
    """A training of an adapter (LoRA) of ``rank``, scaled by ``alpha``."""

    rank: Count
    alpha: Count


@dataclass(frozen=True, slots=True)
class Plan:
    """All that Oumi's jobs do at a scale: on one process, on two, by LoRA, and through Oumi's launcher."""

    sft: Work
    two: Training
    lora: Adapted
    launch: Training

    @classmethod
    def of(cls, scale: Scale) -> Plan:
        """Read the sections of a scale. Raises :class:`~pytest_ai_how.errors.ConfigError`."""
        return cls(
            scale.section("sft", Work),
            scale.section("sft-two", Training),
            scale.section("sft-lora", Adapted),
            scale.section("sft-launch", Training),
        )

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Each of them."""
        return (self.sft, self.two, self.lora, self.launch)

    @property
    def sets(self) -> tuple[str, ...]:
        """The data sets that the cache must have."""
        named = [name for one in self.trainings for name in (one.model, one.data)] + [self.sft.texts]
        return tuple(dict.fromkeys(name for name in named if name != TINY))

    @property
    def same(self) -> bool:
        """Whether two processes do the same work as one does anyhow."""
        return self.two == Training(**{name: getattr(self.sft, name) for name in Training.model_fields})

    @property
    def alone(self) -> Training:
        """The work of two processes as one does it: of as many samples at once, and so in twice as many parts.

        Else a fast GPU, which waits for the interpreter to start its kernels, would do twice the samples in the same
        time, and a second one would seem to gain nothing.
        """
        return self.sft if self.same else self.two.model_copy(update={"parts": PROCESSES * self.two.parts})

    def minutes(self, job: str) -> int:
        """How long a job may take."""
        return {"two": self.two, "one": self.two, "lora": self.lora}.get(job, self.sft).minutes

    def preparations(self, sets: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What makes models and data, by name; ``sets`` are the folders of what the cache had."""
        for work in {one.model: one for one in self.trainings if one.model != TINY}.values():
            yield f"model-{work.model}", ("prepare.py", "model", sets[work.model], work.model_folder)
        for work in {one.data_folder: one for one in self.trainings}.values():
            sizes = (str(work.samples), str(work.held_out))
            if work.data == TINY:
                yield TINY, ("tiny.py", work.model_folder, work.data_folder, *sizes)
            else:
                argv = ("prepare.py", "data", sets[work.data], work.data_folder, work.data, *sizes)
                yield work.data_folder.replace("/", "-"), argv
        if self.sft.texts != TINY:
            yield "texts", ("prepare.py", "texts", sets[self.sft.texts], self.sft.texts_file, str(self.sft.lines))


def _model(name: str, work: Training) -> dict[str, Any]:
    return {
        "model_name": name,
        "tokenizer_name": name,
        "torch_dtype_str": "float32",
        "attn_implementation": "eager",
        "model_max_length": work.tokens,
        "trust_remote_code": False,
    }


def _dataset(path: str) -> dict[str, Any]:
    return {"datasets": [{"dataset_name": "text_sft_jsonl", "dataset_path": path}], "seed": 7}


def train(work: Training, folder: str, out: str, processes: int = 1, *, real: bool = False) -> dict[str, Any]:
    """A supervised fine-tuning below ``folder`` into ``out``: each of ``processes`` takes its share.

    Where no GPU computes (not ``real``), several have to be told that they are on CPUs: else each would train alone.
    """
    on_cpus = {"trainer_kwargs": {"use_cpu": True, "ddp_backend": "gloo"}} if processes > 1 and not real else {}
    return {
        "model": _model(f"{folder}/{work.model_folder}", work),
        "data": {"train": _dataset(f"{folder}/{work.data_folder}/train.jsonl")},
        "training": {
            "trainer_type": "TRL_SFT",
            "output_dir": out,
            "num_train_epochs": work.epochs,
            "per_device_train_batch_size": work.share(processes),
            "gradient_accumulation_steps": work.parts,
            "learning_rate": work.rate,
            "warmup_steps": work.warm_up,
            # The weights stay as they are: a rate so low would be lost in the digits of bfloat16.
            "mixed_precision_dtype": "BF16" if work.precision == "bfloat16" and real else "NONE",
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
            **on_cpus,
        },
    }


def adapt(work: Adapted, folder: str, out: str, processes: int = 1, *, real: bool = False) -> dict[str, Any]:
    """A training of an adapter, judged after each epoch by the loss of what was held out."""
    config = train(work, folder, out, processes, real=real)
    held_out = _dataset(f"{folder}/{work.data_folder}/held-out.jsonl")
    return {
        **config,
        "data": {**config["data"], "validation": held_out},
        "training": {
            **config["training"],
            "use_peft": True,
            "eval_strategy": "epoch",
            "per_device_eval_batch_size": work.share(processes),
        },
        "peft": {"lora_r": work.rank, "lora_alpha": work.alpha, "lora_target_modules": list(_ADAPTED)},
    }


def evaluate(work: Work, folder: str, model: str, out: str) -> dict[str, Any]:
    """An evaluation of ``model`` by both functions of ours."""
    held_out = {"ai_how_answers": f"{work.data_folder}/held-out.jsonl", "ai_how_perplexity": work.texts_file}
    return {
        "model": _model(model, work),
        "generation": {"max_new_tokens": work.answer, "batch_size": 16, "use_sampling": False},
        "inference_engine": "NATIVE",
        "tasks": [
            {
                "evaluation_backend": "custom",
                "task_name": task,
                "eval_kwargs": {"held_out": f"{folder}/{path}", "folder": out},
            }
            for task, path in held_out.items()
        ],
        "output_dir": out,
    }


def infer(work: Work, folder: str, model: str, out: str) -> dict[str, Any]:
    """Answers of ``model`` to the prompts."""
    return {
        "model": _model(model, work),
        "generation": {"max_new_tokens": work.answer, "batch_size": 4, "use_sampling": False},
        "engine": "NATIVE",
        "input_path": f"{folder}/{work.data_folder}/prompts.jsonl",
        "output_path": out,
    }


def configurations(plan: Plan, folder: str, *, pair: bool = False, real: bool = False) -> Mapping[str, dict[str, Any]]:
    """All configurations of the jobs in ``folder``, by file name; the first word of a name says what it is for.

    Of two processes each has a GPU where there is a ``pair``; an adapter is trained by one where there is none.
    """
    tuned, base = f"{folder}/sft", f"{folder}/{plan.sft.model_folder}"
    return {
        "train.yaml": train(plan.sft, folder, tuned, real=real),
        "train-two.yaml": train(plan.two, folder, f"{folder}/two", PROCESSES, real=pair),
        "train-one.yaml": train(plan.alone, folder, f"{folder}/one", real=real),
        "train-lora.yaml": adapt(plan.lora, folder, f"{folder}/lora", 1 + pair, real=real),
        "evaluate-base.yaml": evaluate(plan.sft, folder, base, f"{folder}/base"),
        "evaluate-tuned.yaml": evaluate(plan.sft, folder, tuned, f"{folder}/tuned"),
        "infer.yaml": infer(plan.sft, folder, tuned, f"{folder}/answers.jsonl"),
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
        "job-no-script.yaml": ({"name": "x", "resources": {"cloud": "slurm"}}, "mandatory value: run"),
    }


def _with(config: dict[str, Any], section: str | None, **changes: Any) -> dict[str, Any]:
    return {**config, section: {**config[section], **changes}} if section else {**config, **changes}


def as_yaml(config: Mapping[str, Any]) -> str:
    """The text of a configuration."""
    return yaml.safe_dump(dict(config), sort_keys=False)
