"""README.md as data: its fenced blocks, its commands, and where each command is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.environment import clean_environment

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_FENCE = re.compile(r"^```(?P<language>\w+) ?(?P<file>\S*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; ``file`` is the name behind the language, ``line`` the number of its first line."""

    language: str
    file: str
    body: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, without its comment, and the output that the page shows for it."""

    text: str
    output: tuple[str, ...]
    line: int
    prompt: str = "$"


def blocks(language: str, text: str = "") -> list[Block]:
    """The page's fenced blocks in ``language``, in order."""
    page = text or README.read_text(encoding="utf-8")
    found = [
        Block(match["language"], match["file"], match["body"], page.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(page)
    ]
    return [block for block in found if block.language == language]


def commands(text: str = "") -> list[Command]:
    """The page's commands, in order."""
    return [command for block in blocks("console", text) for command in _commands(block)]


def _commands(block: Block) -> list[Command]:
    found: list[Command] = []
    for number, line in enumerate(block.body.splitlines(), block.line):
        if line.startswith(("$ ", "# ")):
            found.append(Command(re.sub(r"\s+#.*", "", line[2:]), (), number, line[0]))
        else:
            last = found.pop()
            found.append(Command(last.text, (*last.output, line), last.line, last.prompt))
    return found


def write_files(folder: Path) -> list[str]:
    """Write each named block of the page into ``folder``; their names."""
    named = [block for language in ("yaml", "python") for block in blocks(language) if block.file]
    for block in named:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.body, encoding="utf-8")
    return [block.file for block in named]


@dataclass(frozen=True, slots=True)
class Shell:
    """A folder in which the page's commands are run, away from the checkout, with state of its own."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the commands: this interpreter's programs first, nothing of our own options."""
        clean = clean_environment()
        path = f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', os.defpath)}"
        mine = {"PATH": path, "XDG_STATE_HOME": str(self.folder / "state"), "COLUMNS": "160"}
        return {**clean, **mine, "AI_HOW_REPORTS": str(self.folder / "reports")}

    def run(self, text: str, within: float = 60.0) -> tuple[int, str]:
        """Run a command line that needs no shell; status and both outputs. ``within`` in seconds."""
        done = subprocess.run(
            shlex.split(text), cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=within, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout


def shown_is_true(shown: tuple[str, ...], said: str, *, numbers: bool = True) -> list[str]:
    """The lines that the page shows and that were not said, in order. Without ``numbers``, any number will do."""
    left = [_plain(line, numbers) for line in said.splitlines()]
    missing = []
    for line in shown:
        if _plain(line, numbers) in left:
            left = left[left.index(_plain(line, numbers)) + 1 :]
        else:
            missing.append(line)
    return missing


def _plain(line: str, numbers: bool) -> str:
    return line.rstrip() if numbers else _NUMBER.sub("N", line).rstrip()


_CI = "a fresh machine runs it: .ci/run and the jobs of .github/workflows/ci.yml"
_MINUTES = "is all of phase 6: `make validate` and `make bench` run it"
# Commands that neither tests/unit/test_docs.py nor tests/integration/test_docs.py runs, and why.
ELSEWHERE = MappingProxyType(
    {
        "apt-get install -y git make": _CI,
        "git clone URL pytest-ai-how && cd pytest-ai-how": _CI,
        "make validate": _CI,
        "make test": "runs the tests that you are reading",
        "pytest-ai-how images prune": "removes what others may use: tests/unit/image/test_commands.py runs it",
        "pytest suites/phase0 suites/phase1 suites/phase2 suites/phase5 --cluster=local -n3": (
            "tests/integration/test_phases.py runs it on a cluster like it"
        ),
        "pytest suites/mlops/training suites/mlops/distributed --cluster=local -n3": (
            "tests/integration/test_phases.py runs both on a cluster like it"
        ),
        "pytest suites/mlops/oumi --cluster=mlops": "builds an image for ten minutes; its checks have unit tests",
        "pytest suites/phase4 --cluster=local": "tests/integration/test_phase4.py runs it on a small cluster",
        "pytest suites/phase6 --cluster=local": _MINUTES,
        "pytest suites/phase6 --cluster=vm": "takes half an hour emulated; tests/integration/libvirt runs its parts",
        "pytest suites/phase1 --cluster=vm": "tests/integration/libvirt/test_phase1.py runs it on a small cluster",
        "pytest suites/phase6 --cluster=local -n4": _MINUTES,
    }
)
# Commands that need neither root nor a cluster: tests/unit/test_docs.py runs them as they stand; exit status.
UNIT = MappingProxyType(
    {
        "pytest-ai-how images list": 0,
        "pytest-ai-how inventory pci": 0,
        "pytest-ai-how inventory pci --yaml": 0,
        "pytest --pyargs pytest_ai_how.suites.phase0 --cluster=workstation --plan": 0,
        "pytest --pyargs pytest_ai_how.suites.phase3 --cluster=beegfs --plan": 0,
        "pytest --pyargs pytest_ai_how.suites.phase6 --cluster=gpus --plan": 0,
        "pytest --pyargs pytest_ai_how.suites.mlops.training --cluster=host --plan": 0,
        "pytest-ai-how cache list": 0,
        "pytest --cluster=typo.yaml --plan": 4,
        "pytest --pyargs pytest_ai_how.suites.phase6 --cluster=my-site.yaml --plan": 0,
        "pytest my_site/test_clocks_seen_to_fail.py": 0,
    }
)

# Commands that tests/integration/test_docs.py runs, in this order, and what each must say (regular expressions).
ON_A_CLUSTER = MappingProxyType(
    {
        "pytest suites/phase6 --cluster=local --plan": [r"^cluster lab, driver nspawn$", r"^\d+ tests would run"],
        "pytest suites/phase6 --cluster=local -k srun": [r"^verdict: FIT", r"^TASK-042 "],
        "pytest-ai-how up": [r"^cluster lab is up \("],
        "pytest suites/phase6 --cluster=local --cluster-keep=always -k srun": [
            r"found up and used again",
            r"^verdict: FIT",
            r"^cluster lab is kept: ",
        ],
        "pytest-ai-how status": [r"^lab: kept, up for \d+ s", r"^  slurm +done"],
        "pytest-ai-how exec --on compute -- nproc": [r"^node01: \d+$"],
        "pytest-ai-how ssh controller -- sinfo --summarize": [r"^PARTITION ", r"^gpu\*"],
        "pytest-ai-how down": [r"^cluster lab is down, nothing of it remains"],
        "pytest-ai-how images verify base": [r"^base +\w+ +verified"],
        "pytest-ai-how report last": [r"^verdict: FIT"],
        "pytest-ai-how report last --html last.html": [r"last\.html"],
        "pytest-ai-how compare RUN last": [r"^RUN: FIT → "],
        "pytest suites/phase6 --cluster=my.yaml -k idle": [r"^verdict: FIT"],
        "pytest --pyargs pytest_ai_how.suites.phase6 --cluster=my-site.yaml": [
            r"^ai-how: cluster site, driver ssh \(as configured; existing machines, nothing is provisioned\)",
            r"^verdict: FIT — 2 of 2 checks passed",
        ],
        "pytest my_site/test_clocks.py --cluster=my.yaml --limits=my_site/limits.yaml": [
            r"^verdict: FIT — 1 of 2 checks passed",
            r"site\.clock_offset +[\d.e-]+ s",
            r"to the chat: lab is fit$",
        ],
        "pytest-ai-how reap --dry-run": [r"^lab: would be taken down$"],
        "pytest-ai-how reap": [r"^lab: taken down, nothing remains$"],
    }
)


def on_a_small_cluster(text: str) -> str:
    """The command as tests/integration/test_docs.py runs it.

    It stands as it is, but for the cluster: the page's own small one in place of ``local``, which somebody may be
    using, and two checks in place of all. What is kept of both is what the command does.
    """
    words = shlex.split(text)
    words = [str(ROOT / word) if word.startswith("suites/") else word for word in words]
    words = ["--cluster=my.yaml" if word == "--cluster=local" else word for word in words]
    if words[0] == "pytest-ai-how" and words[1] in ("up", "down", "ssh", "exec"):
        words[2:2] = ["--cluster", "my.yaml"]
    if words[0] == "pytest" and not {"-k", "--plan"} & set(words) and "suites" in text:
        words += ["-k", "test_srun_reaches_each_node or idle_or_mixed"]
    return shlex.join(words)
