"""BeeGFS on a cluster, of either generation."""

from pytest_ai_how.services.beegfs.facts import Entry, Kind, Package, Route, Server, Target
from pytest_ai_how.services.beegfs.service import BeeGfs

__all__ = ["BeeGfs", "Entry", "Kind", "Package", "Route", "Server", "Target"]
