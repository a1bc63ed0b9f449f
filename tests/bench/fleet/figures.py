"""Twenty checks of many machines on one host of few CPUs: by this product, by testinfra, by ReFrame."""

from __future__ import annotations

import os
import subprocess
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.figure import BIN, Figure, environment, run
from tests.bench.fleet.machines import Fleet, fleet
from tests.bench.fleet.twenty import TWENTY

HERE = Path(__file__).parent
MACHINES = 200
#: Machines that the others are measured on. Where it is not all, as that would take many minutes, figures are scaled.
SOME = {"testinfra": MACHINES, "ReFrame": 10}
REFRAME = "reframe-hpc==4.10.4"


def fleet_figures(times: int = 3) -> Iterator[Figure]:
    """Whole processes, from the command to the written report. Every side checks host keys strictly."""
    what = f"{len(TWENTY)} checks of"
    with fleet(MACHINES) as found:
        environ = environment({"HOME": str(found.folder), "XDG_STATE_HOME": str(found.folder / "state")})
        yield Figure(
            f"{what} {MACHINES} machines over ssh", "s", 10, tuple(by_facts(found, environ) for _ in range(times))
        )
        for name, seconds in (("testinfra", by_testinfra(found, environ)), ("ReFrame", by_reframe(found, environ))):
            some = SOME[name]
            if seconds is None:
                print(f"not measured: {what} {MACHINES} machines by {name}: {REFRAME} can't be installed here")
                continue
            scaled = f", measured on {some} machines: {seconds:.1f} s, and scaled" if some < MACHINES else ""
            note = f"for comparison: by {name}{scaled}"
            yield Figure(f"{what} {MACHINES} machines ({note})", "s", None, (seconds * MACHINES / some,))


def by_facts(found: Fleet, environ: Mapping[str, str]) -> float:
    """Seconds that this product takes."""
    seconds, out = run(
        *(*found.enter, str(BIN / "pytest"), str(HERE / "test_facts.py"), "-q", "-p", "no:cacheprovider"),
        *(f"--cluster={found.cluster}", f"--reports={found.folder}/reports"),
        env=environ,
    )
    assert f"{len(TWENTY)} passed" in out, out[-500:]
    return seconds


def by_testinfra(found: Fleet, environ: Mapping[str, str]) -> float:
    """Seconds that testinfra's own ssh backend takes for some machines, on as many workers as there are CPUs, twice."""
    hosts = ",".join(f"ssh://{address}" for address in found.some(SOME["testinfra"]))
    seconds, out = run(
        *(*found.enter, str(BIN / "pytest"), str(HERE / "test_testinfra.py"), "-q", "-p", "no:cacheprovider"),
        *(f"-n{2 * (os.cpu_count() or 1)}", f"--hosts={hosts}", f"--ssh-config={found.ssh_config}", "-p", "no:ai_how"),
        env=environ,
    )
    assert f"{SOME['testinfra'] * len(TWENTY)} passed" in out, out[-500:]
    return seconds


def by_reframe(found: Fleet, environ: Mapping[str, str]) -> float | None:
    """Seconds that ReFrame takes for some machines; None where it can't be installed."""
    with tempfile.TemporaryDirectory(prefix="ai-how-reframe-") as folder:
        venv.create(folder, with_pip=True)
        if subprocess.run([f"{folder}/bin/pip", "install", REFRAME], check=False, capture_output=True).returncode:
            return None
        some = {"FLEET_MACHINES": " ".join(found.some(SOME["ReFrame"])), "FLEET_SSH_CONFIG": str(found.ssh_config)}
        where = ("--prefix", folder, "--report-file", f"{folder}/report.json", "--perflogdir", folder)
        seconds, out = run(
            *(*found.enter, f"{folder}/bin/reframe", "-c", str(HERE / "reframed.py"), "-r", *where),
            env={**environ, **some},
            cwd=Path(folder),
        )
    wanted = SOME["ReFrame"] * len(TWENTY)
    assert f"Ran {wanted}/{wanted} test case(s)" in out, out[-1000:]
    return seconds
