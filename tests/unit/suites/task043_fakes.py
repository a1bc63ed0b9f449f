"""Machines that pretend to run containers: each answers as a real one did (tests/data/apptainer), or edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_ai_how.assets import asset
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.services.apptainer import CONFIG, POLICY
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import Answer, FakeTransport
from suites.phase6._slurm_payloads import payload
from tests.fakes import fake_cluster
from tests.unit.suites.task042_fakes import Rules

DATA = Path(__file__).parents[2] / "data" / "apptainer"
ROOT = "/mnt/shared/containers"
GOOD, OTHER = "a" * 64, "b" * 64
BASE = f"{ROOT}/base-images/base.sif"
CATALOG = (
    f'images: [{{name: base, file: base-images/base.sif, digest: "sha256:{GOOD}", size: 55697408}}, '
    f'{{name: pytorch, file: ml-frameworks/pytorch.sif, digest: "sha256:{GOOD}", size: 55697408}}]'
)
# What readlink said of /proc/self/ns of the job user's process outside, when the facts were captured.
OUTSIDE = {"user": 4026531837, "mnt": 4026532487, "pid": 4026532490, "ipc": 4026532489, "net": 4026532486}
OUTSIDE["uts"] = 4026532488
Edit = Callable[[dict[str, Any], tuple[str, ...]], None]
COMPUTE = ("node01", "node02")


def said(name: str) -> str:
    """What Apptainer 1.4.5 or a payload said."""
    return (DATA / f"1.4.5-{name}").read_text()


def runs(name: str, *words: str) -> Callable[[tuple[str, ...]], bool]:
    """Match a command that has the payload ``name`` and all of ``words`` in it."""
    text = payload(name)

    def runs_payload(argv: tuple[str, ...]) -> bool:
        return text in argv and set(words) <= set(argv)

    return runs_payload


def facts(node: str, edit: Edit | None = None) -> Answer:
    """What container-facts.py tells on a node that is in order; ``edit`` breaks it."""

    def tell(argv: tuple[str, ...]) -> str:
        flags = [word for word in argv if word in ("--cleanenv", "--containall", "--pid")]
        kind = (
            {"--cleanenv": "-cleanenv", "--containall": "-containall", "--pid": "-pid-ipc"}[flags[0]] if flags else ""
        )
        found = json.loads(said(f"facts{kind}.json"))
        found["node"] = node
        for word in argv:
            if word.startswith(("--env=", '--env="')):
                name, _, value = word.removeprefix("--env=").strip('"').partition("=")
                found["values"][name] = value
        private = bool({"--contain", "--containall"} & set(argv))
        folders = argv[argv.index(payload("container-facts.py")) + 1 :]
        found["witnesses"] = dict.fromkeys(folders, None if private else "host")
        found["writes"] = {folder: "EROFS" if folder == "/data/ro" else "OK" for folder in folders}
        if edit:
            edit(found, argv)
        return json.dumps(found)

    return tell


def installed(**versions: str) -> str:
    """What dpkg-query says of the role's packages: version 1-1 each, but for those named (_ for -)."""
    names = ("apptainer", "fuse3", "squashfs-tools", "squashfuse")
    return "".join(f"{name}\t{versions.get(name.replace('-', '_'), '1-1')}\tinstalled\n" for name in names)


def usual(node: str) -> Rules:
    """The answers of a machine that is in order."""
    return [
        ("apptainer --version", said("version.txt")),
        ("apptainer buildcfg", said("buildcfg.txt")),
        ("apptainer sif list", said("sif-list.txt")),
        ("dpkg-query", installed()),
        ("find -L", ""),
        ("getent passwd hpc", "hpc:x:1000:1000::/home/hpc:/bin/bash\n"),
        ("readlink", "".join(f"{name}:[{number}]\n" for name, number in OUTSIDE.items())),
        (("stat", "--format=%U %s"), "hpc 14\n"),
        ("stat --format=%s", "55697408\n"),
        ("sha256sum -- /etc/passwd", "1  /etc/passwd\n2  /etc/shadow\n"),
        ("sha256sum", f"{GOOD}  file\n"),
        (runs("container-facts.py"), facts(node)),
        (runs("container-escalate.py"), said("escalate.json")),
        (lambda argv: argv[:2] == ("apptainer", "run"), "42\n"),
        *((quiet, "") for quiet in ("mkdir", "tee", "rm", "cp", "mv", "chown")),
    ]


def machines(broken: Mapping[str, Rules] | None = None) -> Cluster:
    """The cluster of ``configs/local.yaml``; ``broken`` has, by node, answers that come before the usual ones."""
    answers = {name: [*(broken or {}).get(name, ()), *usual(name)] for name in ("controller", *COMPUTE)}
    shipped = asset("provisioning/roles/apptainer/files")
    files = {path: (shipped / path.removeprefix("/")).read_bytes() for path in (CONFIG, POLICY)}
    return fake_cluster(answers, files=files | {f"{ROOT}/.registry/catalog.yaml": CATALOG.encode()})


def with_file(cluster: Cluster, node: str, path: str, content: str | None) -> Cluster:
    """The same cluster, with another content of a file on one node, or without it."""
    files = transport(cluster, node).files
    if content is None:
        del files[path]
    else:
        files[path] = content.encode()
    return cluster


def transport(cluster: Cluster, node: str) -> FakeTransport:
    """The pretended way to a node, with the commands that it was asked."""
    found = cluster[node].transport
    assert isinstance(found, FakeTransport)
    return found


def failed(text: str, status: int = 255) -> Result:
    """A command that ends badly and says why."""
    return Result((), status, "", text)
