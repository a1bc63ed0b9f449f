"""The shared file system: whether it is mounted everywhere, and how fast it is."""

from pytest_ai_how.services.storage.service import Medium, Storage

__all__ = ["Medium", "Storage"]
