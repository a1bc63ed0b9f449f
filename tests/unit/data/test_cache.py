"""The cache of data sets against a real server of this machine: right, wrong, short, absent and cut-off files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_ai_how.cli.parser import main
from pytest_ai_how.data import Cache, DataSet, File, load_manifest
from pytest_ai_how.data.cache import DataError
from pytest_ai_how.errors import CatalogueError, ConfigError

from .serving import Quiet, serving

CONTENT = bytes(range(256)) * 4096  # a MiB


@dataclass
class Server:
    """Serves ``files``; stops after ``cut`` bytes of an answer; without ``parts`` it sends whole files."""

    files: dict[str, bytes]
    cut: int | None = None
    parts: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server({"/good.gz": CONTENT})

    class Handler(Quiet):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            found.asked.append((self.path, wanted))
            if self.path not in found.files:
                self.send_error(404)
                return
            whole = found.files[self.path]
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and found.parts else 0
            if start >= len(whole) > 0:
                self.send_error(416)
                return
            self.send_response(206 if wanted and found.parts else 200)
            self.send_header("Content-Length", str(len(whole) - start))
            self.end_headers()
            self.wfile.write(whole[start:][: found.cut])

    with serving(Handler) as url:
        found.url = url
        yield found


@dataclass
class Said:
    """Keeps what was said."""

    lines: list[str] = field(default_factory=list)

    def say(self, subject: str, text: str) -> None:
        self.lines.append(f"{subject}: {text}")


def data(server: Server, name: str = "good.gz") -> DataSet:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return DataSet(title="t", files=(File(name=name, sha256=digest, bytes=len(CONTENT), url=f"{server.url}/{name}"),))


def there(cache: Cache) -> dict[str, int]:
    """The files in the cache but for locks."""
    return {
        path.name: path.stat().st_size for path in cache.folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    }


def test_a_file_that_is_right_is_had_once(server: Server, tmp_path: Path) -> None:
    cache, said = Cache(tmp_path), Said()
    (path,) = cache.fill("one", data(server), said)
    assert path.read_bytes() == CONTENT
    assert said.lines == ["one: good.gz: downloading 1.0 MiB (is not there)"]
    assert cache.fill("one", data(server), said) == (path,)
    assert len(server.asked) == 1
    assert cache.read("one", data(server).files[0]) == CONTENT


def test_a_wrong_digest_is_refused_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    server.files["/good.gz"] = CONTENT[:-1] + b"x"
    cache = Cache(tmp_path)
    with pytest.raises(DataError, match=r"^http://.*/good\.gz: what came has the SHA-256 \w{64}, expected \w{64}"):
        cache.fill("one", data(server), Said())
    assert there(cache) == {}


def test_more_than_there_is_to_be_is_not_even_read(server: Server, tmp_path: Path) -> None:
    server.files["/good.gz"] = CONTENT * 3
    cache = Cache(tmp_path)
    with pytest.raises(DataError, match=r"what came has 1048577 bytes, expected 1048576"):
        cache.fill("one", data(server), Said())
    assert there(cache) == {}


def test_a_short_file_is_none_and_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.files["/good.gz"] = CONTENT[:1000]
    cache = Cache(tmp_path)
    with pytest.raises(DataError, match=r"what came has 1000 bytes, expected 1048576"):
        cache.fill("one", data(server), Said())
    assert there(cache) == {".good.gz.part": 1000}
    assert cache.faults("one", data(server)) == (f"{tmp_path}/one/good.gz: is not there",)
    server.files["/good.gz"] = CONTENT
    cache.fill("one", data(server), Said())
    assert there(cache) == {"good.gz": len(CONTENT)}
    assert server.asked[-1] == ("/good.gz", "bytes=1000-")


@pytest.mark.parametrize("parts", [True, False])
def test_a_download_that_breaks_off_goes_on_or_begins_anew(server: Server, tmp_path: Path, parts: bool) -> None:
    server.cut, server.parts = 400_000, parts
    cache = Cache(tmp_path)
    with pytest.raises(DataError, match=r"good\.gz: (could not be had|what came has \d+ bytes)"):
        cache.fill("one", data(server), Said())
    assert set(there(cache)) == {".good.gz.part"}
    server.cut = None
    (path,) = cache.fill("one", data(server), Said())
    assert path.read_bytes() == CONTENT
    assert server.asked[-1][1].startswith("bytes=")


def test_what_was_kept_of_another_file_is_not_gone_on_with_twice(server: Server, tmp_path: Path) -> None:
    """The digest tells, and the next time begins anew."""
    cache = Cache(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/.good.gz.part").write_bytes(b"other" * 100)
    with pytest.raises(DataError, match="has the SHA-256"):
        cache.fill("one", data(server), Said())
    cache.fill("one", data(server), Said())
    assert server.asked[-1] == ("/good.gz", "")


def test_an_absent_file_and_an_absent_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/bad\.gz: could not be had: Not Found\n  do: .*bad\.gz \(SHA-256 \w{64}\)"):
        Cache(tmp_path).fill("one", data(server, "bad.gz"), Said())
    gone = Server({}, url="http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"could not be had: .*refused"):
        Cache(tmp_path).fill("one", data(gone), Said())
    with pytest.raises(DataError, match="the scheme 'file' is not used"):
        Cache(tmp_path).fill("one", data(Server({}, url="file:///etc")), Said())


def test_what_was_changed_later_is_found_and_had_again(server: Server, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (path,) = cache.fill("one", data(server), Said())
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(
        DataError, match=rf"^{path}: has the SHA-256 .*\n  expected: data set 'one'\n  do: pytest-ai-how "
    ):
        cache.whole("one", data(server))
    with pytest.raises(DataError, match=r"cache fill one"):
        cache.read("one", data(server).files[0])
    cache.fill("one", data(server), Said())
    assert path.read_bytes() == CONTENT


MANIFEST = """
one:
  title: t
  files: [{{name: good.gz, sha256: {sha}, bytes: 1048576, url: "{url}/good.gz"}}]
"""


def test_the_command(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    manifest = tmp_path / "m.yaml"
    manifest.write_text(MANIFEST.format(sha=hashlib.sha256(CONTENT).hexdigest(), url=server.url))
    assert main(["cache", "list", f"--manifest={manifest}"]) == 0
    assert "one            not whole" in capsys.readouterr().out
    assert main(["cache", "fill", "one", f"--manifest={manifest}"]) == 0
    assert "one            whole            1.0 MiB  t" in capsys.readouterr().out
    server.files["/good.gz"] = b"x" * len(CONTENT)
    (tmp_path / "pytest-ai-how/data/one/good.gz").unlink()
    assert main(["cache", "fill", f"--manifest={manifest}"]) == 1
    assert "what came has the SHA-256" in capsys.readouterr().err


def test_the_manifest_that_ships() -> None:
    manifest = load_manifest()
    assert {name: len(one.downloads) for name, one in manifest.items()} == {
        "digits": 0,
        "mnist": 4,
        "cifar10": 1,
        "smollm-135m": 5,
        "gpt2": 6,
        "wikitext-2": 1,
        "no-robots": 1,
        "alpaca-cleaned": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", "names no data set"),
        ("one: {title: t, files: []}\n", "one.files"),
        ("one: {title: t, files: [{name: a, sha256: abc, bytes: 1, url: u}]}\n", "64 hexadecimal digits"),
        ("one: {title: t, files: [{name: ../a, sha256: " + "a" * 64 + ", bytes: 1, url: u}]}\n", "a plain file name"),
        ("one: {title: t, files: [{name: a, sha256: " + "a" * 64 + ", bytes: 1}]}\n", "comes from nowhere"),
    ],
)
def test_manifests_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_manifest(path)


def test_an_unknown_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "fill", "mnst"]) == 1
    assert "configs/data/sets.yaml: no data set is named 'mnst' (did you mean 'mnist'?)" in capsys.readouterr().err
    assert issubclass(CatalogueError, Exception)
