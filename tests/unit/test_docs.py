"""README.md says what the code does: its commands run, its examples pass, its names exist."""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pytest_ai_how import hookspecs
from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.cli.parser import build_parser
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.plugin import pytest_plugins
from pytest_ai_how.report.model import RunVerdict, Verdict
from pytest_ai_how.skin.marks import MARKS
from pytest_ai_how.skin.settings import OPTIONS
from tests.readme import (
    ELSEWHERE,
    ON_A_CLUSTER,
    README,
    ROOT,
    UNIT,
    Command,
    Shell,
    blocks,
    commands,
    on_a_small_cluster,
    shown_is_true,
    write_files,
)

PAGE = README.read_text(encoding="utf-8")
SUBCOMMANDS = ("up", "status", "ssh", "exec", "down", "reap", "images", "report", "compare", "inventory")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with the page's files in it."""
    write_files(tmp_path)
    shutil.copy(ROOT / "configs" / "site.yaml", tmp_path / "my-site.yaml")
    return Shell(tmp_path)


def the(text: str) -> Command:
    (found,) = [command for command in commands() if command.text == text]
    return found


def test_every_command_is_run_by_a_test_or_says_why_not() -> None:
    named = [*UNIT, *ON_A_CLUSTER, *ELSEWHERE]
    on_page = [command.text for command in commands()]
    assert sorted(named) == sorted(set(named)), "a command is in two of the tables"
    assert sorted(on_page) == sorted(named)
    assert all(len(reason) > 10 for reason in ELSEWHERE.values())


@pytest.mark.parametrize("text", [text for text in ELSEWHERE if text.startswith("pytest ")])
def test_what_takes_too_long_for_a_test_is_planned_at_least(text: str, shell: Shell) -> None:
    status, said = shell.run(f"{text.replace(' suites/', f' {ROOT}/suites/')} --plan")
    assert status == 0, said
    assert re.search(r"^[1-9]\d* tests would run", said, re.MULTILINE), said


def test_the_page_is_short_and_finished() -> None:
    assert len(PAGE.splitlines()) <= 400
    (table,) = re.findall(r"^\| measured on .*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [line.split("|")[2].strip() for line in table.splitlines()]
    assert len(rows) >= 5
    assert [
        row for row in rows if not re.fullmatch(r"[\d.]+ (s|min|min \d+ s)( / [\d.]+ (s|min|min \d+ s))?", row)
    ] == []


@pytest.mark.parametrize("text", UNIT)
def test_commands_without_a_cluster_do_what_the_page_shows(text: str, shell: Shell) -> None:
    status, said = shell.run(text)
    assert status == UNIT[text], said
    assert shown_is_true(the(text).output, said) == [], said
    left = {path.name for path in shell.folder.iterdir()} - {"__pycache__", ".pytest_cache"}
    assert "state" not in left, "the command made state"
    assert "reports" not in left, "the command wrote a report"


def test_the_configuration_error_is_shown_whole(shell: Shell) -> None:
    text = "pytest --cluster=typo.yaml --plan"
    _, said = shell.run(text)
    assert said.strip().splitlines() == list(the(text).output)


def test_the_plan_of_an_existing_cluster_says_that_nothing_is_made(shell: Shell) -> None:
    _, said = shell.run("pytest --pyargs pytest_ai_how.suites.phase6 --cluster=my-site.yaml --plan")
    assert "nothing is made: the machines exist already" in said
    assert re.search(r"^\d+ tests would run", said, re.MULTILINE), said
    assert "absent: owned: driver is ssh" in said


def test_the_plan_of_the_workstation_says_what_this_machine_lacks(shell: Shell) -> None:
    _, said = shell.run("pytest --pyargs pytest_ai_how.suites.phase0 --cluster=workstation --plan")
    for cluster in ("hpc-cluster", "cloud-cluster"):
        assert re.search(rf"^cluster {cluster}, driver libvirt$", said, re.MULTILINE), said
    assert "device 0000:01:00.0 is named by 2 machines: held by hpc-cluster/compute-01 from its start" in said
    lacking = {*re.findall(r"^not possible here(?:, once it is started)?: ([\w-]+): ", said, re.MULTILINE)}
    has_all = Path("/sys/bus/pci/devices/0000:01:00.0").exists() and Path("/sys/bus/pci/devices/0000:07:00.0").exists()
    assert has_all or lacking & {"localhost", "compute-01", "compute-02"}, said


def test_the_sample_cluster_is_valid_and_takes_its_environment(shell: Shell) -> None:
    path = str(shell.folder / "my.yaml")
    assert load_config(path, environ={}).nodes[1].cpus == 2
    assert load_config(path, environ={"LAB_CPUS": "3"}).nodes[1].cpus == 3


def test_the_schema_that_the_sample_names_is_there() -> None:
    (named,) = re.findall(r"\$schema=\./(\S+)", PAGE)
    assert (ROOT / named).is_file()


def test_all_examples_are_files_and_formatted(shell: Shell) -> None:
    """A block without a name would not be run by anything; ruff holds the examples to the style of the tests."""
    unnamed = [block.line for language in ("python", "yaml", "ini") for block in blocks(language) if not block.file]
    assert unnamed == []
    python = [str(shell.folder / block.file) for block in blocks("python")]
    assert len(python) == 3
    done = subprocess.run(
        ["ruff", "format", "--check", "--config", str(ROOT / "pyproject.toml"), *python],
        env=shell.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hooks_of_the_page_are_called(shell: Shell) -> None:
    status, said = shell.run("pytest my_site/test_clocks.py --cluster=my-site.yaml --limits=my_site/limits.yaml --plan")
    assert status == 0, said
    assert "absent: scratch: site has no scratch disks" in said
    assert "1 tests would run" in said
    (shell.folder / "my-site.yaml").write_text(
        (shell.folder / "my-site.yaml").read_text().replace("name: site", "name: big")
    )
    _, said = shell.run("pytest my_site/test_clocks.py --cluster=my-site.yaml --limits=my_site/limits.yaml --plan")
    assert "scratch" not in said
    assert "3 tests would run" in said, "one test of the cluster, one for each of two compute nodes"


def test_every_hook_of_the_page_exists_and_every_hook_is_on_the_page() -> None:
    known = {name for name in vars(hookspecs) if name.startswith("pytest_ai_how_")}
    (line,) = re.findall(r"^`(pytest_ai_how_configure)`, (.*)\. For example:$", PAGE, re.MULTILINE)
    assert {line[0], *(f"pytest_ai_how{name}" for name in re.findall(r"`(_\w+)`", line[1]))} == known
    (conftest,) = [block for block in blocks("python") if block.file.endswith("conftest.py")]
    assert {node.name for node in ast.parse(conftest.body).body if isinstance(node, ast.FunctionDef)} <= known


def test_the_table_of_options_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(--[^`]+)` \| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE)
    values = {one.name: one.metavar or "|".join(one.choices) for one in OPTIONS}
    wanted = [
        (one.flag + (f"={values[one.name]}" if values[one.name] else ""), one.key.upper(), one.key) for one in OPTIONS
    ]
    assert [(flag.replace("\\|", "|"), variable, ini) for flag, variable, ini in rows] == wanted


def test_pytest_help_has_every_option_of_the_page(shell: Shell) -> None:
    status, said = shell.run("pytest --help")
    assert status == 0
    for one in OPTIONS:
        assert re.search(rf"^  {one.flag}\b", said, re.MULTILINE), one.flag
        assert re.search(rf"^  {one.key} \(string\)", said, re.MULTILINE), one.key


def test_options_in_other_words_of_the_page_exist() -> None:
    known = {one.flag for one in OPTIONS} | {
        flag for name in SUBCOMMANDS for action in parser_of(name)._actions for flag in action.option_strings
    }
    # options of programs that are not ours
    known |= {"--summarize", "--pyargs"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - known == set()


def parser_of(name: str) -> argparse.ArgumentParser:
    (choices,) = [action.choices for action in build_parser([name])._actions if action.choices]
    found = dict(choices)[name]  # type: ignore[call-overload]  # a mapping for sub-commands, typed as any container
    assert isinstance(found, argparse.ArgumentParser)
    return found


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_explains_itself(name: str) -> None:
    text = parser_of(name).format_help()
    assert f"usage: pytest-ai-how {name}" in text
    undocumented = [action.dest for action in parser_of(name)._actions if not action.help]
    assert undocumented == []


def test_help_names_the_subcommands_and_exit_statuses(shell: Shell) -> None:
    status, said = shell.run("pytest-ai-how --help")
    assert status == 0
    assert [name for name in SUBCOMMANDS if not re.search(rf"^    {name}\b", said, re.MULTILINE)] == []
    assert "exit status: 0 done; 1 failed" in said


def test_every_command_line_of_the_page_parses() -> None:
    """Also those that are not run, and the form in which others are."""
    for command in commands():
        for text in (command.text, on_a_small_cluster(command.text)):
            words = text.split()
            if words[0] == "pytest-ai-how":
                assert build_parser(words[1:]).parse_args(words[1:]).command == words[1]


def test_verdicts_fixtures_and_marks_of_the_page_are_those_of_the_code() -> None:
    shown = set(re.findall(r"^\| `([a-z ]+)` \| ", PAGE, re.MULTILINE))
    assert shown == {one.words for one in Verdict} - {"missing", "not selected"}
    assert "`missing`" in PAGE
    assert "`not selected`" in PAGE
    for one in RunVerdict:
        assert f"`{one.value}`" in PAGE
    (sentence,) = re.findall(r"A check is a function over fixtures: (.*?)\.\sThe\smark", PAGE, re.DOTALL)
    defined = {
        node.name
        for module in pytest_plugins
        for node in ast.parse((ROOT / f"{module.replace('pytest_ai_how.', '').replace('.', '/')}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and any("fixture" in ast.dump(one) for one in node.decorator_list)
    }
    assert set(re.findall(r"`(\w+)`", sentence)) <= defined
    marks = {line.partition("(")[0].partition(":")[0] for line in MARKS}
    assert {"check", "on", "requires", "exclusive", "disruptive"} <= marks


def test_the_summary_on_the_page_speaks_of_the_catalogue() -> None:
    (text,) = [block.body for block in blocks("text") if block.body.startswith("verdict: ")]
    catalogue = load_catalogue()
    tasks = re.findall(r"^(TASK-\d+) (.*?)  ", text, re.MULTILINE)
    assert len(tasks) >= 5
    for task, title in tasks:
        assert catalogue.task_title(task).startswith(title.rstrip("…")), task
    rows = set(re.findall(r"\b[A-Z]{3}-\d\d\b", text))
    assert rows
    assert rows - set(catalogue) == set()
    metrics = yaml.safe_load((ROOT / "configs" / "limits" / "local.yaml").read_text(encoding="utf-8"))["metrics"]
    figures = set(
        re.findall(
            r"\b(?:storage|slurm|registry|container|cluster|suite)\.[a-z_0-9.]+\b", text.partition("\nfigure ")[2]
        )
    )
    assert figures
    assert figures - set(metrics) == set()


def test_the_layout_on_the_page_is_that_of_the_repository() -> None:
    (text,) = [block.body for block in blocks("text") if block.body.startswith("pytest_ai_how/")]
    folders = re.findall(r"^(\S+)/ ", text, re.MULTILINE)
    assert len(folders) <= 15
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_files_that_the_page_names_exist() -> None:
    for name in ("configs/site.yaml", "configs/checks.yaml", "configs/limits/local.yaml", "pytest_ai_how/hookspecs.py"):
        assert f"`{name}`" in PAGE
        assert (ROOT / name).is_file()


def test_make_targets_that_the_page_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for words in re.findall(r"`make ([a-z ]+)`", PAGE) for target in words.split()}
    assert {"lint", "types", "unit", "integration", "bench"} <= named
    assert named <= targets


def test_a_command_that_shows_what_is_not_said_is_noticed() -> None:
    """The comparison itself can fail."""
    page = "```console\n$ one --two  # three\nfirst 1.5 s\nsecond\n# as-root\n```\n"
    first, second = commands(page)
    assert (first.text, first.output, first.line) == ("one --two", ("first 1.5 s", "second"), 2)
    assert (second.text, second.prompt) == ("as-root", "#")
    assert shown_is_true(first.output, "zero\nfirst 1.5 s\nsecond\n") == []
    assert shown_is_true(first.output, "second\nfirst 1.5 s\n") == ["second"]
    assert shown_is_true(first.output, "first 9 s\nsecond\n") == ["first 1.5 s"]
    assert shown_is_true(first.output, "first 9 s\nsecond\n", numbers=False) == []
