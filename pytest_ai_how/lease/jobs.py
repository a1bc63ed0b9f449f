"""Where the files of jobs lie on the shared storage, and which folder of them has to go from one that is not ours."""

from __future__ import annotations

import hashlib
import os
import platform
import re

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.lease.state import PRODUCT, cluster_state

#: The kind of entry for such a folder; see :class:`pytest_ai_how.drivers.jobs.Jobs`.
JOBS = "jobs"
_OURS = re.compile(rf"/(.+/)?{PRODUCT}-[a-z0-9-]+-[0-9a-f]{{12}}")


def jobs_folder(config: ClusterConfig) -> str:
    """The folder of all jobs of a cluster's lease.

    On storage of others no other account, host or state folder gives the same name, so that two who validate one
    site at once don't meet, and who removes it removes nothing else.
    """
    if config.is_ours:
        return f"{config.storage.mount}/jobs"
    who = f"{platform.node()}:{os.getuid()}:{cluster_state(config.name)}"
    return f"{config.storage.mount}/{PRODUCT}-{config.name}-{hashlib.sha256(who.encode()).hexdigest()[:12]}"


def leaves_jobs(config: ClusterConfig) -> bool:
    """Whether jobs leave a folder that goes with nothing else."""
    return not config.is_ours and config.slurm is not None and config.storage.kind not in ("none", "scratch")


def is_jobs_folder(path: str) -> bool:
    """Whether a path can have been made by :func:`jobs_folder`, on whatever host that was.

    >>> is_jobs_folder("/mnt/shared/pytest-ai-how-site-f47706d11394"), is_jobs_folder("/mnt/shared")
    (True, False)
    """
    return _OURS.fullmatch(path) is not None and ".." not in path.split("/")
