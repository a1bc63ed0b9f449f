"""``up``, ``down``, ``reap``: a cluster's life outside pytest."""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid

from pytest_ai_how.bringup import Bringup, claim, left_faulty, services_of
from pytest_ai_how.config.forms import EXISTING
from pytest_ai_how.config.loader import config_names, load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.outlive import keep, name_copies
from pytest_ai_how.drivers.protocol import Driver, Power
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease import reap as reaping
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.state import checked_name, cluster_state, failed_folder, private_folder
from pytest_ai_how.lease.undo import describe
from pytest_ai_how.lease.undoers import found_by_mark
from pytest_ai_how.progress import Progress, progress_on
from pytest_ai_how.report.redact import Redactor


def up(args: argparse.Namespace) -> int:
    """Bring a cluster up, or find it up, and keep it. When that fails, all but its consoles is taken down."""
    from pytest_ai_how.drivers.select import choose_driver

    config = load_config(args.cluster)
    started = time.monotonic()
    with progress_on() as progress:
        attached = bring_up(config, choose_driver(config, progress), progress)
    how = "was up already" if attached else "is up"
    sys.stdout.write(
        f"cluster {config.name} {how} ({time.monotonic() - started:.1f} s)\n{usage(config, args.cluster)}\n"
    )
    return 0


def bring_up(config: ClusterConfig, driver: Driver, progress: Progress) -> bool:
    """Make all that the configuration names ready and keep it; whether it was there already."""
    lease = Lease.acquire(config.name, new_run("up"), claim(config, driver))
    bringup = Bringup(config, driver, lease, progress)
    if lease.spoilt:
        progress.say(config.name, left_faulty(lease.spoilt, ours=config.is_ours))
    try:
        reaping.forget_failures([failed_folder(config.name)])
        bringup.cluster()
        bringup.ready_all(services_of(config))
    except BaseException as error:
        if isinstance(error, AiHowError) and not lease.attached:
            _keep_consoles(config, driver, error)
        # One that was up before is somebody's: it may hold what they want to look at.
        progress.say(config.name, "leaving it as it was" if lease.attached else "taking down what was made")
        lease.release(keep="always" if lease.attached else "never")
        raise
    finally:
        bringup.close()
    lease.release(keep="always")
    return lease.attached


def _keep_consoles(config: ClusterConfig, driver: Driver, error: AiHowError) -> None:
    """Keep what the machines said until the next ``up`` or ``reap``, and let the error name it: they go now."""
    if not isinstance(driver, Power):
        return
    redactor, folder = Redactor(), failed_folder(config.name)
    try:
        redactor.register(*driver.secrets(config))
        if consoles := driver.consoles(config):
            keep(consoles, private_folder(folder), redactor.data)
            name_copies(error, consoles, folder)
    except (AiHowError, OSError) as why:  # what was made is to be taken down all the same
        error.add_note(f"the consoles are not kept: {why}")


def usage(config: ClusterConfig, cluster: str) -> str:
    """How to use, look into and take down a kept cluster: the last lines of a run that keeps one."""
    node = config.nodes[0].name
    option = f" --cluster {config.name}" if config.name != "local" else ""
    return (
        f"  validate   pytest --pyargs pytest_ai_how.suites.phase6 --cluster={cluster} --cluster-keep=always\n"
        f"  look       {look_inside(config, option, node)}\n"
        f"  take down  pytest-ai-how down{option}"
    )


def look_inside(config: ClusterConfig, option: str, node: str) -> str:
    """The command that shows a machine from inside; this one needs no login."""
    return f"pytest-ai-how exec{option} -- COMMAND" if config.driver == "host" else f"pytest-ai-how ssh{option} {node}"


def down(args: argparse.Namespace) -> int:
    """Take a cluster down."""
    name = cluster_name(args.cluster)
    started = time.monotonic()
    fault = _fault_elsewhere(reaping.status(name))
    if reaping.take_down(name, new_run("down")):
        if fault:
            sys.stderr.write(f"{name}: {fault}\n")
        sys.stdout.write(f"cluster {name} is down, nothing of it remains ({time.monotonic() - started:.1f} s)\n")
    else:
        sys.stdout.write(f"cluster {name}: there is none\n")
    reaping.forget_failures([failed_folder(name)])
    return 0


def reap(args: argparse.Namespace) -> int:
    """Take down orphans. One that can't be taken down does not keep the others from it."""
    if args.force is not None:
        name = args.force or args.cluster
        if not name:
            raise AiHowError("reap", "--force needs the name of a cluster", cure="pytest-ai-how reap --force NAME")
        return _force(checked_name(name), args.dry_run)
    names = [cluster_name(args.cluster)] if args.cluster else reaping.clusters()
    failures = [error for name in names if (error := _reap(name, bool(args.cluster), args.dry_run))]
    _clean_halves(args.dry_run)
    for failure in failures:
        sys.stderr.write(f"{failure}\n")
    return 1 if failures else 0


def _reap(name: str, also_kept: bool, dry_run: bool) -> AiHowError | None:
    try:
        _say(f"{name}: {_reap_one(name, also_kept, dry_run)}")
    except AiHowError as error:
        return error
    return None


def _reap_one(name: str, also_kept: bool, dry_run: bool) -> str:
    found = reaping.status(name)
    if found.problem:
        raise found.problem
    if found.owner:
        return f"in use by {found.owner}; left alone"
    if found.condition == "kept" and not also_kept:
        return f"kept; left alone (pytest-ai-how down --cluster {name})"
    if dry_run:
        return "\n  ".join(["would be taken down", *map(describe, reversed(found.pending))])
    fault = _fault_elsewhere(found)
    if not reaping.take_down(name, new_run("reap")):
        return "there is none"
    return f"taken down, nothing remains{f' but: {fault}' if fault else ''}"


def _fault_elsewhere(found: reaping.Status) -> str:
    """What a test may have left on machines that are not ours, which nobody takes down: the record goes, and knows."""
    record = found.record
    if record is None or not record.spoilt or record.claim.driver not in EXISTING:
        return ""
    return left_faulty(record.spoilt, ours=False)


def _force(name: str, dry_run: bool) -> int:
    if dry_run:
        entries = found_by_mark(name, cluster_state(name))
        _say(
            "\n  ".join([f"{name}: found by its mark", *(map(describe, reversed(entries)) if entries else ["nothing"])])
        )
        return 0
    aside = reaping.force_down(name, new_run("reap"))
    _say("\n  ".join([f"{name}: taken down, nothing remains", *(f"set aside: {path}" for path in aside)]))
    return 0


def _clean_halves(dry_run: bool) -> None:
    """What a killed run had begun to remove, what is kept of failed bring-ups, and what interrupted builds of images
    and kept machines left.
    """
    from pytest_ai_how.drivers.libvirt import warm
    from pytest_ai_how.image import clean_stale_builds, stale_builds

    failed = reaping.failures()
    if dry_run:
        paths, verb = [*reaping.halves(), *failed, *stale_builds(), *warm.leftovers()], "would be removed"
    else:
        reaping.forget_failures(failed)
        halves = reaping.remove_halves()
        paths, verb = [*halves, *failed, *clean_stale_builds(), *warm.leftovers(remove=True)], "removed"
    for path in paths:
        _say(f"{path}: {verb}")


def cluster_name(cluster: str) -> str:
    """The name that ``--cluster`` means: of a cluster that has a folder, of a shipped configuration, or in a file."""
    is_file = "/" in cluster or cluster.endswith((".yaml", ".yml"))
    if not is_file and (cluster not in config_names() or cluster_state(cluster).exists()):
        return checked_name(cluster)
    return load_config(cluster).name


def new_run(verb: str) -> str:
    """An identifier for a run of the command line."""
    return f"{verb}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
