"""``pytest-ai-how images`` on an empty and on an outdated cache."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.commands import add_arguments, run
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.store import Image, Store, describe


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Store()


def images(*argv: str) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(argv))


def put(store: Store, name: str, digest: str) -> Image:
    with store.lock(name, lambda: None), store.building(name, digest) as place:
        (place / f"{name}.sif").write_bytes(b"sif")
        return store.finish(place, {"name": name, "digest": digest, "built_at": "", **describe(place / f"{name}.sif")})


def test_list_shows_what_is_declared_and_built(cache: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert images() == 0
    lines = capsys.readouterr().out.splitlines()
    by_name = {line.split()[0]: line for line in lines}
    assert set(by_name) >= {"base", "node", "pytorch", "vm", "vm-beegfs"}
    assert all(by_name[name].endswith("not built") for name in ("base", "node", "pytorch", "vm"))
    assert "name it in the cluster's YAML: storage.beegfs.packages" in by_name["vm-beegfs"]


def test_verify_fails_for_what_is_not_built(cache: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert images("verify", "base") == 1
    assert capsys.readouterr().out == "base: not built\n  do: pytest-ai-how images build base\n"


def test_verify_fails_for_what_was_changed(cache: Store, capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_ai_how.image import image_digest

    image = put(cache, "base", image_digest("base"))
    assert images("verify", "base") == 0
    assert "verified" in capsys.readouterr().out
    image.path.write_bytes(b"fis")
    assert images("verify", "base") == 1
    assert "was changed after it was built" in capsys.readouterr().out
    assert images("list", "base") == 0
    assert "not usable: was changed" in capsys.readouterr().out


def test_prune_removes_old_recipes_and_leftovers_only(cache: Store, capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_ai_how.image import image_digest

    present, old, unknown = (
        put(cache, "base", image_digest("base")),
        put(cache, "base", "0" * 64),
        put(cache, "x", "1" * 64),
    )
    left = cache.folder / f".building-node-{'0' * 12}-1"
    left.mkdir()
    assert images("prune", "base") == 0
    assert (present.path.exists(), old.path.exists(), unknown.path.exists(), left.exists()) == (
        True,
        False,
        True,
        False,
    )
    assert images("prune") == 0
    assert not unknown.path.exists()
    capsys.readouterr()
    assert images("prune") == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_prune_of_all_removes_python_packages_that_no_lock_names(
    cache: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    version = Source.shipped().define("pytorch").wheels["typing-extensions"]
    folder = cache.folder.parent / "wheels"
    folder.mkdir(parents=True)
    names = [f"{name}-py3-none-any.whl" for name in (f"typing_extensions-{version}", "typing_extensions-0.1", "x-1")]
    for name in names:
        (folder / name).write_bytes(b"PK")
    assert images("prune", "pytorch") == 0
    assert len(list(folder.iterdir())) == 3, "a name was given: other images may need them"
    assert images("prune") == 0
    assert [path.name for path in folder.iterdir()] == names[:1]
    assert "removed typing_extensions-0.1-py3-none-any.whl (" in capsys.readouterr().out


def test_an_unknown_name_is_refused(cache: Store) -> None:
    with pytest.raises(ImageError, match=r"no image is named 'bas' \(did you mean 'base'\?\)"):
        images("build", "bas")
