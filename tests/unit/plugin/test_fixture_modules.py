"""Every module of fixtures is one that the plugin brings."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from pytest_ai_how import plugin


def test_the_plugin_names_every_module_of_fixtures() -> None:
    # They lie beside the library and are mapped into it, which only the installation knows.
    fixtures = import_module("pytest_ai_how.fixtures")
    [folder] = [Path(place) for place in fixtures.__path__]
    there = {f"{fixtures.__name__}.{path.stem}" for path in folder.glob("[a-z]*.py")}
    assert there
    assert there - set(plugin.pytest_plugins) == set()
