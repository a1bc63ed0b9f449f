"""The plugin's options: command line before environment before ini file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import pytest

Keep = Literal["never", "failed", "always"]
KEEP: tuple[Keep, ...] = get_args(Keep)
Scale = Literal["smoke", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
NO_CLUSTER = "no cluster: give --cluster=NAME"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``--cluster-keep``, ``AI_HOW_CLUSTER_KEEP`` and ``ai_how_cluster_keep`` are the same one."""

    name: str
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """As it is written on the command line."""
        return f"--{self.name}"

    @property
    def key(self) -> str:
        """As it is written in an ini file; in upper case, in the environment."""
        return f"ai_how_{self.name.replace('-', '_')}"

    @property
    def switch(self) -> bool:
        """Whether it has no value."""
        return not self.metavar and not self.choices


OPTIONS = (
    Option("cluster", "the cluster to validate: a shipped name, a YAML file, or one of FILE/NAME", metavar="NAME|FILE"),
    Option("cluster-keep", "whether the cluster stays after the run (default: never)", choices=KEEP),
    Option("plan", "say what would be made and run, then stop"),
    Option("allow-disruptive", "run disruptive checks on a cluster that we did not make, too"),
    Option("reports", "where the run's folder is made (default: reports)", metavar="DIR"),
    Option("limits", "the limits to judge by (default: what the cluster's YAML says)", metavar="NAME"),
    Option("scale", "how much work the suites of MLOps do (default: smoke)", choices=SCALES),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options as given. ``reports`` is the absolute folder that runs lie in; an empty ``cluster`` is none."""

    cluster: str = ""
    keep: Keep = "never"
    plan: bool = False
    allow_disruptive: bool = False
    reports: str = ""
    limits: str = ""
    scale: Scale = "smoke"

    @property
    def absent(self) -> dict[str, str]:
        """Each capability that the options alone rule out, with the reason."""
        return {} if self.scale == "full" else {"scale.full": f"--scale is {self.scale}; --scale=full has it"}


def declare(parser: pytest.Parser) -> None:
    """Declare the options and their ini forms."""
    group = parser.getgroup("ai-how", "validation of AI clusters")
    for option in OPTIONS:
        if option.switch:
            group.addoption(option.flag, dest=option.key, action="store_true", default=None, help=option.help)
        else:
            group.addoption(
                option.flag,
                dest=option.key,
                default=None,
                metavar=option.metavar or "|".join(option.choices),
                help=option.help,
            )
        parser.addini(option.key, f"{option.help} (as {option.flag})", default="")


def read(config: pytest.Config, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a session. Raises :class:`pytest.UsageError` for a value that an option does not have."""
    found = {option.name: _value(config, option, environ) for option in OPTIONS}
    cluster, origin = found["cluster"]
    return Settings(
        cluster=_absolute(config, cluster, origin) if origin == "ini" and _is_file(cluster) else cluster,
        keep=cast(Keep, found["cluster-keep"][0] or "never"),
        plan=found["plan"][0] in _TRUE,
        allow_disruptive=found["allow-disruptive"][0] in _TRUE,
        reports=_absolute(config, *found["reports"]) if found["reports"][0] else str(config.rootpath / "reports"),
        limits=found["limits"][0],
        scale=cast(Scale, found["scale"][0] or "smoke"),
    )


def _value(config: pytest.Config, option: Option, environ: Mapping[str, str]) -> tuple[str, str]:
    """The value and where it was given: ``command line``, ``environment`` or ``ini``."""
    given = config.getoption(option.key, None)
    if given is not None:
        text, origin = ("1" if given is True else str(given)), "command line"
    elif variable := environ.get(option.key.upper(), ""):
        text, origin = variable, "environment"
    else:
        text, origin = str(config.getini(option.key)), "ini"
    _judge(config, option, text, origin)
    return text.lower() if option.switch else text, origin


def _judge(config: pytest.Config, option: Option, text: str, origin: str) -> None:
    names = {"command line": option.flag, "environment": option.key.upper()}
    where = names.get(origin) or f"{config.inipath}: {option.key}"
    if option.choices and text and text not in option.choices:
        raise pytest.UsageError(f"{where}: {text!r}\n  expected: {', '.join(option.choices)}")
    if option.switch and text.lower() not in (*_TRUE, *_FALSE):
        raise pytest.UsageError(f"{where}: {text!r}\n  expected: true or false")
    if origin == "command line" and not option.switch and not text:
        raise pytest.UsageError(f"{where}: is empty\n  expected: {option.metavar or ', '.join(option.choices)}")


def _is_file(cluster: str) -> bool:
    if not cluster:  # without one the plugin is to cost nothing
        return False
    from pytest_ai_how.config.reference import names_a_file

    return names_a_file(cluster)


def _absolute(config: pytest.Config, text: str, origin: str) -> str:
    """A path as its giver meant it: relative to the root folder in an ini file, else to where pytest was started."""
    start = config.rootpath if origin == "ini" else config.invocation_params.dir
    return str(start / Path(text).expanduser())
