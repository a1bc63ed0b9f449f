"""A package repository as a vendor has one: indexed, signed with a key of its own, and served to this machine alone."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SUITE, COMPONENT = "stable", "non-free"
_INDEX = f"{COMPONENT}/binary-amd64/Packages"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what apt asks for is not of interest."""


def publish(folder: Path, packages: Sequence[Path], home: Path) -> Path:
    """Make ``folder`` a repository of ``packages``, signed by the key in ``home``; the public key, which lies in it."""
    pool, suite = folder / "pool", folder / "dists" / SUITE
    index = suite / _INDEX
    pool.mkdir(parents=True)
    index.parent.mkdir(parents=True)
    stanzas = []
    for package in packages:
        shutil.copyfile(package, pool / package.name)
        control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        size, digest = package.stat().st_size, hashlib.sha256(package.read_bytes()).hexdigest()
        stanzas.append(f"{control.strip()}\nFilename: pool/{package.name}\nSize: {size}\nSHA256: {digest}\n")
    index.write_text("\n".join(stanzas))
    digest = hashlib.sha256(index.read_bytes()).hexdigest()
    (suite / "Release").write_text(
        f"Origin: ai-how\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: {COMPONENT}\n"
        f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {index.stat().st_size} {_INDEX}\n"
    )
    _gpg(home, "--clearsign", "--output", str(suite / "InRelease"), str(suite / "Release"))
    return public_key(home, folder / "key.asc")


def make_key(home: Path) -> Path:
    """Make a key without a passphrase in ``home``."""
    home.mkdir(mode=0o700)
    _gpg(home, "--quick-generate-key", "vendor@example.org", "ed25519", "sign", "never")
    return home


def public_key(home: Path, target: Path) -> Path:
    """Write the public half of the key in ``home``."""
    _gpg(home, "--armor", "--export", "--output", str(target))
    return target


def _gpg(home: Path, *argv: str) -> None:
    words = ("gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", "--pinentry-mode=loopback", "--passphrase=")
    subprocess.run([*words, *argv], check=True, capture_output=True)
    # It starts an agent, which would outlive the folder.
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, capture_output=True)


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve ``folder`` for the time of the block; the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
