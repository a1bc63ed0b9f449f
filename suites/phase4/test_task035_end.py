"""TASK-035: however a cluster's life is cut short, nothing of it is left, and nothing else is touched."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ..phase6._inventory import difference
from ..phase6._nested import exit_of
from ._facts import differences, duplicates
from ._lives import End, Interrupted, Stop
from ._small import OFF, ON
from .runs.fails_at_node01 import FAILS

pytestmark = [pytest.mark.requires("owned"), pytest.mark.disruptive, pytest.mark.xdist_group("TASK-035")]


@pytest.mark.check("PRV-15")
def test_graceful_stop(stopped: Stop, evidence: Evidence, measure: Measurements) -> None:
    """A machine that is stopped shuts down in order and in time, and starts again with its disk as it was."""
    evidence.attach(
        "seconds, state after the stop, state after the start",
        f"{stopped.seconds:.2f}\n{stopped.state}\n{stopped.began}",
    )
    evidence.attach("what it wrote to its disk while it shut down", stopped.said or "nothing")
    evidence.attach("console", "\n".join(stopped.console.splitlines()[-40:]))
    assert stopped.state == "off", f"{ON}: is {stopped.state} after the stop, expected off"
    assert stopped.said == "stopped in order", (
        f"{ON}: its services were not stopped in order: on its disk is {stopped.said!r}, expected 'stopped in order'; "
        "see its console"
    )
    assert stopped.kept, f"{ON}: a file written before the stop is not there after the start; expected the same disk"
    assert stopped.began == "running", f"{ON}: is {stopped.began} after the start, expected running"
    measure("cluster.stop", stopped.seconds, "s", node=ON)


@pytest.mark.check("PRV-24")
def test_interrupted_runs(killed_whole: Interrupted, killed_half: Interrupted, evidence: Evidence) -> None:
    """The start after a run that was killed uses the cluster that is whole, and makes one anew that is not."""
    for name, seen in (("killed while testing", killed_whole), ("killed while making", killed_half)):
        evidence.attach(f"{name}: left behind", str(seen.before))
        evidence.result(seen.next, f"{name}: the next start")
        evidence.attach(f"{name}: after the next start", str(seen.after))
        assert seen.before.entries, f"localhost: {name}: the journal names nothing; nothing was interrupted"
        assert seen.next.ok, f"localhost: {name}: the next start {exit_of(seen.next)}"
        how = "was up already" if seen is killed_whole else "is up"
        assert f"cluster {seen.name} {how} (" in seen.next.stdout, (
            f"localhost: {name}: the next start does not say that the cluster {how}; see its output"
        )
        assert not (twice := duplicates(seen.after)), f"localhost: {name}: there twice: {twice[0]}; expected each once"
        assert seen.after.machines == {ON: "running", OFF: "off"}, (
            f"localhost: {name}: machines are {dict(seen.after.machines)}, expected {ON} running and {OFF} off"
        )
    changed = differences(killed_whole.before, killed_whole.after)
    assert not changed, f"localhost: a whole cluster was not used as it was: {'; '.join(changed)}"
    left = old_processes(killed_half)
    assert not left, f"localhost: process {left[0]} of the half-made cluster is there beside the new one; expected none"
    kinds = [sorted({kind for kind, _ in seen.after.entries}) for seen in (killed_whole, killed_half)]
    assert kinds[0] == kinds[1], f"localhost: the cluster that was made anew has {kinds[1]}, expected {kinds[0]}"


@pytest.mark.check("PRV-16")
def test_destroy_leaves_nothing(destroyed: End, evidence: Evidence) -> None:
    """Destroying a cluster leaves the host as it was before, and what is not ours as it is."""
    evidence.result(destroyed.result)
    made = difference(destroyed.before, destroyed.during)
    evidence.attach("there while it was up", "\n".join(sorted(destroyed.during - destroyed.before)))
    evidence.attach(
        "not ours, before and after", "\n".join(f"{k}: {a} | {b}" for k, (a, b) in destroyed.witnesses.items())
    )
    assert made, "localhost: the inventory did not change when the cluster came up; nothing would be found"
    assert destroyed.result.ok, f"localhost: `down` {exit_of(destroyed.result)}"
    left = difference(destroyed.before, destroyed.after)
    evidence.attach("left behind or gone", "\n".join(left) or "nothing")
    assert not left, f"localhost: after the cluster was destroyed: {'; '.join(left)}; expected the host as before"
    assert destroyed.witnesses, "localhost: nothing that is not ours was there; nothing was put to the test"
    touched = {name: now for name, (before, now) in destroyed.witnesses.items() if now != before}
    assert not touched, "; ".join(
        f"{name} that is not ours: {now}, expected untouched" for name, now in touched.items()
    )


@pytest.mark.check("PRV-14")
def test_partial_failure_is_rolled_back(failed: End, evidence: Evidence) -> None:
    """A run whose second machine fails says so and leaves nothing of the first."""
    evidence.result(failed.result)
    left = difference(failed.before, failed.after)
    evidence.attach("left behind or gone", "\n".join(left) or "nothing")
    assert not failed.result.ok, "localhost: the run passed although a machine was made to fail; nothing was injected"
    assert f"{FAILS}: step 'machines' failed: made to fail on purpose" in failed.result.stdout, (
        f"localhost: the run does not name {FAILS}, which was made to fail; see its output"
    )
    assert not left, f"localhost: after the failure: {'; '.join(left)}; expected the host as before"


def old_processes(seen: Interrupted) -> list[str]:
    """The processes that the killed run had left and that are still there after the next start."""
    return [f"{pid} ({name})" for pid, _, name in sorted(seen.before.processes & seen.after.processes)]
