"""Every check of TASK-040 goes red on a registry that is broken in the way that the check is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.shell import Result
from suites.phase6 import test_task040_registry as task040
from tests.fakes import fake_cluster

ROOT = "/mnt/shared/containers"
GOOD = "a" * 64
CATALOG = f'images: [{{name: base, file: base-images/base.sif, digest: "sha256:{GOOD}", size: 100}}]'
TREE = "".join(
    f"{line}\n"
    for line in (
        "\td\t775\troot\tslurm\t4096",
        "ml-frameworks\td\t775\troot\tslurm\t4096",
        "custom-images\td\t775\troot\tslurm\t4096",
        "base-images\td\t775\troot\tslurm\t4096",
        ".registry\td\t775\troot\tslurm\t4096",
        ".registry/catalog.yaml\tf\t664\troot\tslurm\t200",
        "base-images/base.sif\tf\t644\troot\tslurm\t100",
    )
)
LOST = Result((), 1, "", "sha256sum: No such file or directory")


def registry(
    tree: str = TREE, catalog: str = CATALOG, config: str = "version: 1", scripts: Mapping[str, Any] | None = None
) -> Registry:
    """A registry that every node sees alike, but for what ``scripts`` puts before the usual answers of a node."""
    usual: list[Any] = [("find", tree), ("sha256sum", f"{GOOD}  file\n"), ("cp", ""), ("rm", "")]
    nodes = ("controller", "node01", "node02")
    answers = {node: [*(scripts or {}).get(node, []), *usual] for node in nodes}
    files = {f"{ROOT}/.registry/catalog.yaml": catalog.encode(), f"{ROOT}/.registry/config.yaml": config.encode()}
    return Registry(fake_cluster(answers, files=files))


@pytest.mark.seen_to_fail("STO-30")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"tree": TREE.replace("base-images\td\t775", "base-images\td\t755")}, "base-images is d 0755 root:slurm"),
        ({"tree": TREE.replace("\td\t775\troot\tslurm", "\td\t2775\troot\troot", 1)}, r"\. is d 2775 root:root"),
        ({"tree": TREE.replace("custom-images\td", "custom\td")}, "custom-images is missing"),
        ({"tree": ""}, "ml-frameworks is missing"),
        ({"config": ""}, "config.yaml is empty"),
        ({"catalog": "images: []"}, "lists no image"),
    ],
)
def test_a_broken_tree_is_red(evidence: Evidence, broken: dict[str, str], message: str) -> None:
    task040.test_tree(registry(), evidence)
    with pytest.raises(AssertionError, match=rf"^controller: .*{message}"):
        task040.test_tree(registry(**broken), evidence)


@pytest.mark.seen_to_fail("STO-30")
def test_settings_or_a_catalogue_that_do_not_parse_are_red(evidence: Evidence) -> None:
    with pytest.raises(
        AssertionError, match=r"^controller: \.registry/catalog\.yaml cannot be read: ParserError: .*line 1"
    ):
        task040.test_tree(registry(catalog="images: {"), evidence)
    with pytest.raises(AssertionError, match=r"^controller: \.registry/config\.yaml cannot be read"):
        task040.test_tree(registry(config="version: {"), evidence)
    outside = 'images: [{name: x, file: ../../etc/shadow, digest: "sha256:0", size: 1}]'
    with pytest.raises(AssertionError, match="lies outside the registry"):
        task040.test_tree(registry(catalog=outside), evidence)


@pytest.mark.seen_to_fail("STO-31")
def test_an_image_that_a_node_does_not_see_is_red(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Measurements(load_limits("local"))
    task040.test_new_image_is_visible_everywhere(registry(), evidence, measure, "r1")
    assert [item.metric for item in measure.items] == ["registry.visibility"]
    blind = registry(scripts={"node02": [("sha256sum", LOST)]})
    monkeypatch.setattr(task040, "Deadline", lambda _: SimpleNamespace(seconds=5.0, left=0.0, passed=True))
    with pytest.raises(AssertionError, match=r"^node02: .*visible-r2\.sif, written on node01, reads as nothing"):
        task040.test_new_image_is_visible_everywhere(blind, evidence, measure, "r2")
    calls = [call.argv for call in blind.cluster["node01"].transport.calls]  # type: ignore[attr-defined]  # a fake
    assert ("rm", "-f", "--", f"{ROOT}/custom-images/visible-r2.sif") in calls, "the copy was left behind"


@pytest.mark.seen_to_fail("STO-31")
def test_how_long_an_image_takes_to_be_digested_does_not_count(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look takes 20 s here, and only what passed before the one that saw the image is the file system's."""

    class Clock:
        def __init__(self, seconds: float) -> None:
            self.seconds, self.passed, self._left = seconds, False, iter((seconds, seconds - 20, seconds - 40))

        @property
        def left(self) -> float:
            return next(self._left)

    monkeypatch.setattr(task040, "Deadline", Clock)
    measure = Measurements(load_limits("local"))
    task040.test_new_image_is_visible_everywhere(registry(), evidence, measure, "r1")
    late = registry(scripts={"node02": [("sha256sum", [LOST, f"{GOOD}  file\n"])]})
    with pytest.raises(LimitExceeded, match=r"^registry\.visibility is 20 s, expected at most 5 s"):
        task040.test_new_image_is_visible_everywhere(late, evidence, measure, "r2")
    assert [item.value for item in measure.items] == [0, 20]


@pytest.mark.seen_to_fail("STO-31")
def test_an_image_that_nobody_can_read_is_red(evidence: Evidence) -> None:
    measure = Measurements(load_limits("local"))
    deaf = registry(scripts={node: [("sha256sum", Result((), 127, "", "not found"))] for node in ("node01", "node02")})
    with pytest.raises(AssertionError, match=r"^node01: .*base\.sif can't be digested: not found"):
        task040.test_new_image_is_visible_everywhere(deaf, evidence, measure, "r1")
    with pytest.raises(AssertionError, match=r"^controller: .*lists no image that could be copied"):
        task040.test_new_image_is_visible_everywhere(registry(catalog="images: []"), evidence, measure, "r1")
    assert not measure.items


@pytest.mark.seen_to_fail("STO-32")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"tree": TREE + "base-images/other.sif\tf\t644\troot\tslurm\t7\n"}, "other.sif is not in"),
        ({"tree": TREE + "custom-images/visible-r0.sif\tf\t644\troot\tslurm\t7\n"}, "visible-r0.sif is not in"),
        ({"tree": TREE.replace("base-images/base.sif", "base-images/base.txt")}, "no such file"),
        ({"tree": TREE.replace("slurm\t100", "slurm\t99")}, "has 99 bytes, .* says 100"),
        ({"scripts": {"controller": [("sha256sum", "bbbb  file\n")]}}, "has sha256 bbbb"),
        ({"catalog": "images: []"}, "lists no image"),
    ],
)
def test_a_catalogue_that_is_not_the_files_is_red(evidence: Evidence, broken: dict[str, Any], message: str) -> None:
    meanwhile = "".join(f"custom-images/visible-r1{end}.sif\tf\t644\troot\tslurm\t7\n" for end in ("", "-replaced"))
    task040.test_catalogue_is_the_files(registry(tree=TREE + meanwhile), evidence, "r1")
    with pytest.raises(AssertionError, match=rf"^controller: .*{message}"):
        task040.test_catalogue_is_the_files(registry(**broken), evidence, "r1")


FALLS_BACK = Result((), 0, "/opt/containers\n", "registry-path: /mnt/shared is not mounted, using /opt/containers")


@pytest.mark.seen_to_fail("STO-33")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            [("sh", FALLS_BACK), ("registry-path", f"{ROOT}\n"), ("test", Result((), 1))],
            "/opt/containers, the registry",
        ),
        ([("sh", f"{ROOT}\n"), ("registry-path", f"{ROOT}\n")], "without /mnt/shared registry-path says"),
        ([("sh", "/opt/containers\n"), ("registry-path", f"{ROOT}\n")], "falls back without saying"),
        (
            [("sh", FALLS_BACK), ("registry-path", FALLS_BACK)],
            "says '/opt/containers' .registry-path: /mnt/shared is not",
        ),
        ([("sh", FALLS_BACK), ("registry-path", Result((), 127, "", "not found"))], "registry-path failed with 127"),
    ],
)
def test_a_fallback_that_does_not_work_is_red(evidence: Evidence, script: list[Any], message: str) -> None:
    good = [("sh", FALLS_BACK), ("registry-path", f"{ROOT}\n"), ("test", "")]
    task040.test_fallback_without_shared_storage(registry(scripts={"node01": good, "node02": good}), evidence)
    with pytest.raises(AssertionError, match=rf"^node02: .*{message}"):
        task040.test_fallback_without_shared_storage(registry(scripts={"node01": good, "node02": script}), evidence)


@pytest.mark.seen_to_fail("CON-08")
def test_a_digest_that_changes_on_the_way_is_red(evidence: Evidence) -> None:
    built: Any = (SimpleNamespace(name="base", manifest={"content": GOOD}),)
    other: Any = (SimpleNamespace(name="base", manifest={"content": "b" * 64}),)
    unknown: Any = (SimpleNamespace(name="pytorch", manifest={"content": GOOD}),)
    task040.test_digest_from_build_to_every_node(registry(), built, evidence)
    with pytest.raises(AssertionError, match="^local: no image was built"):
        task040.test_digest_from_build_to_every_node(registry(), (), evidence)
    with pytest.raises(AssertionError, match="^registry: base was built with sha256 bbbb"):
        task040.test_digest_from_build_to_every_node(registry(), other, evidence)
    with pytest.raises(AssertionError, match="^registry: image 'pytorch' was built but is not in"):
        task040.test_digest_from_build_to_every_node(registry(), unknown, evidence)
    with pytest.raises(AssertionError, match="^node02: base-images/base.sif reads with sha256 nothing"):
        task040.test_digest_from_build_to_every_node(
            registry(scripts={"node02": [("sha256sum", LOST)]}), built, evidence
        )


@dataclass
class ScriptedSlurm:
    """Answers srun by node and status, and says of every batch job what ``states`` says."""

    cluster: Any
    hosts: dict[str, str] = field(default_factory=lambda: {"node01": "node01", "node02": "node02"})
    status: int = 7
    states: tuple[tuple[str, int], ...] = (("COMPLETED", 0), ("FAILED", 7))

    def srun(self, *argv: str, nodelist: str) -> Result:
        if "SystemExit" in argv[-1]:
            return Result(argv, self.status, node="controller")
        return Result(argv, 0, self.hosts[nodelist] + "\n", node="controller")

    def submit(self, _: Any) -> int:
        job, self.jobs = getattr(self, "jobs", 0), getattr(self, "jobs", 0) + 1
        return job

    def wait(self, job: int, within: float) -> Any:
        return SimpleNamespace(state=self.states[job][0], exit_code=self.states[job][1])

    def output(self, _: int) -> str:
        return "host node01"


@pytest.mark.seen_to_fail("CON-13")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"hosts": {"node01": "node01", "node02": ""}}, "^node02: srun apptainer exec .* ended with 0 and ''"),
        ({"status": 0}, "^node01: srun gave 0 for a container that ended with 7"),
        ({"states": (("COMPLETED", 0), ("COMPLETED", 0))}, "^job 1: a container that ended with 7 gave COMPLETED"),
        ({"states": (("FAILED", 255), ("FAILED", 7))}, "^job 0: a container that ended with 0 gave FAILED"),
    ],
)
def test_a_container_job_that_lies_about_its_status_is_red(
    evidence: Evidence, broken: dict[str, Any], message: str
) -> None:
    there = registry()
    good: Any = ScriptedSlurm(there.cluster)
    task040.test_container_under_slurm(good, there, evidence)
    bad: Any = ScriptedSlurm(there.cluster, **broken)
    with pytest.raises(AssertionError, match=message):
        task040.test_container_under_slurm(bad, there, evidence)


@pytest.mark.seen_to_fail("CON-25")
def test_a_job_that_names_an_unknown_image_is_red(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task040, "PAYLOADS", tmp_path)
    with pytest.raises(AssertionError, match="no job script names an image"):
        task040.test_images_named_in_jobs_exist(registry(), evidence)
    (tmp_path / "a.sbatch").write_text("#!/bin/sh\napptainer exec $REGISTRY/base-images/base.sif true\n")
    task040.test_images_named_in_jobs_exist(registry(), evidence)
    (tmp_path / "b.sbatch").write_text('#!/bin/sh\napptainer exec "${REGISTRY}/base-images/gone.sif" true\n')
    with pytest.raises(AssertionError, match=r"^b\.sbatch:2: names base-images/gone\.sif, which is not in"):
        task040.test_images_named_in_jobs_exist(registry(), evidence)
