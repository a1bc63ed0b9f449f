"""``python -m tests.bench [NAME …]``: measure, print a line a figure, write ``reports/bench.json``."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from tests.bench.figure import ROOT, Figure
from tests.bench.figures import ALL, measure


def main(names: list[str]) -> int:
    """Measure what is named (default: everything) and keep what earlier calls measured of the rest."""
    if unknown := set(names) - set(ALL):
        print(f"bench: no figure called {', '.join(sorted(unknown))}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    path = ROOT / "reports" / "bench.json"
    kept = json.loads(path.read_text())["figures"] if path.exists() else {}
    missed = 0
    for figure in measure(names or list(ALL)):
        missed += not figure.reached
        print(line(figure), flush=True)
        kept[figure.name] = asdict(figure) | {"median": figure.median, "load": os.getloadavg()[0]}
        report = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "figures": kept,
        }
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(report, indent=1))
    print(f"written: {path.relative_to(ROOT)}; {missed} above target")
    return 0


def line(figure: Figure) -> str:
    """One figure as a line: median, spread, target, and the machine's load when it was taken."""
    verdict = "-" if figure.target is None else "reached" if figure.reached else "MISSED"
    target = "none" if figure.target is None else f"{figure.target:g}"
    spread = f"{min(figure.values):.2f}-{max(figure.values):.2f}"
    return (
        f"{verdict:7}  {figure.median:8.2f} {figure.unit:2} (target {target}; {spread} in "
        f"{len(figure.values)}; load {os.getloadavg()[0]:.1f})  {figure.name}"
    )


raise SystemExit(main(sys.argv[1:]))
