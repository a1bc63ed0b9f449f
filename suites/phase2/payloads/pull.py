"""Serve a small image by the registry protocol, pull it by Apptainer and run it; tell, as JSON, what came of it.

The image is this machine's own shell, what it is linked with, and a file with a word. Arguments: the address to serve
on, the word, and how many seconds the pull may take.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS, WORD, WITHIN = sys.argv[1], sys.argv[2], float(sys.argv[3])
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64"}
OCI = "application/vnd.oci.image"


def layer() -> bytes:
    """The image's only layer, as a tar archive."""
    shell = os.path.realpath("/bin/sh")
    linked = subprocess.run(["ldd", shell], check=True, capture_output=True, text=True).stdout.split()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path in ("/bin/sh", *dict.fromkeys(word for word in linked if word.startswith("/"))):
            archive.add(os.path.realpath(path), arcname=path.lstrip("/"))
        word = tarfile.TarInfo("word")
        word.size = len(WORD) + 1
        archive.addfile(word, io.BytesIO(f"{WORD}\n".encode()))
    return made.getvalue()


def described(kind: str, content: bytes) -> dict[str, object]:
    """A descriptor of the OCI image specification 1.1."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": f"{OCI}.{kind}", "digest": digest, "size": len(content)}


content = layer()
files = described("layer.v1.tar", content)
settings = {
    "architecture": ARCHITECTURES[platform.machine()],
    "os": "linux",
    "config": {"Cmd": ["/bin/sh"]},
    "rootfs": {"type": "layers", "diff_ids": [files["digest"]]},
}
config = json.dumps(settings).encode()
kept = described("config.v1+json", config)
kind_of_index = f"{OCI}.manifest.v1+json"
manifest = {"schemaVersion": 2, "mediaType": kind_of_index, "config": kept, "layers": [files]}
index = json.dumps(manifest).encode()
blobs = {files["digest"]: content, kept["digest"]: config}
asked: list[str] = []


class Registry(BaseHTTPRequestHandler):
    """As much of the distribution specification as a pull needs."""

    def do_GET(self) -> None:
        """Answer a request by its path."""
        asked.append(f"{self.command} {self.path}")
        name = self.path.rpartition("/")[2]
        if self.path == "/v2/":
            self.answer(b"{}", "application/json")
        elif "/manifests/" in self.path:
            self.answer(index, kind_of_index)
        elif name in blobs:
            self.answer(blobs[name], "application/octet-stream")
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        """Answer as for GET, without the body."""
        self.do_GET()

    def answer(self, body: bytes, kind: str) -> None:
        """Send a body, or for HEAD only what it is."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: what was asked for is told at the end."""


with tempfile.TemporaryDirectory() as folder, ThreadingHTTPServer((ADDRESS, 0), Registry) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    image = f"{folder}/small.sif"
    source = f"docker://{ADDRESS}:{server.server_port}/ai-how/small:1"
    began = time.monotonic()
    environment = {**os.environ, "APPTAINER_TMPDIR": folder, "APPTAINER_CACHEDIR": f"{folder}/cache"}
    pull = ["apptainer", "pull", "--no-https", "--disable-cache", image, source]
    pulled = subprocess.run(
        ["timeout", f"{WITHIN:g}", *pull], env=environment, check=False, capture_output=True, text=True
    )
    found = {"status": pulled.returncode, "seconds": time.monotonic() - began, "said": pulled.stderr[-2000:]}
    server.shutdown()
    found["blobs"] = sum(request == f"GET /v2/ai-how/small/blobs/{files['digest']}" for request in asked)
    if Path(image).is_file():
        run = ["apptainer", "exec", image, "/bin/sh", "-c", 'read -r word </word; echo "$word"']
        ran = subprocess.run(run, check=False, capture_output=True, text=True)
        found |= {"word": ran.stdout.strip(), "errors": ran.stderr[-2000:]}
print(json.dumps(found))
