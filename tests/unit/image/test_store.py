"""An image is what its manifest says, or it is no image."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.store import Image, Store, describe, mounts_below, processes_using, verify
from pytest_ai_how.image.tree import content_digest, differing, fingerprint, settle_times

DIGEST = "ab12" * 16
LIBRARY = "root/usr/lib/x86_64-linux-gnu/slurm-wlm/task_affinity.so"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "images")


@pytest.fixture
def image(store: Store) -> Image:
    with store.lock("node", lambda: None), store.building("node", DIGEST) as place:
        (place / "root/etc").mkdir(parents=True)
        (place / "root/srv").mkdir()
        (place / "root/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (place / "root/srv/data").write_text("data\n")
        (place / LIBRARY).parent.mkdir(parents=True)
        (place / LIBRARY).write_bytes(b"ELF")
        return store.finish(place, {"name": "node", "digest": DIGEST, "built_at": "", **describe(place / "root")})


def test_a_finished_image_is_found(store: Store, image: Image) -> None:
    found = store.find("node", DIGEST)
    assert found is not None
    assert found.path == store.folder / "node-ab12ab12ab12/root"
    assert found.manifest["bytes"] == len("root:x:0:0::/root:/bin/sh\n") + len("data\n") + len("ELF")
    verify(found)
    assert not list(store.folder.glob(".building-*"))


def test_one_that_was_never_built_is_none(store: Store) -> None:
    assert store.find("node", DIGEST) is None


def test_a_changed_file_is_noticed(store: Store, image: Image) -> None:
    (image.path / "etc/passwd").write_text("evil:x:0:0::/root:/bin/sh\n")
    with pytest.raises(ImageError, match=r"node-ab12ab12ab12: was changed after it was built"):
        store.find("node", DIGEST)


def later(path: Path) -> None:
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def other_size(path: Path) -> None:
    times = path.stat()
    path.write_bytes(b"ELF!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def other_type(path: Path) -> None:
    path.unlink()
    path.symlink_to("other.so")


@pytest.mark.parametrize("deed", [later, other_size, other_type, Path.unlink, lambda path: path.chmod(0o777)])
def test_a_changed_library_is_noticed(store: Store, image: Image, deed: Callable[[Path], None]) -> None:
    deed(image.folder / LIBRARY)
    with pytest.raises(ImageError, match=r"node-ab12ab12ab12: was changed after it was built"):
        store.find("node", DIGEST)


def test_the_top_of_a_tree_belongs_to_it(store: Store, image: Image) -> None:
    image.path.chmod(0o777)
    with pytest.raises(ImageError, match="was changed after"):
        store.find("node", DIGEST)


@pytest.fixture
def earlier(image: Image) -> Image:
    """An image with a manifest as it was before the whole tree was looked at."""
    known = {key: value for key, value in image.manifest.items() if key != "whole"}
    (image.folder / "manifest.json").write_text(json.dumps({**known, "fingerprint": "of some folders"}))
    return image


def test_an_image_of_earlier_is_read_once_and_known_from_then_on(store: Store, image: Image, earlier: Image) -> None:
    said: list[str] = []
    found = store.find("node", DIGEST, said.append)
    assert said == ["its manifest knows some of its folders only; reading it all, this once"]
    manifest = json.loads((earlier.folder / "manifest.json").read_text())
    assert manifest == {**image.manifest, "fingerprint": "of some folders"}, "who knows no other still finds it"
    assert found is not None
    assert found.manifest == manifest
    assert sorted(path.name for path in earlier.folder.iterdir()) == ["manifest.json", "root"]
    assert store.find("node", DIGEST, said.append) is not None
    assert len(said) == 1
    later(earlier.folder / LIBRARY)
    with pytest.raises(ImageError, match="was changed after"):
        store.find("node", DIGEST, said.append)


def test_who_only_looks_for_an_image_of_earlier_does_not_read_it(
    store: Store, earlier: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (earlier.folder / "manifest.json").read_bytes()
    monkeypatch.setattr("pytest_ai_how.image.store.describe", lambda _: pytest.fail("it was read"))
    assert store.find("node", DIGEST) is not None
    assert (earlier.folder / "manifest.json").read_bytes() == before


def test_an_image_of_earlier_that_was_changed_is_not_taken(store: Store, earlier: Image) -> None:
    (earlier.folder / LIBRARY).write_bytes(b"EVL")
    before = (earlier.folder / "manifest.json").read_bytes()
    with pytest.raises(ImageError, match="content digest"):
        store.find("node", DIGEST, [].append)
    assert (earlier.folder / "manifest.json").read_bytes() == before


def test_an_image_of_earlier_is_used_where_nothing_can_be_written(
    store: Store, earlier: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    found = store.find("node", DIGEST, [].append)
    assert found is not None
    assert "whole" in found.manifest
    assert "whole" not in json.loads((earlier.folder / "manifest.json").read_text())
    assert sorted(path.name for path in earlier.folder.iterdir()) == ["manifest.json", "root"]


@pytest.mark.parametrize("known", ["image", "earlier"])
def test_an_image_that_not_all_may_read_is_told_as_such(
    store: Store, known: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = request.getfixturevalue(known)

    def refuse(root: Path) -> str:
        raise PermissionError(13, "Permission denied", f"{root}/root")

    monkeypatch.setattr("pytest_ai_how.image.store.fingerprint", refuse)
    with pytest.raises(ImageError) as caught:
        store.find("node", DIGEST, [].append)
    assert str(caught.value) == (
        f"{image.folder}: can't be looked at whole: {image.path}/root: Permission denied\n"
        f"  expected: root, not uid {os.geteuid()}"
    )


def test_what_root_builds_can_be_found_by_others_whatever_the_umask(store: Store) -> None:
    former = os.umask(0o077)
    try:
        with store.lock("base", lambda: None), store.building("base", DIGEST) as place:
            (place / "base.sif").write_bytes(b"sif")
            image = store.finish(place, {"name": "base", "digest": DIGEST, **describe(place / "base.sif")})
    finally:
        os.umask(former)
    modes = [path.stat().st_mode & 0o777 for path in (store.folder, image.folder, image.folder / "manifest.json")]
    assert modes == [0o755, 0o755, 0o644]


@pytest.mark.parametrize("folder", [".", ".."])
def test_an_image_that_any_account_can_change_is_refused(store: Store, image: Image, folder: str) -> None:
    place = (store.folder / folder).resolve()
    place.chmod(0o777)
    with pytest.raises(ImageError, match=rf"^{place}: can be written by every account"):
        store.find("node", DIGEST)
    place.chmod(0o755)
    assert store.find("node", DIGEST) is not None


def test_an_image_of_another_account_is_refused(store: Store, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = os.stat_result((0o40755, 0, 0, 0, 12345, 0, 0, 0, 0, 0))
    monkeypatch.setattr(type(store.folder), "exists", lambda _: True)
    monkeypatch.setattr(type(store.folder), "stat", lambda _: seen)
    with pytest.raises(ImageError, match=r"belongs to uid 12345"):
        store.find("node", DIGEST)


@pytest.mark.parametrize("deed", ["add", "remove", "chmod"])
def test_other_changes_are_noticed(store: Store, image: Image, deed: str) -> None:
    if deed == "add":
        (image.path / "etc/new").touch()
    elif deed == "remove":
        (image.path / "etc/passwd").unlink()
    else:
        (image.path / "etc/passwd").chmod(0o666)
    with pytest.raises(ImageError, match="was changed after"):
        store.find("node", DIGEST)


def test_verify_reads_what_the_quick_look_does_not(store: Store, image: Image) -> None:
    data = image.path / "srv/data"
    times = data.stat()
    data.write_text("DATA\n")
    os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.find("node", DIGEST) is not None
    with pytest.raises(ImageError, match=r"content digest (.|\n)*do: pytest-ai-how images build node"):
        verify(image)


def test_a_changed_sif_is_noticed(store: Store) -> None:
    with store.lock("base", lambda: None), store.building("base", DIGEST) as place:
        (place / "base.sif").write_bytes(b"x" * 300_000)
        image = store.finish(place, {"name": "base", "digest": DIGEST, **describe(place / "base.sif")})
    assert store.find("base", DIGEST) is not None
    times = image.path.stat()
    with image.path.open("r+b") as file:
        file.seek(299_999)
        file.write(b"y")
    os.utime(image.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ImageError, match="was changed after"):
        store.find("base", DIGEST)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "node"}', '{"name": "node", "digest": "x", "artifact": "root"}']
)
def test_a_broken_manifest_is_no_image(store: Store, image: Image, text: str) -> None:
    (image.folder / "manifest.json").write_text(text)
    with pytest.raises(ImageError, match=r"manifest"):
        store.find("node", DIGEST)
    assert store.images() == []


def test_a_folder_without_manifest_is_no_image(store: Store, image: Image) -> None:
    (image.folder / "manifest.json").unlink()
    with pytest.raises(ImageError, match=r"manifest\.json: cannot be read"):
        store.find("node", DIGEST)


def test_a_manifest_of_another_recipe_is_refused(store: Store, image: Image) -> None:
    manifest = json.loads((image.folder / "manifest.json").read_text())
    (image.folder / "manifest.json").write_text(json.dumps({**manifest, "digest": "cd34" * 16}))
    with pytest.raises(ImageError, match="not what its name says"):
        store.find("node", DIGEST)


def test_a_failed_build_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.lock("node", lambda: None), store.building("node", DIGEST) as place:
            (place / "root").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [path.name for path in store.folder.iterdir()] == [".lock-node"]


def test_stale_builds_are_those_whose_lock_is_free(store: Store) -> None:
    store.folder.mkdir(parents=True)
    for name in ("node", "base"):
        (store.folder / f".building-{name}-{DIGEST[:12]}-4711/root").mkdir(parents=True)
    with (store.folder / ".lock-node").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert [place.name for place in store.stale_builds()] == [f".building-base-{DIGEST[:12]}-4711"]
    assert len(store.clean_stale_builds()) == 2
    assert [path.name for path in store.folder.iterdir()] == [".lock-node"]


def test_a_foreign_folder_is_no_stale_build(store: Store) -> None:
    (store.folder / ".building-mine").mkdir(parents=True)
    assert store.clean_stale_builds() == []
    assert (store.folder / ".building-mine").is_dir()


def test_the_second_run_waits_and_says_so(store: Store) -> None:
    said = threading.Event()
    with store.lock("node", lambda: None):
        done = threading.Event()

        def second() -> None:
            with store.lock("node", said.set):
                done.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert said.wait(5)
        assert not done.is_set()
    thread.join(5)
    assert done.is_set()


def test_mounts_are_read_innermost_first(tmp_path: Path) -> None:
    # proc_pid_mountinfo(5), Linux 6.1
    place = tmp_path / "a b"
    place.mkdir()
    shown = str(place).replace(" ", "\\040")
    info = tmp_path / "mountinfo"
    info.write_text(
        f"36 35 98:0 / {shown}/root rw,noatime master:1 - ext3 /dev/root rw\n"
        f"37 36 0:5 / {shown}/root/proc rw - proc proc rw\n"
        f"38 35 0:5 / {shown}c rw - proc proc rw\n"
    )
    assert mounts_below(place, info) == [f"{place}/root/proc", f"{place}/root"]


def test_a_machine_over_an_image_is_seen(tmp_path: Path) -> None:
    place = tmp_path / "node-ab12ab12ab12"
    for pid, mount in {
        "100": f"40 1 0:40 / /m rw - overlay overlay rw,lowerdir={place}/root,upperdir=/u,workdir=/w\n",
        "101": f"41 1 0:41 / /m rw - overlay overlay rw,lowerdir={place}0/root,upperdir=/u\n",
    }.items():
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "mountinfo").write_text(mount)
    assert processes_using(place, tmp_path / "proc") == [100]


def test_what_the_build_wrote_gets_one_time_and_the_rest_keeps_its_own(tmp_path: Path) -> None:
    began = time.time() - 10
    for name, stamp in {"package": 1_600_000_000.9, "written": began + 5, "future": 2_145_916_800}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (stamp, stamp))
    assert settle_times(tmp_path, began, 1_700_000_000) == 1_700_000_000
    times = {path.name: int(path.stat().st_mtime) for path in tmp_path.iterdir()}
    assert times == {"package": 1_600_000_000, "written": 1_700_000_000, "future": 2_145_916_800}
    # A package newer than the epoch is the newest there is; what lies in the future is not.
    assert settle_times(tmp_path, began, 1_500_000_000) == 1_700_000_000
    os.utime(tmp_path / "written", (1_600_000_000, 1_600_000_000))
    assert settle_times(tmp_path, began, 1_500_000_000) == 1_600_000_000


def test_what_differs_between_two_trees_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "etc").mkdir(parents=True)
        for file in ("same", "content", "mode"):
            (tmp_path / name / "etc" / file).write_text("x")
        (tmp_path / name / "link").symlink_to(name)
    assert differing(tmp_path / "one", tmp_path / "one") == []
    (tmp_path / "two/etc/content").write_text("y")
    (tmp_path / "two/etc/mode").chmod(0o600)
    (tmp_path / "one/only").mkdir()
    os.utime(tmp_path / "two/etc/same", (0, 0))
    assert differing(tmp_path / "one", tmp_path / "two") == ["etc/content", "etc/mode", "link", "only"]


def test_the_content_digest_does_not_depend_on_place_or_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc/file").write_text("x")
        (tmp_path / name / "link").symlink_to("etc/file")
    os.utime(tmp_path / "two/etc/file", (1, 1))
    assert content_digest(tmp_path / "one") == content_digest(tmp_path / "two")
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")
    (tmp_path / "two/link").unlink()
    (tmp_path / "two/link").symlink_to("etc")
    assert content_digest(tmp_path / "one") != content_digest(tmp_path / "two")


def test_what_is_not_there_is_in_nobodys_way(store: Store, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ai_how.image.store.processes_using", lambda place: [1])
    store.make_way("node", "cd34" * 16)
    with pytest.raises(ImageError, match=r"node-ab12ab12ab12: was changed .* \(processes \[1\] see it\)"):
        store.make_way("node", DIGEST)
