"""Digests that only an origin declares: asked once of a real server of this machine, kept, and held to afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_ai_how.cli.parser import main
from pytest_ai_how.data import Cache, DataSet, File, load_manifest
from pytest_ai_how.data.declared import KEPT, DataError
from pytest_ai_how.errors import ConfigError

from .serving import Quiet, serving

CONTENT = bytes(range(256)) * 64
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Declares ``said`` of whatever it is asked for, sends ``content``, and keeps the methods by which it was asked."""

    said: dict[str, str]
    status: int = 302
    content: bytes = CONTENT
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    found = Hub({"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{DIGEST}"', "X-Linked-Size": str(len(CONTENT))})

    class Handler(Quiet):
        def do_HEAD(self) -> None:
            found.asked.append("HEAD")
            self.send_response(found.status)
            for name, value in found.said.items():
                self.send_header(name, value)
            self.send_header("Location", "http://127.0.0.1:9/where-nobody-listens")
            self.end_headers()

        def do_GET(self) -> None:
            found.asked.append("GET")
            self.send_response(200)
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

    with serving(Handler) as url:
        found.url = f"{url}/x/resolve/{COMMIT}/a.bin"
        yield found


class Said:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, subject: str, text: str) -> None:
        self.lines.append(f"{subject}: {text}")


def data(hub: Hub) -> DataSet:
    return DataSet(title="t", files=(File(name="a.bin", declared=True, url=hub.url),))


def test_what_is_declared_is_kept_and_asked_for_once(hub: Hub, tmp_path: Path) -> None:
    cache, said = Cache(tmp_path), Said()
    unknown = (f"{tmp_path}/one/a.bin: has no digest yet: its origin declares it at the first fill",)
    assert cache.faults("one", data(hub)) == unknown
    (path,) = cache.fill("one", data(hub), said)
    assert path.read_bytes() == CONTENT
    assert said.lines[0] == f"one: a.bin: its origin declares the SHA-256 {DIGEST}, which is kept"
    assert cache.fill("one", data(hub), said) == (path,)
    assert hub.asked == ["HEAD", "GET"]
    (known,) = cache.known("one", data(hub)).files
    assert (known.sha256, known.bytes) == (DIGEST, len(CONTENT))
    assert cache.read("one", data(hub).files[0]) == CONTENT


def test_what_came_is_refused_where_it_is_not_what_was_declared(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=rf"a\.bin: what came has the SHA-256 \w+, expected {DIGEST}"):
        Cache(tmp_path).fill("one", data(hub), Said())
    assert not (tmp_path / "one/a.bin").exists()


def test_another_content_is_refused_afterwards_though_the_origin_declares_it(hub: Hub, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (path,) = cache.fill("one", data(hub), Said())
    hub.content = CONTENT[:-1] + b"x"
    hub.said["X-Linked-Etag"] = hashlib.sha256(hub.content).hexdigest()
    path.write_bytes(hub.content)
    with pytest.raises(DataError, match=rf"^{path}: has the SHA-256 \w+, expected {DIGEST}"):
        cache.whole("one", data(hub))
    with pytest.raises(DataError, match=rf"what came has the SHA-256 \w+, expected {DIGEST}"):
        cache.fill("one", data(hub), Said())


def test_what_was_declared_of_another_commit_says_nothing_of_this_one(hub: Hub, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fill("one", data(hub), Said())
    other = data(hub).files[0].model_copy(update={"url": hub.url.replace(COMMIT, COMMIT[::-1])})
    (fault,) = cache.faults("one", DataSet(title="t", files=(other,)))
    assert "has no digest yet" in fault


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        (
            {"X-Repo-Commit": "f" * 40},
            302,
            rf"the origin speaks of commit {'f' * 40}\n  expected: X-Repo-Commit: {COMMIT}",
        ),
        ({"X-Linked-Etag": '"abc"'}, 302, r"the origin declares no digest: X-Linked-Etag 'abc', X-Linked-Size '16384'"),
        (
            {"X-Linked-Size": ""},
            200,
            r"declares no digest: X-Linked-Etag '\w{64}', X-Linked-Size ''\n  expected: a SHA",
        ),
        ({}, 404, r"could not be asked: 404 Not Found\n  do: try again"),
    ],
)
def test_an_origin_that_declares_nothing_of_use(
    hub: Hub, tmp_path: Path, said: dict[str, str], status: int, message: str
) -> None:
    hub.said, hub.status = hub.said | said, status
    with pytest.raises(DataError, match=rf"^{hub.url}: {message}" if "declares no" not in message else message):
        Cache(tmp_path).fill("one", data(hub), Said())
    assert "GET" not in hub.asked
    assert not (tmp_path / "one" / KEPT).exists()


def test_an_origin_that_is_not_there(tmp_path: Path) -> None:
    for url, message in (
        (f"http://127.0.0.1:9/{COMMIT}/a", r"could not be asked: .*refused"),
        (f"file:///{COMMIT}/a", "the scheme 'file' is not used"),
    ):
        with pytest.raises(DataError, match=message):
            Cache(tmp_path).fill("one", data(Hub({}, url=url)), Said())


def test_a_record_that_cannot_be_read_is_not_taken_for_none(hub: Hub, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fill("one", data(hub), Said())
    (tmp_path / "one" / KEPT).write_text('{"a.bin": {"sha256": "abc"}}')
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/one/{KEPT}: cannot be read(.|\n)*do: rm .*{KEPT}, and fill anew"
    ):
        cache.faults("one", data(hub))


def test_the_list_says_how_much_a_digest_is_worth(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    manifest = tmp_path / "m.yaml"
    manifest.write_text(f'one: {{title: t, files: [{{name: a.bin, declared: true, url: "{hub.url}"}}]}}\n')
    assert main(["cache", "list", f"--manifest={manifest}"]) == 0
    said = capsys.readouterr().out
    assert "not whole   size unknown  t" in said
    assert "  a.bin: the manifest has no digest of it; the first fill takes what its origin declares" in said
    assert main(["cache", "fill", f"--manifest={manifest}"]) == 0
    assert f"  a.bin: SHA-256 {DIGEST}, as its origin declared it at the first fill" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("declared: true, url: http://x/main/a", "names no commit of 40 hexadecimal digits"),
        (f"declared: true, url: http://x/{COMMIT}/a, sha256: {DIGEST}, bytes: 1", "has no digest, or two"),
        (f"url: http://x/{COMMIT}/a, sha256: {DIGEST}", "has no digest, or two"),
        (f"url: http://x/{COMMIT}/a", "has no digest, or two"),
    ],
)
def test_files_of_no_digest_or_of_two(tmp_path: Path, keys: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"one: {{title: t, files: [{{name: a, {keys}}}]}}\n")
    with pytest.raises(ConfigError, match=message):
        load_manifest(path)


def test_what_ships_is_declared_only_where_nobody_published_a_digest() -> None:
    manifest = load_manifest()
    declared = {name for name, one in manifest.items() if any(file.declared for file in one.files)}
    assert declared == {"no-robots", "alpaca-cleaned"}
    hubs = [file for one in manifest.values() for file in one.files if "huggingface.co" in file.url]
    assert len(hubs) == 14
    assert all(file.commit for file in hubs), "an address without a commit can give another content tomorrow"
