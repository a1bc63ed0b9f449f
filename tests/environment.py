"""The environment in which the tests start the product's own processes."""

from __future__ import annotations

import os


def clean_environment() -> dict[str, str]:
    """Ours without what would configure the product or pytest: those processes get what the test gives them."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AI_HOW_", "PYTEST_"))}


def outside_of_make() -> dict[str, str]:
    """The environment without what a make that runs us put into it: a make below would speak of folders."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
