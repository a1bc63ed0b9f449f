"""What all tests of the product share."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark that says which check a test has seen to fail."""
    config.addinivalue_line(
        "markers", "seen_to_fail(*ids): in this test the checks with these identifiers go red for the right reason"
    )
