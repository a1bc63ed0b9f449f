from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.drivers.machines.accounts import add_user, read_accounts
from pytest_ai_how.drivers.machines.identity import make_identity
from pytest_ai_how.drivers.machines.render import Confinement, File, Renderer, environment, own_numbers
from pytest_ai_how.drivers.nspawn.cgroups import Cgroups, Hierarchy

from .sample import LOCAL, config, with_node

V1 = Cgroups(tuple(Hierarchy(Path("/c") / n, frozenset({n}), 1) for n in ("freezer", "cpuset", "memory", "devices")))
V2 = Cgroups((Hierarchy(Path("/c"), frozenset({"cpuset", "cpu", "memory"}), 2),))


def rendered(
    cluster: ClusterConfig, cgroups: Cgroups = V1, numbers: Callable[[NodeConfig], range] = own_numbers
) -> dict[str, dict[str, File]]:
    """The files of each node by path."""
    confinement = Confinement(cgroups.plugin, cgroups.absent())
    renderer = Renderer(cluster, make_identity(node.name for node in cluster.nodes), confinement, numbers=numbers)
    return {node.name: {file.path: file for file in renderer.files(node)} for node in cluster.nodes}


def settings(text: bytes) -> dict[str, str]:
    lines = (line for line in text.decode().splitlines() if "=" in line and not line.startswith(("#", "Node", "Part")))
    return dict(line.split("=", 1) for line in lines)


def test_slurm_conf_is_equal_on_all_nodes_and_names_the_cluster() -> None:
    files = rendered(config())
    texts = {node["/etc/slurm/slurm.conf"].content for node in files.values()}
    assert len(texts) == 1
    found = settings(texts.pop())
    assert found["ClusterName"] == "lab"
    assert found["SlurmctldHost"] == "controller(10.99.0.10)"
    assert found["SelectType"] == "select/cons_tres"
    assert found["SelectTypeParameters"] == "CR_Core_Memory"
    assert found["TaskPlugin"] == "task/cgroup,task/affinity"
    assert found["ProctrackType"] == "proctrack/cgroup"
    assert found["AccountingStorageTRES"] == "gres/gpu"
    assert (found["SrunPortRange"], found["MpiParams"]) == ("12500-12999", "ports=12000-12499")


def test_a_node_that_is_silent_takes_no_other_down() -> None:
    found = settings(rendered(config())["node01"]["/etc/slurm/slurm.conf"].content)
    timeout, message = int(found["SlurmdTimeout"]), int(found["MessageTimeout"])
    assert timeout > message + 1 + timeout / 3, "the pings of the nodes that are well wait for the one that is not"


def test_nodes_and_partitions_are_those_of_the_yaml() -> None:
    text = rendered(config())["node01"]["/etc/slurm/slurm.conf"].content.decode().splitlines()
    assert [line for line in text if line.startswith("NodeName=")] == [
        "NodeName=node01 NodeAddr=10.99.0.11 CPUs=1 RealMemory=972 Gres=gpu:sim:2 State=UNKNOWN",
        "NodeName=node02 NodeAddr=10.99.0.12 CPUs=1 RealMemory=950 State=UNKNOWN",
    ]
    assert [line for line in text if line.startswith("PartitionName=")] == [
        "PartitionName=gpu Nodes=node01 Default=YES MaxTime=01:00:00 State=UP",
        "PartitionName=debug Nodes=node01,node02 Default=NO MaxTime=UNLIMITED State=UP",
    ]


def test_gres_is_on_gpu_nodes_only() -> None:
    files = rendered(config())
    assert files["node01"]["/etc/slurm/gres.conf"].content.decode().endswith("Type=sim File=/dev/fakegpu[0-1]\n")
    assert files["node01"]["/etc/tmpfiles.d/ai-how-gpus.conf"].content.decode().splitlines() == [
        "c /dev/fakegpu0 0666 root root - 240:0",
        "c /dev/fakegpu1 0666 root root - 240:1",
    ]
    for node in ("controller", "node02"):
        assert not {"/etc/slurm/gres.conf", "/etc/tmpfiles.d/ai-how-gpus.conf"} & set(files[node])


def test_one_gpu_is_one_device() -> None:
    files = rendered(with_node(1, gpus={"count": 1, "type": "tiny"}))
    assert "Name=gpu Type=tiny File=/dev/fakegpu0\n" in files["node01"]["/etc/slurm/gres.conf"].content.decode()


def test_accounting_is_on_the_controller_only_and_private() -> None:
    files = rendered(config(user="alice"))
    conf = files["controller"]["/etc/slurm/slurmdbd.conf"]
    assert (conf.mode, conf.owner) == (0o600, "slurm")
    assert b"StoragePass" not in conf.content
    assert files["controller"]["/etc/ai-how/accounts"].content == b"lab default alice\n"
    assert "/etc/slurm/slurmdbd.conf" not in files["node01"]


def test_without_accounting_nothing_of_it_is_there() -> None:
    files = rendered(config(slurm=LOCAL["slurm"] | {"accounting": False}))
    assert "/etc/slurm/slurmdbd.conf" not in files["controller"]
    found = settings(files["controller"]["/etc/slurm/slurm.conf"].content)
    assert found["AccountingStorageType"] == "accounting_storage/none"
    assert "AccountingStorageHost" not in found


@pytest.mark.parametrize(("cgroups", "plugin"), [(V1, "cgroup/v1"), (V2, "cgroup/v2")])
def test_cgroup_conf_fits_the_host(cgroups: Cgroups, plugin: str) -> None:
    found = settings(rendered(config(), cgroups)["node01"]["/etc/slurm/cgroup.conf"].content)
    assert found["CgroupPlugin"] == plugin
    assert [found[f"Constrain{what}"] for what in ("Cores", "RAMSpace", "Devices")] == ["yes", "yes", "yes"]
    assert ("IgnoreSystemd" in found) == (plugin == "cgroup/v2")


def test_what_a_host_cannot_confine_is_not_asked_of_slurm() -> None:
    no_devices = Cgroups(V1.hierarchies[:3])
    found = settings(rendered(config(), no_devices)["node01"]["/etc/slurm/cgroup.conf"].content)
    assert (found["ConstrainRAMSpace"], found["ConstrainDevices"]) == ("yes", "no")
    files = rendered(config(), Cgroups(()))["node01"]
    assert files["/etc/slurm/cgroup.conf"].content == b"CgroupPlugin=disabled\n"
    assert settings(files["/etc/slurm/slurm.conf"].content)["ProctrackType"] == "proctrack/linuxproc"


def test_munge_key_is_one_for_all_and_long_and_private() -> None:
    keys = [files["/etc/munge/munge.key"] for files in rendered(config()).values()]
    assert {(key.mode, key.owner, len(key.content)) for key in keys} == {(0o400, "munge", 1024)}
    assert len({key.content for key in keys}) == 1


def test_each_node_has_a_host_key_of_its_own_that_all_know() -> None:
    files = rendered(config())
    keys = {node: found["/etc/ssh/ssh_host_ed25519_key.pub"].content.decode().strip() for node, found in files.items()}
    assert len(set(keys.values())) == 3
    known = files["node01"]["/etc/ssh/ssh_known_hosts"].content.decode().splitlines()
    assert known == [f"{node},10.99.0.{10 + i} {keys[node]}" for i, node in enumerate(keys)]
    assert files["node01"]["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600


def test_job_user_goes_from_node_to_node_but_root_does_not() -> None:
    files = rendered(config(user="alice"))["node01"]
    assert files["/home/alice/.ssh/id_ed25519"].owner == "alice"
    assert len(files["/home/alice/.ssh/authorized_keys"].content.splitlines()) == 2
    assert len(files["/root/.ssh/authorized_keys"].content.splitlines()) == 1
    assert not [path for path in files if path.startswith("/root/.ssh/id")]


def test_no_rendered_file_holds_an_unfilled_place() -> None:
    for files in rendered(config()).values():
        # munge's key is of random bytes, which may be any
        for file in (one for path, one in files.items() if path != "/etc/munge/munge.key"):
            assert b"{{" not in file.content
            assert b"{%" not in file.content


def test_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'nobody' is undefined"):
        environment().from_string("{{ nobody }}").render()


PASSWD = "root:x:0:0:root:/root:/bin/bash\nslurm:x:64030:64030::/nonexistent:/usr/sbin/nologin\n"


def test_job_user_gets_a_free_number_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[tuple[str, int, int]] = []
    monkeypatch.setattr("os.chown", lambda path, uid, gid: owners.append((Path(path).name, uid, gid)))
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD + "hpc:x:1000:1000::/home/hpc:/bin/bash\n")
    for name in ("group", "shadow"):
        (tmp_path / "etc" / name).write_text("root:*:0:\n")
    accounts = read_accounts(tmp_path, "alice")
    assert accounts.owner("alice") == (1001, 1001)
    add_user(tmp_path, "alice", accounts.owner("alice"))
    assert (tmp_path / "etc/passwd").read_text().splitlines()[
        -1
    ] == "alice:x:1001:1001:Slurm jobs:/home/alice:/bin/bash"
    assert (tmp_path / "etc/shadow").read_text().splitlines()[-1].startswith("alice:*:")
    assert owners == [("alice", 1001, 1001)]


def test_job_user_of_the_image_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.chown", lambda path, uid, gid: None)
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD + "hpc:x:1000:1000::/home/hpc:/bin/bash\n")
    accounts = read_accounts(tmp_path, "hpc")
    add_user(tmp_path, "hpc", accounts.owner("hpc"))
    assert (tmp_path / "etc/passwd").read_text().count("hpc:x:") == 1
    assert accounts.owner("hpc") == (1000, 1000)


MONITORED = {"kind": "prometheus", "retention": "7d", "scrape_interval": "2s"}


def test_prometheus_asks_every_machine_that_runs_and_listens_on_its_own_address_alone() -> None:
    nodes = [dict(node) for node in LOCAL["nodes"]]
    nodes[2]["auto_start"] = False
    files = rendered(config(nodes=nodes, monitoring=MONITORED))
    prometheus = yaml.safe_load(files["controller"]["/etc/prometheus/prometheus.yml"].content)
    assert prometheus["global"] == dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "2s")
    jobs = {job["job_name"]: [one["targets"] for one in job["static_configs"]] for job in prometheus["scrape_configs"]}
    assert jobs["node"] == [["10.99.0.10:9100"], ["10.99.0.11:9100"]]
    arguments = files["controller"]["/etc/default/prometheus"].content.decode()
    assert "--web.listen-address=10.99.0.10:9090 --storage.tsdb.retention.time=7d " in arguments
    alone = files["controller"]["/etc/default/prometheus-alertmanager"].content.decode()
    assert alone.endswith('--web.listen-address=10.99.0.10:9093 --cluster.listen-address="\n')
    assert b"--web.listen-address=10.99.0.11:9100 " in files["node01"]["/etc/default/prometheus-node-exporter"].content


def test_daemons_of_monitoring_are_where_they_belong_and_nowhere_without_it() -> None:
    def defaults(monitoring: dict[str, str]) -> dict[str, set[str]]:
        every = rendered(config(monitoring=monitoring))
        return {
            node: {path.rpartition("/")[2] for path in files if path.startswith("/etc/default/prometheus")}
            for node, files in every.items()
        }

    exporter = {"prometheus-node-exporter"}
    assert defaults(MONITORED) == {
        "controller": exporter | {"prometheus", "prometheus-alertmanager"},
        "node01": exporter,
        "node02": exporter,
    }
    assert not any(defaults({"kind": "none"}).values())


def test_a_scrape_ends_in_ten_seconds_however_seldom_it_is() -> None:
    text = rendered(config(monitoring=MONITORED | {"scrape_interval": "1m"}))["controller"]
    prometheus = yaml.safe_load(text["/etc/prometheus/prometheus.yml"].content)
    assert (prometheus["global"]["scrape_interval"], prometheus["global"]["scrape_timeout"]) == ("1m", "10s")
