"""TASK-042: what the daemons wrote down while this run used them."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONFIG

from ._journal import LAST, Line, journal, known_harmless, step_log, steps, wrong

pytestmark = pytest.mark.requires("slurm")


@pytest.mark.check("SLU-51")
@pytest.mark.closing
@pytest.mark.reads(CONFIG, LAST)
def test_logs_have_no_errors(
    slurm: Slurm,
    facts: Facts,
    evidence: Evidence,
    run_started: float,
    broken_times: tuple[tuple[float, float, str], ...],
) -> None:
    """Since the run began no daemon wrote of an error, but where something was broken on purpose, or known as harmless.

    The last check of a run, so that it sees all of it; what was there before the run is not looked at.
    """
    controller = slurm.cluster.controller.name
    config = facts(CONFIG, [controller])[controller]
    for node, last in facts(LAST, slurm.cluster.all.names).items():
        assert last, f"{node}: its journal holds no line of a daemon since it booted; nothing can be told of this run"
    written = facts(journal(run_started), slurm.cluster.all.names)
    of_steps: dict[str, tuple[Line, ...]] = {}
    for node in slurm.cluster.on("compute").names:
        of_steps |= facts(steps(step_log(config, node)), [node])
    evidence.attach(
        "broken on purpose", "\n".join(f"{start:.0f} to {end:.0f}: {name}" for start, end, name in broken_times)
    )
    everything = [line for lines in written.values() for line in lines]
    found: list[tuple[str, Line]] = []
    for node, lines in written.items():
        bad = wrong((*lines, *of_steps.get(node, ())), run_started, known_harmless(), everything)
        found += [(node, line) for line in bad if not any(start <= line.time <= end for start, end, _ in broken_times)]
    evidence.attach("errors", "\n".join(f"{node} {line.unit} at {line.time:.3f}: {line.text}" for node, line in found))
    assert not found, (
        f"{found[0][0]}: {found[0][1].unit} wrote {found[0][1].text!r} (and {len(found) - 1} more in the evidence); "
        "expected no error since this run began; do: mend its cause, or add it to suites/phase2/harmless.yaml"
    )
