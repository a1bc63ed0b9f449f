"""The cluster's record on disk and its locks: what survives a crash, and how what is left behind is undone."""
