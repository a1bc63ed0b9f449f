"""Oumi's jobs: what they are made of, what they ask for, and what is said before any of them is started."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.machines import Gpus
from pytest_ai_how.data import Cache, load_manifest
from pytest_ai_how.errors import StepBlocked, StepFailed
from pytest_ai_how.launch.direct import DirectLauncher
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.node import Node
from pytest_ai_how.transport import FakeTransport
from suites.mlops._request import Request
from suites.mlops.oumi._oumi import WATCH
from suites.mlops.oumi._work import TINY, Plan, configurations
from tests.unit.suites.oumi_fakes import FOLDER, FULL, calls, made, placed, with_jobs
from tests.unit.suites.oumi_fakes import PLAN as SMOKE
from tests.unit.suites.task042_fakes import FakeJob, nodes_json

# What is not in the cache


def test_what_the_cache_lacks_is_said_by_file_before_any_job(lease: Lease) -> None:
    oumi = made(lease, FULL, real=True)
    with pytest.raises(StepFailed) as caught:
        oumi.looked()
    said = str(caught.value)
    assert "smollm-135m/model.safetensors: is not there; smollm-135m/tokenizer.json: is not there" in said
    assert "no-robots/train.parquet: has no digest yet" in said
    assert "do: pytest-ai-how cache fill smollm-135m no-robots alpaca-cleaned gpt2 wikitext-2; or --scale=smoke" in said
    with pytest.raises(
        StepBlocked, match=r"^blocked: step 'oumi-sets' failed: .*smollm-135m/config\.json: is not there"
    ):
        oumi.trained()
    assert (calls(oumi, "sbatch"), placed(oumi)) == ([], {})


def test_a_file_that_is_another_is_named_with_the_one_set_to_fill(lease: Lease, tmp_path: Path) -> None:
    plan = Plan(FULL.sft.model_copy(update={"texts": TINY, "data": TINY}), SMOKE.two, SMOKE.lora, SMOKE.launch)
    for file in load_manifest()["smollm-135m"].downloads:
        path = Cache().path("smollm-135m", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with pytest.raises(
        StepFailed, match=r"smollm-135m/config\.json: has 1 bytes, expected 724; (.|\n)*fill smollm-135m;"
    ):
        made(lease, plan).looked()


def test_what_is_in_the_cache_is_put_where_jobs_see_it(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "faults", lambda *_: ())
    monkeypatch.setattr(Cache, "read", lambda _, name, file: f"{name}/{file.name}".encode())
    looked = made(lease, FULL, FakeJob("oumi-look", 3, workdir=FOLDER), first=[("cat", "[]")], real=True)
    looked.looked()
    files = placed(looked)
    assert files["/mnt/shared/jobs/r1/data-smollm-135m/tokenizer.json"] == "smollm-135m/tokenizer.json"
    assert (
        len([path for path in files if path.startswith("/mnt/shared/jobs/r1/data-")])
        == sum(len(load_manifest()[name].files) for name in FULL.sets)
        == 14
    )
    steps = {one["name"]: one["argv"] for one in json.loads(files[f"{FOLDER}/look.steps.json"])}
    source = "/mnt/shared/jobs/r1/data-smollm-135m"
    assert steps["model-smollm-135m"] == ["python3", "prepare.py", "model", source, "models/smollm-135m"]
    assert {"data-no-robots-1000-100", "data-no-robots-5000-100", "model-gpt2", "texts", "look", "schema"} < set(steps)


# What is made, and of what


def test_the_tiny_model_is_made_once_for_all_that_is_trained() -> None:
    assert list(SMOKE.preparations({})) == [
        ("tiny", ("tiny.py", "models/tiny", "data/tiny-640-24", "640", "24")),
    ]
    assert (SMOKE.sets, SMOKE.same, FULL.same) == ((), True, False)


def test_each_configuration_reads_what_is_prepared() -> None:
    for plan in (SMOKE, FULL):
        prepared = [word for _, argv in plan.preparations(dict.fromkeys(plan.sets, "x")) for word in argv]
        text = json.dumps(configurations(plan, "/top", real=True))
        for path in re.findall(r"/top/((?:data|models)/[^\"]+)", text):
            whole = path if path in prepared else path.rpartition("/")[0]
            assert whole in prepared, f"{path} is read, and nothing makes it"


def test_shares_of_a_step_make_it_whole() -> None:
    for plan in (SMOKE, FULL):
        for work, processes in ((plan.sft, 1), (plan.alone, 1), (plan.two, 2), (plan.lora, 2), (plan.launch, 1)):
            assert work.share(processes) * processes * work.parts == work.batch
    assert (FULL.sft.steps, FULL.two.steps, FULL.alone.steps) == (63, 314, 314)


def test_one_process_does_what_two_do_by_as_many_samples_at_once() -> None:
    made = configurations(FULL, "/top", pair=True, real=True)
    one, two = made["train-one.yaml"]["training"], made["train-two.yaml"]["training"]
    differs = {key for key in one if one[key] != two[key]}
    assert differs == {"gradient_accumulation_steps", "output_dir"}
    assert (one["gradient_accumulation_steps"], two["gradient_accumulation_steps"]) == (4, 2)
    assert one["per_device_train_batch_size"] == 8


# What jobs ask for


def test_jobs_of_gpus_ask_for_them_and_others_do_not(lease: Lease) -> None:
    real, simulated = made(lease, real=True), made(lease)
    assert real.one() == Request(1, 1024, 1, ("node01",), "gpu")
    assert simulated.one().gpus == 0
    assert real.two() == Request(1, 1024, 2, ("node01",), "gpu")
    assert simulated.two() == Request(1, 1024, 0, ("node01", "node02"))
    assert (real.pair, simulated.pair) == (True, False)
    task = real.task("two", real.two(), {})
    assert (task.nodes, task.gpus, task.cpus, task.port, task.argv[-4:-1]) == (1, 2, 2, True, ("two", "python3", "2"))
    assert "CUDA_VISIBLE_DEVICES" not in task.env, "that is Slurm's to say"
    assert simulated.task("sft", simulated.one(), {}).env["CUDA_VISIBLE_DEVICES"] == ""
    assert task.env["SKYPILOT_NODE_IPS"] == real.cluster["node01"].address
    task = simulated.task("two", simulated.two(), {})
    assert (task.nodes, task.gpus, task.argv[-2], len(task.env["SKYPILOT_NODE_IPS"].split())) == (2, 0, "1", 2)
    task = real.task("sft", real.one(), {})
    assert (task.argv[1], task.port, task.gpus, "SKYPILOT_NODE_IPS" in task.env) == ("steps.py", False, 1, False)


def test_on_a_machine_without_containers_its_own_oumi_is_the_command(lease: Lease) -> None:
    oumi = made(lease)
    own = replace(oumi, runtime=Runtime("/srv/venv/bin/python")).task("look", oumi.one(), {})
    assert (own.image, own.argv[0]) == ("", "/srv/venv/bin/python")
    assert own.env["PATH"].split(":")[0] == "/srv/venv/bin"
    assert (own.env["DO_NOT_TRACK"], own.env["HF_HUB_OFFLINE"]) == ("1", "1"), "it calls nobody, as in the image"
    image = oumi.task("look", oumi.one(), {})
    assert (image.image, image.argv[0]) == ("/oumi.sif", "python3")
    assert "PATH" not in image.env, "the image's own is what its environment sets"


def test_what_a_model_makes_of_a_gpu_is_seen_on_one_by_the_configuration_for_two(lease: Lease) -> None:
    oumi = with_jobs(lease, "look", "pace", real=True)
    oumi.paced()
    (step,) = json.loads(placed(oumi)[f"{FOLDER}/pace.steps.json"])
    assert step["argv"] == ["python3", "pace.py", "train-two.yaml"]
    assert {f"{FOLDER}/pace.py", f"{FOLDER}/train-two.yaml"} <= placed(oumi).keys()
    (argv,) = [argv for argv, _ in calls(oumi, "sbatch") if "--job-name=oumi-pace" in argv]
    assert "--gres=gpu:1" in argv


@pytest.mark.parametrize(
    ("real", "last", "told"),
    [
        (True, [f"{FOLDER}/train-two.yaml"], "export NCCL_DEBUG=INFO\n"),
        (False, ["--model.device_map", "cpu"], f"export OUMI_EXTRA_DEPS_FILE={FOLDER}/gloo.txt\n"),
    ],
)
def test_two_processes_are_started_each_in_its_way(lease: Lease, real: bool, last: list[str], told: str) -> None:
    oumi = with_jobs(lease, "look", "sft", "two", real=real)
    oumi.paired()
    (script,) = [text for argv, text in calls(oumi, "sbatch") if "--job-name=oumi-two" in argv]
    assert json.loads(placed(oumi)[f"{FOLDER}/two.steps.json"])[0]["argv"][-len(last) :] == last
    assert told in script
    assert f"{FOLDER}/{WATCH.name}" in placed(oumi)


def test_the_way_without_a_gpu_is_gone_by_the_tiny_model(lease: Lease) -> None:
    simulated = made(lease)
    assert simulated.without_gpu() is simulated
    for oumi in (made(lease, real=True), made(lease, FULL), made(lease, FULL, real=True)):
        tiny = oumi.without_gpu()
        assert (tiny.plan, tiny.real, tiny.folder) == (SMOKE, False, "/mnt/shared/jobs/r1/oumi-tiny")


def test_who_has_one_gpu_trains_on_that_and_two_processes_on_cpus(lease: Lease) -> None:
    alone = nodes_json(node01={"gres": "gpu:1"}, node02={"gres": ""})
    oumi = made(lease, first=[("scontrol show node", alone)], real=True)
    assert (oumi.pair, oumi.one().gpus, oumi.two().gpus, oumi.two().nodes) == (False, 1, 0, 2)
    two, lora = (oumi.all_configurations()[f"train-{name}.yaml"]["training"] for name in ("two", "lora"))
    assert two["trainer_kwargs"] == {"use_cpu": True, "ddp_backend": "gloo"}
    assert lora["per_device_train_batch_size"] == SMOKE.lora.batch
    with_two = oumi.all_configurations(pair=True)
    assert with_two["train-lora.yaml"]["training"]["per_device_train_batch_size"] == SMOKE.lora.batch // 2
    assert "trainer_kwargs" not in with_two["train-two.yaml"]["training"]


def test_numbers_of_few_digits_are_for_gpus_alone() -> None:
    for real, said in ((True, "BF16"), (False, "NONE")):
        config = configurations(FULL, "/top", real=real)["train.yaml"]["training"]
        assert config["mixed_precision_dtype"] == said
    assert configurations(SMOKE, "/top", real=True)["train.yaml"]["training"]["mixed_precision_dtype"] == "NONE"


@pytest.mark.parametrize(("count", "pair"), [(2, True), (1, False)])
def test_without_slurm_two_gpus_are_those_that_the_yaml_names(lease: Lease, count: int, pair: bool) -> None:
    base = made(lease, real=True)
    nodes = [node.config.model_copy(update={"gpus": Gpus(kind="nvidia", count=count)}) for node in base.cluster.nodes]
    cluster = Cluster(base.cluster.config, [Node(node, FakeTransport(node.name, {"mkdir": ""})) for node in nodes])
    first = cluster.on("compute")[0]
    oumi = replace(base, cluster=cluster, launcher=DirectLauncher(first, "/var/tmp/ai-how"))
    assert oumi.pair is pair
    if pair:
        wanted = oumi.two()
        assert (wanted.gpus, wanted.nodes, wanted.per_node, wanted.on) == (2, 1, 2, (first.name,))
        task = oumi.task("two", wanted, {})
        assert (task.nodes, task.per_node, task.gpus) == (1, 1, 2), "torchrun starts two"
