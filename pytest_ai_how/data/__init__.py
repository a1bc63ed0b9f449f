"""Data sets: which files they are, and the cache that they lie in."""

from pytest_ai_how.data.cache import Cache
from pytest_ai_how.data.manifest import DataSet, File, load_manifest

__all__ = ["Cache", "DataSet", "File", "load_manifest"]
