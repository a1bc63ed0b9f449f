"""The shared file system: whether it is mounted everywhere, and how fast it is."""

from pytest_ai_how.services.storage.medium import Bare, Medium
from pytest_ai_how.services.storage.service import Storage

__all__ = ["Bare", "Medium", "Storage"]
