"""Where jobs run on a cluster that has no Slurm."""

from __future__ import annotations

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.launch.direct import DirectLauncher


def direct(cluster: Cluster, run_id: str, *, nv: bool = False) -> DirectLauncher:
    """Jobs on the first compute node, in a folder of this run: on the shared storage, or the job user's home."""
    storage, node = cluster.config.storage, cluster.on("compute")[0]
    if cluster.config.launcher == "direct":
        # The machine is somebody's, and whoever runs us is who works there: no account is looked for, nothing is left.
        if storage.kind == "none":
            raise AiHowError(
                cluster.name,
                "has no folder for jobs: storage.kind is none",
                cure="say storage: {kind: scratch, mount: /var/tmp/ai-how}",
            )
        return DirectLauncher(node, f"{storage.mount}/jobs/{run_id}", nv=nv)
    # Whoever logs in may be the job user; then nobody else need be become, for which one would have to be root.
    name = cluster.config.user
    user = None if node.run("id", "-un").stdout.strip() == name else name
    if storage.kind == "none":
        top = node.run("sh", "-c", 'printf %s "$HOME"', user=user).stdout + "/ai-how-jobs"
    else:
        top = f"{storage.mount}/jobs"
        if user:  # the mount belongs to root where nobody has opened it to the job user yet
            node.run("install", "-d", "-m", "0755", "-o", user, "--", top)
    return DirectLauncher(node, f"{top}/{run_id}", user, nv=nv)
