"""Options and their other forms, and what is refused before anything is made."""

from __future__ import annotations

import pytest

from tests.unit.plugin.conftest import CONFIG, Site

ONE = """
@pytest.mark.check("SLU-12")
def test_one(cluster, evidence):
    evidence.attach("seen", "1")
"""


def test_environment_before_ini(site: Site) -> None:
    site.test(ONE)
    (site.folder / "other.yaml").write_text(CONFIG.format(name="other"))
    (site.folder / "pytest.ini").write_text("[pytest]\nai_how_cluster = ./plug.yaml\nai_how_reports = ini\n")
    assert "cluster plug," in site.run(cluster="").text
    assert len(list((site.folder / "ini").iterdir())) == 1
    assert "cluster other," in site.run(cluster="", AI_HOW_CLUSTER="other.yaml").text
    assert "cluster plug," in site.run(AI_HOW_CLUSTER="other.yaml").text


@pytest.mark.parametrize(
    ("args", "environ", "message"),
    [
        (["--cluster-keep=sometimes"], {}, "--cluster-keep: 'sometimes'\n  expected: never, failed, always"),
        ([], {"AI_HOW_CLUSTER_KEEP": "no"}, "AI_HOW_CLUSTER_KEEP: 'no'\n  expected: never, failed, always"),
        ([], {"AI_HOW_PLAN": "perhaps"}, "AI_HOW_PLAN: 'perhaps'\n  expected: true or false"),
        (["--scale=huge"], {}, "--scale: 'huge'\n  expected: smoke, full"),
        (["--limits=loca"], {}, "loca"),
        (["--reports="], {}, "--reports: is empty"),
    ],
)
def test_bad_values(site: Site, args: list[str], environ: dict[str, str], message: str) -> None:
    site.test(ONE)
    done = site.run(*args, **environ)
    assert done.status == 4
    assert message in done.errors + done.text
    assert site.left == []


def test_the_scale_is_in_the_header_and_the_fixture(site: Site) -> None:
    site.test(
        """
@pytest.mark.check("SLU-12")
def test_one(scale, evidence):
    evidence.attach("seen", scale.metric("a.b"))
    assert scale.name == "full" and "mnist" in scale
"""
    )
    done = site.run("--scale=full")
    assert done.status == 0, done.text
    assert ", scale full, reports in" in done.text
    assert ", scale full, reports in" in site.run(AI_HOW_SCALE="full").text
    assert ", scale smoke, reports in" in site.run("--plan").text


def test_what_only_the_full_scale_can_answer_is_not_applicable_at_another(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
@pytest.mark.requires("scale.full")
def test_speed(evidence):
    evidence.attach("seen", "1.8")
""")
    small = site.run()
    assert small.verdicts == {"test_speed": "not_applicable"}
    assert small.reason("test_speed") == (
        "not applicable: capability 'scale.full' is absent: --scale is smoke; --scale=full has it"
    )
    assert "ai-how: absent: scale.full: --scale is smoke" in small.text
    full = site.run("--scale=full")
    assert (full.status, "1 passed" in full.text) == (0, True)
    assert "absent: scale.full" not in full.text


def test_bad_ini_value_names_the_file(site: Site) -> None:
    (site.folder / "pytest.ini").write_text("[pytest]\nai_how_cluster_keep = maybe\n")
    done = site.run()
    assert done.status == 4
    assert f"{site.folder / 'pytest.ini'}: ai_how_cluster_keep: 'maybe'" in done.errors + done.text


def test_every_mistake_of_the_configuration(site: Site) -> None:
    site.test(ONE)
    text = CONFIG.format(name="plug").replace("driver: nspawn", "drivr: nspawn").replace("memory: 1024", "memroy: 1", 1)
    (site.folder / "plug.yaml").write_text(text)
    done = site.run()
    assert done.status == 4
    assert "plug.yaml:3: drivr: unknown key" in done.errors
    assert "plug.yaml:6: nodes.0.memroy: unknown key (did you mean 'memory'?)" in done.errors
    assert not site.state.exists()


def test_unknown_cluster(site: Site) -> None:
    done = site.run(cluster="locl")
    assert done.status == 4
    assert "no cluster is named 'locl'" in done.errors


def test_a_host_that_lacks_something(site: Site) -> None:
    site.test(ONE)
    done = site.run(FAKE_CHECK="1")
    assert done.status == 4
    assert "localhost: mmdebstrap is not installed\n  do: apt-get install mmdebstrap" in done.errors + done.text
    assert site.left == []
    assert site.ups == 0


def test_plan_needs_a_cluster(site: Site) -> None:
    done = site.run("--plan", cluster="")
    assert done.status == 4
    assert "--plan: no cluster: give --cluster=NAME" in done.errors


def test_plan(site: Site) -> None:
    site.test(ONE + "\n@pytest.mark.check('STO-01')\ndef test_beegfs(evidence):\n    pass\n")
    done = site.run("--plan", "-n2")
    assert done.status == 0, done.errors
    for words in (
        "node01  10.98.0.11  compute: 2 CPUs, 1024 MiB",
        "image node: to be built",
        "1 tests would run",
        "TASK-042 SLURM integration testing: 1 checks, 1 tests",
        "STO-01: capability 'beegfs' is absent: storage.kind is host-directory",
    ):
        assert words in done.text
    assert not site.state.exists()
    assert not (site.folder / "reports").exists()
    assert site.ups == 0
    site.run()
    assert "last time" in site.run("--plan").text


def test_collect_only_makes_nothing(site: Site) -> None:
    site.test(ONE)
    done = site.run("--collect-only", "-n2")
    assert done.status == 0
    assert "nothing is made or contacted (--collect-only)" in done.text
    assert not site.state.exists()
    assert not (site.folder / "reports").exists()
    assert site.ups == 0


def test_header(site: Site) -> None:
    site.test(ONE)
    done = site.run("-n2")
    assert "ai-how: cluster plug, driver nspawn (as configured; pretended)" in done.text
    assert "ai-how: distribution loadgroup" in done.text
    assert "ai-how: distribution load as given" in site.run("-n2", "--dist=worksteal").text.replace("worksteal", "load")
    assert "distribution" not in site.run().text


def test_hooks_of_other_repositories(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
@pytest.mark.requires("infiniband")
def test_infiniband(evidence):
    pass

@pytest.mark.check("SLU-13")
@pytest.mark.requires("beegfs")
def test_radio(bringup, evidence):
    evidence.attach("nodes", str(bringup.ready("radio").cluster.all.names))
""")
    with (site.folder / "conftest.py").open("a") as conftest:
        conftest.write("""
def pytest_ai_how_capabilities(config, facts):
    return {"infiniband": "no interface ib0 on the host", "beegfs": ""}

def pytest_ai_how_verdict(report):
    print(f"told: {report.run.cluster} is {report.verdict}")

def pytest_ai_how_configure(config):
    if config.name == "forbidden":
        raise pytest.UsageError("forbidden: not on this site")
""")
    done = site.run("-s")
    assert done.verdicts == {"test_infiniband": "not_applicable", "test_radio": "passed"}
    assert done.reason("test_infiniband") == (
        "not applicable: capability 'infiniband' is absent: no interface ib0 on the host"
    )
    assert "told: plug is fit" in done.text
    (site.folder / "plug.yaml").write_text(CONFIG.format(name="forbidden"))
    refused = site.run()
    assert refused.status == 4
    assert "forbidden: not on this site" in refused.errors
