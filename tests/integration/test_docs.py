"""The commands of README.md that need machines, run in the order of the page on the page's own small cluster."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from pytest_ai_how.deadline import wait_for
from suites.phase6._inventory import inventory
from tests.readme import ON_A_CLUSTER, Shell, commands, on_a_small_cluster, shown_is_true, write_files

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]
# Seconds for one command: twenty times what the longest takes.
WITHIN = 240.0


def test_the_page_from_top_to_bottom(tmp_path: Path) -> None:
    """Each command does what it says, and at the end nothing is left of the cluster."""
    write_files(tmp_path)
    shell = Shell(tmp_path)
    before = ours()
    assert not before, "left over from before this test"
    try:
        for command in commands():
            if command.text not in ON_A_CLUSTER:
                continue
            if command.text.startswith("pytest-ai-how reap --dry-run"):
                killed_run(shell)
            if "--cluster=my-site.yaml" in command.text:
                existing_cluster(shell)
            text, run = with_run(on_a_small_cluster(command.text), tmp_path)
            status, said = shell.run(text, WITHIN)
            assert status == 0, f"README.md:{command.line}: `{text}` ended with {status}\n{said}"
            for pattern in ON_A_CLUSTER[command.text]:
                found = re.search(pattern.replace("RUN", re.escape(run)), said, re.MULTILINE)
                assert found, f"README.md:{command.line}: `{text}` does not say {pattern!r}\n{said}"
            assert shown_is_true(command.output, said, numbers=False) == [], said
            if "--cluster=my-site.yaml" in command.text:
                assert shell.run("pytest-ai-how down --cluster lab", WITHIN)[0] == 0
    finally:
        shell.run("pytest-ai-how reap --cluster lab", WITHIN)
    assert (tmp_path / "last.html").read_text().startswith("<!doctype html>")
    assert ours() == []
    assert not (tmp_path / "state" / "pytest-ai-how" / "lab").exists()


def ours() -> list[str]:
    """What the host holds of the page's cluster."""
    return sorted(one for one in inventory("lab") if one.startswith("process ") or "lab" in one)


def with_run(text: str, folder: Path) -> tuple[str, str]:
    """The command with the oldest run of this test in the place of RUN, and that run."""
    runs = sorted(path.parent.name for path in (folder / "reports").glob("*/report.json"))
    run = runs[0] if runs else ""
    return " ".join(run if word == "RUN" else word for word in text.split(" ")), run


def existing_cluster(shell: Shell) -> None:
    """Bring the page's cluster up and describe it as somebody would who only has its addresses and a key."""
    status, said = shell.run("pytest-ai-how up --cluster my.yaml", WITHIN)
    assert status == 0, said
    keys = shell.folder / "state/pytest-ai-how/lab/machines/keys"
    site = yaml.safe_load((shell.folder / "my.yaml").read_text().replace("${LAB_CPUS:-2}", "2"))
    del site["network"]
    site |= {"name": "site", "driver": "ssh", "storage": {"kind": "existing", "mount": "/mnt/shared"}}
    site["ssh"] = {"user": "root", "key": str(keys / "id_ed25519"), "known_hosts": str(keys / "known_hosts")}
    (shell.folder / "my-site.yaml").write_text(yaml.safe_dump(site))


def killed_run(shell: Shell) -> None:
    """Bring the cluster up by a run that is killed by signal 9 while its machines are there."""
    (shell.folder / "test_forever.py").write_text(
        "import time, pathlib\ndef test_it(cluster):\n    pathlib.Path('begun').touch()\n    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        ["pytest", "test_forever.py", "--cluster=my.yaml"],
        cwd=shell.folder, env=shell.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for((shell.folder / "begun").exists, within=WITHIN, what="the test that is to be killed")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
