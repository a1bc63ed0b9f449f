"""Images are built for real, in root's own mount and PID namespaces; what goes wrong leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import HostError, ImageError
from pytest_ai_how.image import ensure_image, image_digest
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.sif import build_date
from pytest_ai_how.image.store import WHOLE, Image, Store, mounts_below, verify
from pytest_ai_how.image.tree import differing
from pytest_ai_how.shell import Result
from tests.integration.conftest import small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="images are built by root only")

# One role on the smallest system that Debian calls one: about 15 s.
WORLD = {
    "roles/tiny/role.yaml": (
        "description: x\npackages: [netbase]\nusers:\n  - {name: hpc, uid: 1000, home: /home/hpc}\n"
    ),
    "roles/tiny/files/etc/motd": "hello\n",
    "versions.yaml": (
        "version: 1\nsuite: trixie\ncomponents: [main]\nepoch: 1700000000\npackages: {netbase: {series: '6'}}\n"
    ),
}
RUN = """
import sys
from pathlib import Path
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.store import Store
from pytest_ai_how.progress import PlainLines
world, store = map(Path, sys.argv[1:])
Builder(Source(world, world / "versions.yaml"), Store(store)).ensure(["node"], PlainLines(sys.stdout))
"""


@dataclass
class Heard:
    lines: list[str] = field(default_factory=list)

    def say(self, subject: str, text: str) -> None:
        self.lines.append(f"{subject}: {text}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    image = "description: tiny\nkind: tree\nroles: [tiny]\ndisk: {disk}\nexclude: [/usr/share/doc/*]\n"
    for name, text in {
        **WORLD,
        "images/node.yaml": image.format(disk=0),
        "images/large.yaml": image.format(disk=100),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "images")
    yield store
    assert mounts_below(tmp_path) == []


def builder(world: Path, store: Store, mirror: str = "") -> Builder:
    return Builder(Source(world, world / "versions.yaml"), store, mirror)


def start(world: Path, store: Store, **env: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", RUN, str(world), str(store.folder)]
    return subprocess.Popen(
        argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **env}
    )


def names(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def processes_naming(path: Path) -> list[int]:
    """Processes that have ``path`` in their arguments."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(path) in file.read_bytes().decode(errors="replace"):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


def test_the_node_image_is_built_once() -> None:
    first = ensure_image("node", Heard())
    heard = Heard()
    again = ensure_image("node", heard)
    assert heard.lines == []
    assert (again.path, again.digest) == (first.path, image_digest("node"))


def test_the_node_image_holds_what_was_declared_and_no_secret() -> None:
    image = ensure_image("node", Heard())
    root = image.path
    verify(image)
    assert image.manifest["packages"]["slurmctld"].startswith("24.11.")
    assert (root / "usr/bin/apptainer").is_file()
    assert (root / "etc/machine-id").read_text() == ""
    assert "hpc:x:1000:1000:" in (root / "etc/passwd").read_text()
    assert (root / "var/lib/mysql/slurm_acct_db").is_dir()
    for secret in ("etc/munge/munge.key", "etc/ssh/ssh_host_*", "etc/slurm/*.key", "root/.ssh/*"):
        assert list(root.glob(secret)) == []
    for build_only in ("var/lib/apt/lists/*", "etc/apt/sources.list*", "var/cache/apt/*", "usr/sbin/policy-rc.d"):
        assert [path for path in root.glob(build_only) if not path.is_dir()] == []


def test_the_images_of_machines_built_twice_are_the_same(tmp_path: Path) -> None:
    """The real ones, each with an empty cache of its own, in two minutes; a file that differs is named.

    Two that are built at once disturb each other's pace, which what threads write went by.
    """

    def build(cache: str) -> dict[str, Image]:
        store = Store(tmp_path / cache / "images")
        store.folder.mkdir(parents=True)
        return Builder(Source.shipped(), store).ensure(["node", "vm"], Heard())

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(build, ("cache", "another-cache"))
    assert one["node"].manifest["packages"] == other["node"].manifest["packages"], "the mirror changed meanwhile"
    assert differing(one["node"].path, other["node"].path) == []
    assert differing(one["vm"].path, other["vm"].path) == []
    for name in ("node", "vm"):
        assert one[name].manifest["content"] == other[name].manifest["content"]
        assert one[name].manifest["tree"] == other[name].manifest["tree"]
    # Time stamps too, which a disk holds.
    assert one["node"].manifest[WHOLE] == other["node"].manifest[WHOLE]
    # Days of accounts made by roles are the epoch's, 2026-01-01, whatever day it is.
    days = [line.split(":")[2] for line in (one["node"].path / "etc/shadow").read_text().splitlines()]
    assert set(days) == {"20454"}
    assert not (one["node"].path / "usr/lib/ai-how/database.py").exists()


def test_a_changed_image_is_built_anew_and_two_builds_are_equal(world: Path, store: Store) -> None:
    first = builder(world, store).ensure(["node"], Heard())["node"]
    assert (first.path / "etc/motd").read_text() == "hello\n"
    (first.path / "etc/motd").write_text("changed\n")
    heard = Heard()
    second = builder(world, store).ensure(["node"], heard)["node"]
    assert f"node image: {first.folder}: was changed after it was built; it is built anew" in heard.lines
    assert (second.path / "etc/motd").read_text() == "hello\n"
    assert second.manifest["content"] == first.manifest["content"]
    assert names(store) == [".lock-node", first.folder.name]


def test_two_runs_at_once_build_one_image(world: Path, store: Store) -> None:
    runs = [start(world, store), start(world, store)]
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sorted("reading the package lists" in text for text in said) == [False, True]
    assert sorted("another run is building it; waiting" in text for text in said) == [False, True]
    manifest = json.loads(next(store.folder.glob("node-*/manifest.json")).read_text())
    assert manifest["digest"] == builder(world, store).digest("node")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_build_leaves_nothing_that_runs_or_looks_like_an_image(
    world: Path, store: Store, tmp_path: Path, number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with start(world, store, TMPDIR=str(temporary)) as run:
        assert run.stdout is not None
        assert next((line for line in run.stdout if "setting up the essential packages" in line), "")
        run.send_signal(number)
        assert run.wait(60) != 0
    wait_for(lambda: not processes_naming(store.folder), within=20, what=f"free of processes naming {store.folder}")
    assert not list(store.folder.glob("node-*"))
    if number is signal.SIGINT:
        assert names(store) == [".lock-node"]
    store.clean_stale_builds()
    assert names(store) == [".lock-node"]
    # Not even what mmdebstrap looks at keys with.
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_named_and_nothing_is_left(world: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 96) as place:
        store = Store(place / "images")
        with pytest.raises(ImageError, match="the disk filled up during the build of the node image") as caught:
            builder(world, store).ensure(["node"], Heard())
        assert str(place) in caught.value.where
        assert names(store) == [".lock-node"]


def test_too_little_disk_is_refused_before_anything_is_done(world: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 96) as place:
        store, heard = Store(place / "images"), Heard()
        with pytest.raises(HostError, match=r"9\d MiB free, building the large image needs 102400 MiB"):
            builder(world, store).ensure(["large"], heard)
        assert heard.lines == []
        assert names(store) == [".lock-large"]


def test_a_mirror_that_refuses_is_named_and_nothing_is_left(world: Path, store: Store) -> None:
    with pytest.raises(ImageError, match=r"http://127\.0\.0\.1:9/debian: the mirror did not give(.|\n)*AI_HOW_MIRROR"):
        builder(world, store, "http://127.0.0.1:9/debian").ensure(["node"], Heard())
    assert names(store) == [".lock-node"]


def apptainer(node: Image, image: Image, *argv: str) -> str:
    """What the node's own Apptainer says of the SIF, from a mount namespace in which both images are read-only."""
    script = (
        'mount --rbind "$1" "$1"; mount -o remount,bind,ro "$1"; mount -t tmpfs tmpfs "$1/mnt"; mkdir "$1/mnt/i"; '
        'mount --bind "$2" "$1/mnt/i"; shift 2; exec chroot "$0" env HOME=/mnt TZ=UTC apptainer "$@"'
    )
    inside = ("sh", "-euc", script, node.path, node.path, image.folder, *argv, f"/mnt/i/{image.path.name}")
    full = ("unshare", "--mount", "--propagation", "private", *map(str, inside))
    done = subprocess.run(full, check=False, capture_output=True, text=True)
    result = Result(full, done.returncode, done.stdout, done.stderr)
    assert result.ok, result.describe()
    return result.stdout


def test_a_sif_says_what_it_is_and_nothing_of_the_moment() -> None:
    image = ensure_image("base", Heard())
    node = ensure_image("node", Heard())
    assert image.path.stat().st_size < 150 * 2**20
    labels = json.loads(apptainer(node, image, "inspect", "--json", "--labels"))["data"]["attributes"]["labels"]
    assert labels["org.ai-how.digest"] == image.digest
    assert f"python3={image.manifest['packages']['python3']}" in labels["org.ai-how.packages"].split()
    # Its UUID is made of a digest, and the newest package dates it.
    told = dict(line.split(":", 1) for line in apptainer(node, image, "sif", "header").splitlines() if ":" in line)
    assert uuid.UUID(told["ID"].strip()).version == 5
    date = datetime.strptime(told["Created At"].strip(), "%Y-%m-%d %H:%M:%S %z UTC")
    assert date < datetime.fromisoformat(image.manifest["built_at"]) - timedelta(hours=1)
    assert labels["org.label-schema.build-date"] == build_date(int(date.timestamp()))
