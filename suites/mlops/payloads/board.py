#!/usr/bin/python3
"""Start TensorBoard on a folder, ask it over HTTP what it shows, and stop it: one line of JSON.

``seconds``  until it answered          ``status``  of that answer
``runs``     the runs that it lists     ``scalars`` [step, value] of each of its scalars, by name
``others``   which other tracking servers this interpreter could start: aim, mlflow
"""

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

#: Seconds in which it must answer, and for which its event files may still be read.
PATIENCE = 90.0


def get(url: str) -> tuple[int, Any]:
    """A JSON document."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  of this machine, see main
        return answer.status, json.loads(answer.read())


def until(ask: Any, board: "subprocess.Popen[bytes]") -> Any:
    """What ``ask`` returns, as soon as it returns something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if board.poll() is not None:
            raise SystemExit(f"TensorBoard ended with {board.returncode}")
        try:
            if found := ask():
                return found
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.2)
    raise SystemExit(f"TensorBoard did not answer within {PATIENCE:g} s")


def main(folder: str) -> None:
    """See above."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", "--host=127.0.0.1", f"--port={port}"]
    where = f"127.0.0.1:{port}"
    base = f"http://{where}/data"
    began = time.monotonic()
    board = subprocess.Popen([*words, "--load_fast=false", "--reload_interval=1"], stdout=subprocess.DEVNULL)
    try:
        status, _ = until(lambda: get(f"{base}/environment"), board)
        seconds = time.monotonic() - began
        tags = until(lambda: get(f"{base}/plugin/scalars/tags")[1], board)
        scalars = {
            tag: [[step, value] for _, step, value in get(f"{base}/plugin/scalars/scalars?run={run}&tag={tag}")[1]]
            for run, names in tags.items()
            for tag in names
        }
    finally:
        board.terminate()
        board.wait()
    others = [name for name in ("aim", "mlflow") if importlib.util.find_spec(name)]
    told = {"seconds": seconds, "status": status, "runs": list(tags), "scalars": scalars, "others": others}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
