"""Plans of hosts that can't make the cluster, of several clusters; runs that need no machine."""

from __future__ import annotations

from tests.unit.plugin.conftest import CONFIG, CONFTEST, Site

NEEDS = """
@pytest.mark.check("SLU-12")
def test_one(cluster, evidence):
    evidence.attach("seen", "1")
"""
NEEDS_NONE = """
@pytest.mark.check("PRV-01")
def test_static(cluster_config, evidence):
    evidence.attach("name", cluster_config.name)
"""
NO_DRIVER = """
def pytest_ai_how_driver(config, progress):
    raise HostError("localhost", "driver libvirt needs the program qemu-img", cure="apt-get install qemu-utils")
"""
SEVERAL = """\
version: 1
clusters:
  one:
    driver: libvirt
    network: {subnet: 10.98.0.0/24, bridge: aihow-none}
    nodes:
      - {name: controller, roles: [controller], address: 10.98.0.10}
      - name: gpu01
        roles: [compute]
        address: 10.98.0.11
        gpus: &card {kind: passthrough, count: 1, devices: [{address: "fffe:01:00.0", vendor: 10de, device: "2805"}]}
  two:
    driver: libvirt
    network: {subnet: 10.99.0.0/24, bridge: aihow-none2}
    nodes:
      - {name: controller, roles: [controller], address: 10.99.0.10}
      - {name: gpu02, roles: [compute], address: 10.99.0.11, gpus: *card, auto_start: false}
"""


def test_a_plan_says_what_is_not_possible_and_is_a_plan(site: Site) -> None:
    site.test(NEEDS)
    done = site.run("--plan", FAKE_CHECK="1")
    assert done.status == 0
    assert "not possible here: localhost: mmdebstrap is not installed\n    do: apt-get install mmdebstrap" in done.text
    assert "1 tests would run" in done.text
    (site.folder / "conftest.py").write_text(CONFTEST + NO_DRIVER)
    done = site.run("--plan")
    assert done.status == 0
    assert "cluster plug, driver nspawn (as configured; it can't make machines here)" in done.text
    assert "not possible here: localhost: driver libvirt needs the program qemu-img\n" in done.text
    assert not site.state.exists()
    assert not (site.folder / "reports").exists()


BUILDS = """

class BuildingDriver(FakeDriver):
    def __init__(self, progress):
        self.progress = progress

    def facts(self):
        self.progress.say("vm image", "reading the package lists")
        return super().facts()


def pytest_ai_how_driver(config, progress):
    return BuildingDriver(progress)
"""
CHOSEN = """
from pytest_ai_how.skin import own


def choose(config, progress, *, builds):
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(f"builds: {builds}\\n")
    return FakeDriver()


own.choose_driver = choose
"""


def test_work_at_the_start_of_a_session_is_heard_of(site: Site) -> None:
    site.test(NEEDS_NONE)
    (site.folder / "conftest.py").write_text(CONFTEST + BUILDS)
    assert "s] vm image: reading the package lists\n" in site.run().errors


def test_only_runs_may_build_for_the_choice_of_a_driver(site: Site) -> None:
    site.test(NEEDS_NONE)
    conftest = CONFTEST.replace("def pytest_ai_how_driver", "def not_a_hook")
    (site.folder / "conftest.py").write_text(conftest + CHOSEN)
    (site.folder / "two.yaml").write_text(SEVERAL)
    log = site.folder / "log"
    log.unlink(missing_ok=True)
    for how, cluster, said in (
        ("--plan", "", "builds: False\n"),
        ("--plan", "two.yaml", "builds: False\n" * 2),
        ("--collect-only", "", ""),
        ("-v", "", "builds: True\n"),
    ):
        done = site.run(how, **({"cluster": cluster} if cluster else {}))
        assert (done.status, log.read_text() if log.exists() else "") == (0, said), done.errors
        log.unlink(missing_ok=True)


def test_a_cluster_that_is_up_is_not_in_its_own_way(site: Site) -> None:
    site.test(NEEDS)
    assert site.run("--cluster-keep=always").status == 0
    done = site.run("--plan", FAKE_CHECK="1")
    assert (done.status, done.text.count("not possible")) == (0, 0)
    assert "\ncluster plug, driver nspawn; kept\n" in done.text


def test_a_plan_where_nobody_can_tell_who_has_a_device(site: Site) -> None:
    site.test(NEEDS_NONE)
    (site.folder / "two.yaml").write_text(SEVERAL)
    other = site.state / "pytest-ai-how" / "other"
    other.mkdir(parents=True)
    (other / "journal.jsonl").write_text("rubbish\n")
    done = site.run("--plan", cluster="two.yaml/one")
    assert done.status == 0
    assert f"not possible here: {other}/journal.jsonl:1: not JSON" in done.text


def test_a_run_that_needs_no_machine_does_without_a_driver(site: Site) -> None:
    """Of a host that can't make the cluster, that which can be told is told."""
    site.test(NEEDS_NONE)
    done = site.run(FAKE_CHECK="1")
    assert (done.status, done.verdicts, site.ups) == (0, {"test_static": "passed"}, 0)
    (site.folder / "conftest.py").write_text(CONFTEST + NO_DRIVER)
    assert site.run("--reports=again").status == 0
    assert site.left == []


def test_a_run_that_needs_machines_is_refused_before_any_report(site: Site) -> None:
    site.test(NEEDS_NONE + NEEDS)
    for conftest, said in ((CONFTEST, "mmdebstrap is not installed"), (CONFTEST + NO_DRIVER, "needs the program")):
        (site.folder / "conftest.py").write_text(conftest)
        done = site.run(FAKE_CHECK="1")
        assert done.status == 4
        assert said in done.errors
        assert (site.left, site.ups) == ([], 0)
        assert not (site.folder / "reports").exists()
    assert site.run("-k", "static", FAKE_CHECK="1").status == 0, "what is selected decides"


def test_workers_are_refused_at_once(site: Site) -> None:
    site.test(NEEDS_NONE)
    done = site.run("-n2", FAKE_CHECK="1")
    assert done.status == 4
    assert "mmdebstrap is not installed" in done.errors
    assert site.left == []


def test_a_cluster_that_is_up_is_not_lost_to_a_driver_that_is_absent(site: Site) -> None:
    site.test(NEEDS)
    assert site.run("--cluster-keep=always").status == 0
    before = site.left
    site.test(NEEDS_NONE)
    (site.folder / "conftest.py").write_text(CONFTEST + NO_DRIVER)
    (site.state / "pytest-ai-how" / "plug" / "journal.jsonl").write_text(
        '{"op": "intend", "id": "1", "step": "machines", "kind": "directory", "data": {"path": "/nowhere"}}\n'
    )
    done = site.run("--reports=again")
    assert done.status == 4
    assert "needs the program qemu-img" in done.errors
    assert set(before) <= set(site.left)


def test_several_clusters_are_planned_and_not_run(site: Site) -> None:
    site.test(NEEDS)
    (site.folder / "two.yaml").write_text(SEVERAL)
    refused = site.run(cluster="two.yaml")
    assert refused.status == 4
    assert "two.yaml holds 2 clusters; say --cluster=two.yaml/one or --cluster=two.yaml/two" in refused.errors
    done = site.run("--plan", cluster="two.yaml")
    assert done.status == 0, done.errors
    assert "ai-how: clusters one, two of two.yaml; a plan only" in done.text
    for line in (
        "cluster one, driver nspawn",
        "  gpu01  10.98.0.11  compute: 2 CPUs, 1024 MiB, 1 passthrough GPUs",
        "    device fffe:01:00.0 10de:2805 gpu, not there",
        "not possible here: gpu01: fffe:01:00.0 is not there, expected a PCI device 10de:2805; "
        "see what there is: pytest-ai-how inventory pci",
        "  gpu02  10.99.0.11  compute: 2 CPUs, 1024 MiB, 1 passthrough GPUs; defined and left off",
        "    device fffe:01:00.0 10de:2805 gpu, not held: auto_start is false",
        "device fffe:01:00.0 is named by 2 machines: held by one/gpu01 from its start; "
        "two/gpu02 can have it after that",
        "1 tests are selected; which of them a cluster runs: --cluster=two.yaml/NAME --plan",
    ):
        assert line in done.text.splitlines()
    assert "not possible here, once it is started: gpu02: fffe:01:00.0 is not there" in done.text
    assert not site.state.exists()
    one = site.run("--plan", cluster="two.yaml/two")
    assert one.status == 0
    assert "cluster two, driver nspawn" in one.text
    assert "cluster one" not in one.text


def test_a_run_of_one_of_several(site: Site) -> None:
    site.test("def test_it(cluster_config, file_clusters):\n    print([one.name for one in file_clusters])\n")
    text = CONFIG.format(name="plug").replace("aihow-none", "aihow-plug").replace("version: 1\n", "")
    inside = "".join(f"    {line}\n" for line in text.splitlines())
    (site.folder / "two.yaml").write_text(
        "version: 1\nclusters:\n  main:\n" + inside + SEVERAL.partition("clusters:\n")[2].replace("10.98.0", "10.97.0")
    )
    done = site.run("-s", cluster="two.yaml/main")
    assert "ai-how: cluster plug, driver nspawn" in done.text
    assert "['plug', 'one', 'two']" in done.text
    (site.folder / "pytest.ini").write_text("[pytest]\nai_how_cluster = ./two.yaml/main\nai_how_reports = ini\n")
    assert "ai-how: cluster plug," in site.run(cluster="").text
