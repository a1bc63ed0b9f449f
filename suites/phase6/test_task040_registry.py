"""TASK-040: the container registry on the shared file system.

A directory registry has no daemon that could keep it right, so each claim is read off the files themselves, on every
node: the tree and its permissions, the catalogue against the files, one image's digest hop by hop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_ai_how.config.models import served
from pytest_ai_how.deadline import Deadline, pause
from pytest_ai_how.image.store import Image
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.registry import CATALOG, CONFIG, FOLDERS, CatalogEntry, Registry
from pytest_ai_how.services.slurm import JobSpec, Slurm

from ._containers import judged

pytestmark = pytest.mark.requires("shared-storage", "apptainer")

PAYLOADS = Path(__file__).parent / "payloads"


@pytest.mark.check("STO-30")
def test_tree(registry: Registry, evidence: Evidence) -> None:
    """The registry's folders are 0775 root:slurm; its settings and its catalogue parse and are not empty."""
    tree, listed = registry.tree()
    evidence.result(listed)
    entries = {entry.path: entry for entry in tree}
    wrong = []
    for folder in (".", *FOLDERS):
        if (found := entries.get(folder)) is None:
            wrong.append(f"{folder} is missing")
        elif (found.kind, found.mode, found.owner, found.group) != ("d", "0775", "root", "slurm"):
            wrong.append(f"{folder} is {found.kind} {found.mode} {found.owner}:{found.group}")
    assert not wrong, f"{listed.node}: {registry.root}: {'; '.join(wrong)}; expected folders, 0775 root:slurm"
    with judged():
        config = registry.config()
    evidence.attach(CONFIG, str(config))
    assert config, f"{listed.node}: {registry.root}/{CONFIG} is empty; expected the registry's settings"
    catalog = catalogued(registry)
    evidence.attach(CATALOG, "\n".join(map(str, catalog)))
    assert catalog, f"{listed.node}: {registry.root}/{CATALOG} lists no image; expected those of containers.images"


@pytest.mark.check("STO-31")
def test_new_image_is_visible_everywhere(
    registry: Registry, evidence: Evidence, measure: Measurements, run_id: str
) -> None:
    """An image written on one compute node is read by all nodes, with the same digest, with no step in between."""
    catalog = catalogued(registry)
    assert catalog, f"{registry.cluster.controller.name}: {registry.root}/{CATALOG} lists no image that could be copied"
    source = f"{registry.root}/{catalog[0].path}"
    writer = registry.cluster.on("compute")[0]
    path = f"{registry.root}/custom-images/visible-{run_id}.sif"
    [(expected, original)] = registry.digests(source, registry.cluster.on("compute")[:1]).values()
    evidence.result(original)
    # Unread everywhere would be the same everywhere.
    assert expected, f"{writer.name}: {source} can't be digested: {original.stderr.strip() or 'no word why'}"
    try:
        wrote = writer.run("cp", "--", source, path, check=False, timeout=60)
        evidence.result(wrote)
        assert wrote.ok, f"{writer.name}: {path} can't be written: {wrote.stderr.strip()}"
        since = Deadline(30)
        while True:
            # When the look began that saw it: to digest an image takes an emulated machine 20 s, which is not the file
            # system's.
            took = since.seconds - since.left
            seen = registry.digests(path)
            behind = {node: digest or "nothing" for node, (digest, _) in seen.items() if digest != expected}
            if not behind or since.passed:
                break
            pause(0.1)
    finally:
        writer.run("rm", "-f", "--", path)
    for _, result in seen.values():
        evidence.result(result)
    assert not behind, (
        f"{next(iter(behind))}: {path}, written on {writer.name}, reads as {next(iter(behind.values()))[:16]} after "
        f"{took:.1f} s; expected {expected[:16]} on all nodes: is the same file system mounted there?"
    )
    measure("registry.visibility", took, "s")


@pytest.mark.check("STO-32")
def test_catalogue_is_the_files(registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Every image file is in the catalogue, every catalogue entry is a file, with the size and digest it claims."""
    tree, listed = registry.tree()
    evidence.result(listed)
    # What STO-31 and CON-22 of this run put there for a moment is theirs to remove; a dead run's is an orphan.
    files = {entry.path: entry.size for entry in tree if entry.kind == "f" and entry.path.endswith(".sif")}
    catalog = {entry.path: entry for entry in catalogued(registry)}
    assert catalog, f"{listed.node}: {registry.root}/{CATALOG} lists no image"
    orphans = sorted(
        path for path in set(files) - set(catalog) if not path.startswith(f"custom-images/visible-{run_id}")
    )
    missing = sorted(set(catalog) - set(files))
    assert not missing, f"{listed.node}: {registry.root}/{CATALOG} lists {missing[0]}, but there is no such file"
    assert not orphans, f"{listed.node}: {registry.root}/{orphans[0]} is not in {CATALOG}; add it or remove the file"
    for path, entry in catalog.items():
        assert files[path] == entry.size, (
            f"{listed.node}: {registry.root}/{path} has {files[path]} bytes, {CATALOG} says {entry.size}"
        )
        [(digest, result)] = registry.digests(f"{registry.root}/{path}", registry.cluster.on("controller")).values()
        evidence.result(result)
        assert digest == entry.sha256, (
            f"{listed.node}: {registry.root}/{path} has sha256 {digest[:16] or 'nothing'}, {CATALOG} says "
            f"{entry.sha256[:16]}; the file was changed or damaged after it was registered"
        )


@pytest.mark.check("STO-33")
@pytest.mark.requires("owned")
def test_fallback_without_shared_storage(registry: Registry, evidence: Evidence) -> None:
    """On a node that lost the shared file system, `registry-path` names the local folder and says why.

    The mount is taken away in a private mount namespace, so that nobody else on the node loses it.
    """
    mount, fallback = registry.cluster.config.storage.mount, registry.cluster.config.containers.fallback
    for node in registry.cluster.on("compute"):
        usual = node.run("registry-path", check=False)
        lost = node.sh(f"exec unshare --mount sh -c 'umount --lazy {mount} && exec registry-path'", check=False)
        evidence.result(usual)
        evidence.result(lost)
        assert usual.ok, f"{node.name}: registry-path failed with {usual.returncode}: {usual.stderr.strip()}"
        assert usual.stdout.strip() == registry.root, (
            f"{node.name}: registry-path says {usual.stdout.strip()!r} ({usual.stderr.strip() or 'no reason given'}), "
            f"expected {registry.root}"
        )
        assert (lost.ok, lost.stdout.strip()) == (True, fallback), (
            f"{node.name}: without {mount} registry-path says {lost.stdout.strip()!r} (status {lost.returncode}), "
            f"expected {fallback}"
        )
        assert mount in lost.stderr, f"{node.name}: registry-path falls back without saying that {mount} is missing"
        there = node.run("test", "-d", fallback, check=False)
        assert there.ok, f"{node.name}: {fallback}, the registry to fall back on, does not exist"


@pytest.mark.check("CON-08")
@pytest.mark.requires("owned")
def test_digest_from_build_to_every_node(
    registry: Registry, built_images: tuple[Image, ...], evidence: Evidence
) -> None:
    """The digest of the built image, of its catalogue entry and of the file that each node reads are one."""
    assert built_images, f"{registry.cluster.name}: no image was built for this cluster"
    catalog = {entry.name: entry for entry in catalogued(registry)}
    for image in built_images:
        built = str(image.manifest["content"])
        evidence.attach(f"{image.name}: built", built)
        name = served(image.name)
        assert name in catalog, f"registry: image {name!r} was built but is not in {CATALOG}"
        entry = catalog[name]
        assert entry.sha256 == built, (
            f"registry: {image.name} was built with sha256 {built[:16]}, {CATALOG} says {entry.sha256[:16]}"
        )
        for node, (digest, result) in registry.digests(f"{registry.root}/{entry.path}").items():
            evidence.result(result)
            assert digest == built, (
                f"{node}: {entry.path} reads with sha256 {digest[:16] or 'nothing'}, it was built with {built[:16]}"
            )


@pytest.mark.check("CON-13")
@pytest.mark.requires("apptainer", "slurm")
def test_container_under_slurm(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """Srun and sbatch run the registry's image on compute nodes, and the container's exit status is the job's."""
    image = registry.path("base")
    nodes = slurm.cluster.on("compute").names
    for node in nodes:
        result = slurm.srun(
            "apptainer", "exec", image, "python3", "-c", "import os; print(os.uname().nodename)", nodelist=node
        )
        evidence.result(result)
        assert (result.returncode, result.stdout.strip()) == (0, node), (
            f"{node}: srun apptainer exec {image} ended with {result.returncode} and {result.stdout.strip()!r}: "
            f"{result.stderr.strip()[-200:]}"
        )
    result = slurm.srun("apptainer", "exec", image, "python3", "-c", "raise SystemExit(7)", nodelist=nodes[0])
    evidence.result(result)
    assert result.returncode == 7, f"{nodes[0]}: srun gave {result.returncode} for a container that ended with 7"
    for status, state in ((0, "COMPLETED"), (7, "FAILED")):
        script = (PAYLOADS / "container-hello.sbatch").read_text()
        job = slurm.submit(JobSpec(script=script, args=(str(status),), export=f"ALL,REGISTRY={registry.root}"))
        record = slurm.wait(job, within=60)
        evidence.attach(f"job {job}", str(record))
        evidence.attach(f"job {job}: output", slurm.output(job))
        assert (record.state, record.exit_code) == (state, status), (
            f"job {job}: a container that ended with {status} gave {record.state} with exit code {record.exit_code}, "
            f"expected {state} with {status}"
        )


@pytest.mark.check("CON-25")
def test_images_named_in_jobs_exist(registry: Registry, evidence: Evidence) -> None:
    """Every image that a job script of this phase names is in the registry's catalogue."""
    named = dict(images_named(PAYLOADS.glob("*.sbatch")))
    evidence.attach("images named in job scripts", "\n".join(f"{script}: {image}" for script, image in named.items()))
    assert named, f"{PAYLOADS}: no job script names an image; there is nothing to look up"
    known = {entry.path for entry in catalogued(registry)}
    evidence.attach(CATALOG, "\n".join(sorted(known)))
    for script, image in named.items():
        assert image in known, (
            f"{script}: names {image}, which is not in {registry.root}/{CATALOG}; it lists {', '.join(sorted(known))}"
        )


def catalogued(registry: Registry) -> tuple[CatalogEntry, ...]:
    """What the catalogue lists; that it can't be read is the registry's failure."""
    with judged():
        return registry.catalog()


def images_named(scripts: Iterable[Path]) -> Iterable[tuple[str, str]]:
    """Yield ``file:line`` and the path below the registry of each SIF that a job script names."""
    for script in sorted(scripts):
        for number, line in enumerate(script.read_text().splitlines(), 1):
            for image in re.findall(r"\$(?:\{REGISTRY\}|REGISTRY)/([\w./-]+\.sif)\b", line):
                yield f"{script.name}:{number}", image
